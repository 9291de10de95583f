"""A run that is killed at any instant, as often as one likes, ends with the bytes of a run that was left alone.

Every stepper and every kind of closure is killed by SIGKILL at 20 random instants. All simulations run in forked
children of one warm process that never runs a thread of its own, so that twenty kills take a few seconds.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
import xarray  # noqa: F401
import xarray as xr
import zarr  # noqa: F401

from subgrid.closures.latent_diffusion.model import GenerativeTerm
from subgrid.closures.learning import weights_file
from subgrid.closures.regression import closure as regression
from subgrid.commands import cli
from subgrid.commands import run as verbs
from subgrid.ingest.requests import describe_initial
from subgrid.solver.backend.files import read_arrays
from subgrid.solver.case import reading as cases
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.schemes import compatible_schemes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

KILLS = 20
RESIDUAL = 10.0 ** (-2.0 * np.arange(10))[None]
AT_ONCE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
STEPS = 48  # outputs every 6 steps, checkpoints every 4: both fall between and onto calls of the closures

PLUGINS = '''
"""Closures that need all of the contract: random numbers, memory, noise, corrections and leaps."""

import numpy as np

from subgrid.solver.closure import Closure, Correction, Leap, Tendency
from subgrid.solver.random import SpectralNoise


class Stochastic(Closure):
    """A tendency that remembers its last draws, with noise of a law that changes from call to call."""

    def start(self, problem):
        self._grid = problem.grid
        shape = (len(problem.members), 1, *problem.grid.shape)
        return {"draw": np.zeros(shape), "count": np.array(0)}

    def __call__(self, view, memory):
        draw = 0.9 * memory["draw"] + view.random.normal(view.state.shape[1:])
        count = memory["count"] + 1
        k2 = sum(k**2 for k in self._grid.wavenumbers())
        law = SpectralNoise(self._grid, 0.01 * (1 + int(count) % 3) * np.exp(-0.1 * k2), negligible=1e-4)
        return Tendency(0.1 * draw - 0.1 * view.state, noise=law), {"draw": draw, "count": count}


class Nudge(Closure):
    """A correction with a random part."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Correction(0.98 * view.state + 0.01 * view.random.normal(view.state.shape[1:])), memory


class Jump(Closure):
    """A leap over five steps, by a random walk."""

    def start(self, problem):
        self._problem = problem
        return {"leaps": np.array(0)}

    def __call__(self, view, memory):
        walk = 0.01 * view.random.normal((5, *view.state.shape[1:]))
        states = view.state + np.moveaxis(walk, 1, 0).cumsum(0)
        times = self._problem.start + self._problem.step * (view.step + np.arange(1, 6))
        return Leap(states, times), {"leaps": memory["leaps"] + 1}
'''

FLOW: dict[str, Any] = {
    "title": "Kolmogorov flow with noise",
    "equation": {
        "name": "kolmogorov",
        "viscosity": 0.02,
        "drag": 0.1,
        "forcing": {"kind": "sine", "amplitude": 1.0, "wavenumber": 2},
        "noise": {"amplitude": 0.1, "correlation": 0.1},
    },
    "grid": {"shape": [24, 24], "length": [6.25, 6.25]},
    "time": {"start": 1.0, "end": 1.0 + 0.01 * STEPS, "step": 0.01, "stepper": "etdrk4"},
    "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
    "ensemble": {"members": 3, "seed": 5},
    "output": {"every": 0.06, "checkpoint_every": 0.04, "frames_per_chunk": 4},
}
SHOCK: dict[str, Any] = FLOW | {
    "title": "Burgers' equation on finite volumes with noise",
    "equation": {
        "name": "burgers",
        "viscosity": 0.02,
        "discretisation": "finite-volume",
        "reconstruction": "weno5",
        "noise": {"amplitude": 0.1, "correlation": 0.1},
    },
    "grid": {"shape": [48], "length": [6.25]},
}
WAVE: dict[str, Any] = FLOW | {
    "title": "a wave that a reduced-order model carries on",
    "equation": {"name": "advection", "speed": 1.5},
    "grid": {"shape": [24], "length": [6.283185307179586]},
    "initial": {"kind": "sine"},
}
OMITTED_TERMS: dict[str, Any] = FLOW | {
    "title": "Kolmogorov flow without its advection and its noise",
    "equation": FLOW["equation"] | {"omit": ["advection", "noise"]},
    "initial": {"kind": "reference"},
    "ensemble": {"members": 4, "seed": 5},
    "reference": {
        "shape": [48, 48],
        "start": 0.9,
        "initial": FLOW["initial"],
        "trajectories": 2,
        "seed": 9,
        "restrict": "subsample",
    },
}
PLASMA: dict[str, Any] = FLOW | {
    "title": "Vlasov-Poisson, its distribution lost through the ends in velocity",
    "equation": {"name": "vlasov-poisson", "interpolation": 5, "ends": "open"},
    "grid": {"shape": [24, 16], "length": [6.0, 12.5], "origin": [-3.0, 0.0]},
    "initial": {"kind": "landau", "amplitude": 0.5, "modes": 2},
}
POSITIVE: dict[str, Any] = PLASMA | {"equation": PLASMA["equation"] | {"positivity": True}}
WATER: dict[str, Any] = FLOW | {
    "title": "Shallow water around an island, with friction",
    "equation": {
        "name": "shallow-water",
        "bathymetry": {"kind": "file", "path": "bottom.npz"},
        "manning": 0.05,
        "coriolis": 0.5,
    },
    "grid": {"shape": [12, 16], "length": [3.0, 4.0]},
    "time": FLOW["time"] | {"cfl": 0.1},
    "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 3.0},
}
BASIN: dict[str, Any] = FLOW | {
    "title": "Shallow water between walls",
    "equation": {
        "name": "shallow-water",
        "reconstruction": "weno5",
        "boundary": {"left": "wall", "right": "open", "bottom": "periodic", "top": "periodic"},
    },
    "grid": WATER["grid"],
    "initial": {"kind": "file", "path": "water.npz"},
}
CHARGES: dict[str, Any] = FLOW | {
    "title": "Charged particles",
    "equation": {"name": "charged-particles", "force_limit": 100.0},
    "grid": {"entities": 5},
    "initial": {"kind": "charged-particles"},
}
STOCHASTIC = {"path": "plugins.py:Stochastic", "every": 5, "hold": "linear"}
GENERATIVE = {"name": "latent-diffusion", "weights": "generative.safetensors", "every": 5}


def configured(base: dict[str, Any], stepper: str, *closures: dict[str, Any]) -> dict[str, Any]:
    return base | {"time": base["time"] | {"stepper": stepper}, "closure": list(closures)}


CASES: dict[str, dict[str, Any]] = {
    **{f"stepper {name}": configured(FLOW, name, STOCHASTIC) for name in compatible_schemes("semi-linear", ())},
    **{f"finite volumes {name}": configured(SHOCK, name, STOCHASTIC) for name in compatible_schemes("balance-law", ())},
    "phase space rk4": configured(PLASMA, "rk4", STOCHASTIC),
    "phase space strang": configured(POSITIVE, "strang", {"name": "hyperdiffusion", "every": 3}),
    "phase space forest-ruth": configured(PLASMA, "forest-ruth", {"path": "plugins.py:Nudge", "every": 7}),
    "shallow water adaptive": configured(WATER, "ssp-rk2"),
    "shallow water smagorinsky": configured(
        BASIN,
        "ssp-rk3",
        {"name": "smagorinsky", "every": 3, "hold": "linear"},
        {"path": "plugins.py:Nudge", "every": 7},
    ),
    "particles velocity-verlet": configured(CHARGES, "velocity-verlet", {"path": "plugins.py:Nudge", "every": 7}),
    "particles forest-ruth": configured(CHARGES, "forest-ruth"),
    "no closure": configured(FLOW, "etdrk2"),
    "outputs that do not divide the span": configured(
        FLOW | {"output": {"every": 0.07, "checkpoint_every": 0.05}}, "sbdf2", STOCHASTIC
    ),
    "torch": configured(FLOW, "sbdf2", STOCHASTIC, {"name": "smagorinsky", "every": 3}) | {"backend": "torch"},
    "adaptive": configured(SHOCK, "ssp-rk3", STOCHASTIC)
    | {"time": SHOCK["time"] | {"stepper": "ssp-rk3", "cfl": 0.05}},
    "smagorinsky": configured(FLOW, "etdrk4", {"name": "smagorinsky", "every": 3}),
    "smagorinsky held linear": configured(FLOW, "etdrk4", {"name": "smagorinsky", "every": 5, "hold": "linear"}),
    "leith": configured(FLOW, "cnab2", {"name": "leith"}),
    "hyperviscosity": configured(FLOW, "sbdf2", {"name": "hyperviscosity", "every": 4}),
    "sum": configured(
        FLOW,
        "etdrk4",
        {"name": "smagorinsky", "every": 5, "hold": "linear", "weight": 0.5},
        STOCHASTIC,
        {"name": "hyperviscosity", "every": 3},
    ),
    "correction": configured(FLOW, "sbdf2", {"path": "plugins.py:Nudge", "every": 7}),
    "leap": configured(FLOW, "cnab2", {"path": "plugins.py:Jump", "every": 9}, {"name": "smagorinsky", "every": 9}),
    "leap after a tendency": configured(
        FLOW, "etdrk2", {"name": "smagorinsky", "every": 9, "hold": "linear"}, {"path": "plugins.py:Jump", "every": 9}
    ),
    "oracle": configured(OMITTED_TERMS, "cn-euler", {"name": "oracle", "every": 5, "hold": "linear"}),
    "lasdi by turns": configured(
        WAVE,
        "rk4",
        {"name": "lasdi", "weights": "wave.safetensors", "every": 3, "mode": "alternating", "leap": 12, "solve": 9},
    ),
    "lasdi with a check": configured(
        WAVE,
        "rk4",
        {
            "name": "lasdi",
            "weights": "wave.safetensors",
            "every": 3,
            "trust": "spread",
            "tolerance": 0.001,
            "mode": "alternating",
            "leap": 18,
            "solve": 3,
        },
    ),
    "mi2a by turns": configured(
        WAVE,
        "rk4",
        {"name": "mi2a", "weights": "turning.safetensors", "every": 3, "mode": "alternating", "leap": 12, "solve": 9},
    ),
    "regression": configured(
        FLOW, "etdrk4", {"name": "regression", "weights": "small.safetensors", "noise": "residual", "every": 5}
    ),
    "latent diffusion": configured(FLOW, "etdrk4", GENERATIVE | {"coupling": "sample", "correlation_time": 0.1}),
    "latent diffusion split": configured(FLOW, "etdrk2", GENERATIVE | {"coupling": "split", "hold": "linear"}),
    "latent diffusion by many draws": configured(
        FLOW, "sbdf2", GENERATIVE | {"coupling": "sample", "sampler": "euler-maruyama", "evaluations": 3}
    ),
}


def child(action: Callable[[], Any], errors: Path) -> int:
    """Fork a process that carries out `action` and exits with the code it returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ["SUBGRID_THREADS"] = "2"
        code = action() or 0
    except BaseException:
        errors.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def finished(pid: int) -> int:
    """Exit code of a child, waited for."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def carry_on(case: Path, out: Path) -> None:
    """Begin the run, or resume it once it has begun."""
    if (out / "case.toml").exists():
        verbs.resume(out, progress=False)
    else:
        verbs.run(cases.read(case), out=out, progress=False)


def outcome(out: Path) -> dict[str, Any]:
    """Every file of fields.zarr by its name, and every array of the last checkpoint, as bytes."""
    fields = out / "fields.zarr"
    files = {str(f.relative_to(fields)): f.read_bytes() for f in fields.rglob("*") if f.is_file()}
    arrays = read_arrays(out / "checkpoint" / "state.npz")
    return files | {f"checkpoint {k}": (v.dtype.str, v.shape, v.tobytes()) for k, v in arrays.items()}


def differences(out: Path, expected: dict[str, Any]) -> list[str]:
    found = outcome(out)
    return sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))


@dataclass
class Chain:
    """A case that is run again and again, and killed at random instants, until KILLS of them have hit."""

    name: str
    case: Path
    folder: Path
    kills: int = 0
    compared: int = 0
    faults: list[str] = field(default_factory=list)

    def play(self) -> Iterator[tuple[int, float]]:
        """Yield each child with the seconds after which it is to be killed; is sent its exit code."""
        chance = random.Random(self.name)
        whole, out, errors = self.folder / "whole", self.folder / "killed", self.folder / "errors"
        self.folder.mkdir()
        began = time.monotonic()
        if (yield child(lambda: carry_on(self.case, whole), errors), float("inf")):
            self.faults.append(errors.read_text())
            return
        length, expected = time.monotonic() - began, outcome(whole)
        while self.kills < KILLS or out.exists():
            delay = chance.uniform(0, length) if self.kills < KILLS else float("inf")
            code = yield child(lambda: carry_on(self.case, out), errors), delay
            if code == -signal.SIGKILL:
                self.kills += 1
                continue
            self.compared += 1
            if code:
                self.faults.append(f"exit {code}: {errors.read_text() if errors.exists() else ''}")
            elif wrong := differences(out, expected):
                self.faults.append(f"differs in {wrong}")
            shutil.rmtree(out)


def play(chains: list[Chain]) -> None:
    """Play all chains, a few at once."""
    gc.collect()
    gc.freeze()  # else a collection in a child copies all of this process
    waiting = [(chain, chain.play()) for chain in chains]
    running: dict[int, tuple[Chain, Iterator, float]] = {}

    def go_on(chain: Chain, game: Any, code: int | None) -> None:
        try:
            pid, delay = game.send(code)
        except StopIteration:
            return
        running[pid] = (chain, game, time.monotonic() + delay)

    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            go_on(*waiting.pop(0), None)
        time.sleep(2e-4)
        for pid, (chain, game, deadline) in list(running.items()):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                go_on(chain, game, os.waitstatus_to_exitcode(status))
    gc.unfreeze()


def small_weights(path: Path) -> None:
    """Weights of an untrained network for FLOW, with a residual spectrum over twenty decades."""
    torch.manual_seed(0)
    network = {"kind": "cnn", "options": {"width": 4, "layers": 2}, "features": "state"}
    normalisation = {"state": [1.0], "term": [1.0]}
    term = regression_term(network, normalisation)
    tensors = {name: value.numpy() for name, value in term.state_dict().items()}
    own = {"closure": "regression", "normalisation": normalisation, "network": network}
    weights_file.save(path, {**tensors, regression.SPECTRUM: RESIDUAL}, header_for_flow(path.parent) | own)


def generative_weights(path: Path) -> None:
    """Weights of an untrained generative term for FLOW, all numbers at random so that its network is not zero."""
    structure = {
        "latent": {"kind": "fourier", "points": 12},
        "score": {"network": "cnn", "width": 4, "layers": 1},
        "parametrisation": "data",
        "features": "state",
        "mean": None,
        "distilled": False,
    }
    normalisation = {"state": [1.0], "term": [0.1], "given": [1.0]}
    length = tuple(FLOW["grid"]["length"])
    model = GenerativeTerm(structure, normalisation, 2, length, (0.0, 0.0))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    model.save(path, header_for_flow(path.parent) | {"correlation_time": 0.1}, RESIDUAL)


def header_for_flow(folder: Path) -> dict[str, Any]:
    """What weights say of the case that they are for: FLOW."""
    equation = cases.check(FLOW, "flow", folder).build_equation()
    return {
        "version": "0",
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": ["vorticity"],
        "shape": FLOW["grid"]["shape"],
        "length": FLOW["grid"]["length"],
        "origin": [0.0, 0.0],
        "step": 0.01,
        "training_case": "none",
        "training_command": "none",
        "seeds": {},
        "scores": {},
    }


def bottoms_and_water(folder: Path) -> None:
    """A bottom with an island, on a grid twice as fine as WATER's; and the state that BASIN starts from."""
    y, x = np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 32), indexing="ij")
    np.savez(folder / "bottom.npz", bathymetry=1.4 * np.exp(-20 * ((y - 0.5) ** 2 + (x - 0.4) ** 2)))
    water = 0.1 * np.random.default_rng(0).normal(size=(3, 3, 12, 16))
    water[:, 0] += 2
    np.savez(folder / "water.npz", state=water)


def regression_term(network: dict[str, Any], normalisation: dict[str, Any]) -> torch.nn.Module:
    from subgrid.closures.learning.learned_term import LearnedTerm

    return LearnedTerm(
        network["kind"], network["options"], network["features"], 2, tuple(FLOW["grid"]["length"]), normalisation
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, carried_wave, turning_wave) -> Iterator[Path]:
    """Cases, plug-ins and weights, the cache beside them; this process compiled and bound to one thread."""
    folder = tmp_path_factory.mktemp("resume")
    patch = pytest.MonkeyPatch()
    patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
    patch.setenv("SUBGRID_THREADS", "1")
    patch.setattr(os, "fsync", lambda file: None)  # which the end of a process does not need, and half of the time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (folder / "plugins.py").write_text(textwrap.dedent(PLUGINS))
    small_weights(folder / "small.safetensors")
    generative_weights(folder / "generative.safetensors")
    carried_wave(folder / "wave.safetensors", noise=0.01)
    turning_wave(folder / "turning.safetensors", step=0.01)
    bottoms_and_water(folder)
    for i, data in enumerate(CASES.values()):
        (folder / f"{i}.toml").write_text(tomli_w.dumps(data))
    for i in range(len(CASES)):
        case = cases.read(folder / f"{i}.toml")
        if case.initial.kind != "reference":
            state = case.initial.state(case.build_equation(), case.grid.grid(), (0, 1, 2), 0)
            coupled = [table.couple(folder) for table in case.closure]
            warm = Simulation(case.build_equation(), case.grid.grid(), case.time.stepper, 0.01, state, start=1.0,
                              closures=coupled, folder=folder, cfl=case.time.cfl,
                              initial=describe_initial(case.initial))  # fmt: skip
            warm.run(12)
    yield folder
    torch.set_num_threads(threads)
    patch.undo()


@pytest.fixture(scope="module")
def chains(folder, request) -> dict[str, Chain]:
    """The chains of the chosen tests, played together."""
    chosen = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    made = {
        name: Chain(name, folder / f"{i}.toml", folder / f"chain-{i}") for i, name in enumerate(CASES) if name in chosen
    }
    play(list(made.values()))
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_run_killed_at_20_random_instants_ends_with_the_same_bytes(name, chains):
    chain = chains[name]
    assert not chain.faults
    assert chain.kills == KILLS
    assert chain.compared >= 1


def test_an_interrupted_run_leaves_a_checkpoint_and_resumes(folder):
    """SIGINT: exit 130 after a checkpoint; `subgrid resume` then ends with the bytes of a run left alone."""
    case, out, whole = folder / "interrupted.toml", folder / "interrupted", folder / "left-alone"
    data = configured(FLOW, "cnab2", STOCHASTIC)
    data["time"] = data["time"] | {"end": 1.0 + 0.01 * 1200}
    output = {"every": 0.3, "checkpoint_every": "3600 s", "frames_per_chunk": 1}
    case.write_text(tomli_w.dumps(data | {"output": output}))
    errors = folder / "errors"
    pid = child(lambda: cli.execute(["run", str(case), "--out", str(out), "--json"]), errors)
    while not any((out / "fields.zarr" / "vorticity" / "c").glob("[1-9]*")):
        time.sleep(1e-3)
    os.kill(pid, signal.SIGINT)
    assert finished(pid) == cli.INTERRUPTED
    summary = json.loads((out / "summary.json").read_text())
    checkpoint = read_arrays(out / "checkpoint" / "state.npz")
    assert summary["status"] == "interrupted"
    assert 0 < summary["steps"] == int(checkpoint["step"]) < 1200
    assert finished(child(lambda: cli.execute(["resume", str(out), "--json"]), errors)) == cli.DONE
    assert finished(child(lambda: cli.execute(["run", str(case), "--out", str(whole), "--json"]), errors)) == cli.DONE
    assert differences(out, outcome(whole)) == []
    assert json.loads((out / "summary.json").read_text())["status"] == "done"


def test_a_folder_belongs_to_one_run(folder, capfd):
    """A second run into it is refused with exit 2 and changes nothing, and so is a resume while a run is at it."""
    case, out, errors = folder / "0.toml", folder / "taken", folder / "errors"
    assert finished(child(lambda: carry_on(case, out), errors)) == 0
    before = {f: f.read_bytes() for f in out.rglob("*") if f.is_file()}
    command = ["run", str(case), "--out", str(out)]
    capfd.readouterr()
    assert finished(child(lambda: cli.execute(command), errors)) == cli.MISTAKE
    assert "is not empty" in capfd.readouterr().err
    assert {f: f.read_bytes() for f in out.rglob("*") if f.is_file()} == before
    from subgrid.solver.simulation.record import Record

    held = Record.open(out)
    assert finished(child(lambda: cli.execute(["resume", str(out)]), errors)) == cli.MISTAKE
    assert "in use by another process" in capfd.readouterr().err
    held.close()
    assert finished(child(lambda: cli.execute(["resume", str(out), "--json"]), errors)) == cli.DONE


UNSTABLE = {
    "vorticity": (
        FLOW
        | {
            "grid": {"shape": [24, 24], "length": [0.5, 0.5]},  # h nu k^2 = 4.5 at the corner: rk4 grows
            "time": FLOW["time"] | {"stepper": "rk4", "end": 21.0},
        },
        "not finite",
        "Remedy: a smaller time.step\n",
    ),
    "depth": (
        WATER
        | {  # a Courant number of 1.8, where at most half of one keeps the depth positive
            "grid": {"shape": [12, 16], "length": [0.45, 0.6]},
            "time": FLOW["time"] | {"stepper": "ssp-rk2"},
        },
        "out of its bounds",
        "Remedy: a smaller time.step, or time.cfl beside it\n",
    ),
}


@pytest.mark.parametrize("field", UNSTABLE)
def test_a_run_that_blows_up_keeps_everything_up_to_the_failure(field, folder, capfd):
    """Exit 3; frames, checkpoint, log and summary of the healthy part stay, and the message names step and remedy."""
    data, fault, remedy = UNSTABLE[field]
    case, out, errors = folder / f"unstable-{field}.toml", folder / f"unstable-{field}", folder / "errors"
    case.write_text(tomli_w.dumps(data))
    assert finished(child(lambda: cli.execute(["run", str(case), "--out", str(out)]), errors)) == cli.FAILED
    message = capfd.readouterr().err
    assert f"{fault} at step" in message and remedy in message and "Traceback" not in message
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "failed" and fault in summary["error"]
    failed_at = summary["steps"]
    saved = read_arrays(out / "checkpoint" / "state.npz")
    assert failed_at - 4 <= int(saved["step"]) < failed_at
    assert np.isfinite(saved["state"]).all()
    written = np.isfinite(xr.open_zarr(out / "fields.zarr")[field]).all(["member", "y", "x"])
    assert written.sum() == (failed_at - 1) // 6 + 1 and written[: int(written.sum())].all()


BROKEN = """
import numpy as np
from subgrid.solver.closure import Closure, Tendency

class Broken(Closure):
    wrong: float = np.nan

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(np.full_like(view.state, self.wrong if view.step % 20 == 10 else 0.0)), memory
"""


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("answer", ["not finite", "a negative depth"])
def test_the_guard_stops_with_a_dump_or_skips_and_counts(answer, policy, folder, capfd):
    (folder / "broken.py").write_text(BROKEN)
    name = f"{policy} {answer}"
    case, out, errors = folder / f"{name}.toml", folder / name, folder / "errors"
    broken: dict[str, Any] = {"path": "broken.py:Broken", "every": 5}
    if answer == "not finite":
        data, fault, shape = configured(FLOW, "etdrk4", broken), "not finite", (3, 1, 24, 24)
    else:
        data, fault = configured(BASIN, "ssp-rk3", broken | {"wrong": -50.0}), "where shallow-water does not hold"
        shape = (3, 3, 12, 16)
    data |= {"guard": {"policy": policy}}
    case.write_text(tomli_w.dumps(data))
    code = finished(child(lambda: cli.execute(["run", str(case), "--out", str(out), "--json"]), errors))
    summary = json.loads((out / "summary.json").read_text())
    if policy == "skip":
        assert code == cli.DONE
        assert summary["closures"][0] | {"seconds": 0} == {
            "name": "Broken", "every": 5, "calls": 10, "skips": 2, "declined": 0, "seconds": 0
        }  # fmt: skip
        return
    message = capfd.readouterr().err
    assert code == cli.FAILED
    assert "'Broken' at step 10" in message and fault in message and str(out / "guard.npz") in message
    dump = read_arrays(out / "guard.npz")
    assert int(dump["step"]) == 10 and dump["state"].shape == shape and np.isfinite(dump["state"]).all()
    assert summary["status"] == "failed"
