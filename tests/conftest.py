"""What tests of several packages share.

`make test` runs one process of pytest for each core, and each keeps to its core: threads of several processes on the
same cores would wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import numpy as np
import pytest

POINTS = 24
LONGEST = ("test_cases.py", "test_docs.py", "test_killed.py", "test_kills.py")  # files that start first
WAVE: dict[str, Any] = {
    "title": "a wave that is carried along",
    "equation": {"name": "advection", "speed": 1.5},
    "grid": {"shape": [POINTS], "length": [2 * np.pi]},
    "time": {"end": 4.8, "step": 0.1, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "output": {"every": 0.6},
}

OMITTED_TERMS: dict[str, Any] = {
    "title": "flow without its advection and its noise",
    "equation": {
        "name": "kolmogorov",
        "viscosity": 0.02,
        "noise": {"amplitude": 0.005, "correlation": 0.1},
        "omit": ["advection", "noise"],
    },
    "grid": {"shape": [16, 16], "length": [6.25, 6.25]},
    "time": {"end": 0.4, "step": 0.01, "stepper": "cn-euler"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.1},
    "reference": {
        "shape": [16, 16],
        "initial": {"kind": "gaussian-random-field", "exponent": 4.0, "tau": 1.5},
        "restrict": "subsample",
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def short_turns() -> Iterator[None]:
    """Costs are measured in turns of a fifth of the time: tests need their order of magnitude."""
    from subgrid.commands.comparison import cost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "TURN_SECONDS", cost.TURN_SECONDS / 5)
        yield


@pytest.fixture(scope="session")
def lame_flow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Any, Any]]:
    """(case, pairs) of so many trajectories, the last four for validation, of a small flow that lacks two terms."""

    def make(trajectories: int) -> tuple[Any, Any]:
        from subgrid.ingest.training_set import dataset
        from subgrid.solver.case.reading import check

        folder = tmp_path_factory.mktemp("lame-flow")
        table = {"trajectories": trajectories, "validation": 4, "start": 0.0, "end": 0.4, "every": 0.1, "seed": 2}
        case = check(OMITTED_TERMS | {"training": table}, "tiny.toml", folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
            return case, dataset(case, lambda done, total, what: None)

    return make


@pytest.fixture(scope="session")
def carried_wave() -> Callable[..., dict[str, Any]]:
    """Writes weights of `lasdi`, set down and not trained, for the case that it returns: a wave under linear advection.

    u = z_1 cos x + z_2 sin x on [0, 2 pi), dz/dt = c' (-z_2, z_1) for a speed c in [1, 2], where
    c' = c + wrong (p^2 - 1), p = 2 c - 3: exact at the ends of the box, and everywhere if wrong is 0. noise: standard
    deviation of the coefficients, which makes the spread.
    """

    def write(path: Path, wrong: float = 0.0, noise: float = 1e-9) -> dict[str, Any]:
        import torch

        from subgrid.closures.lasdi.dynamics import Spread
        from subgrid.closures.lasdi.model import LatentModel
        from subgrid.closures.lasdi.options import TrainingOptions
        from subgrid.closures.learning.basis import Basis
        from subgrid.closures.learning.perceptrons import Perceptron
        from subgrid.ingest.sweep import request
        from subgrid.solver.case.reading import check

        x = torch.arange(POINTS, dtype=torch.float64) * (2 * np.pi / POINTS)
        size = (POINTS / 2) ** 0.5
        basis = Basis(torch.zeros(POINTS), (torch.stack([x.cos(), x.sin()], 1) / size).float(), size)
        networks = [Perceptron((2, 2), 1.0), Perceptron((2, 2), 1.0)]
        for network in networks:
            network.linear[0].weight.data = torch.eye(2)
        turn = torch.tensor([[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
        one = torch.ones(2, dtype=torch.float64)
        kernel = torch.full((6, 3), -80.0, dtype=torch.float64)
        kernel[:, 1] = 2 * np.log(noise)
        about = request(check(WAVE, "wave.toml", Path()))
        about["equation"] = {k: v for k, v in about["equation"].items() if k != "speed"}
        about |= {"version": "0", "fields": ["u"], "shape": [POINTS], "length": WAVE["grid"]["length"], "span": 4.8}
        about["interval"] = WAVE["output"]["every"]
        about |= {"parameters": [["equation.speed", [1.0, 2.0]]], "seeds": {}, "scores": {}}
        about |= {"training_case": "none", "training_command": "none"}
        options = TrainingOptions(modes=2, latent=2, widths=(), degree=2, stages=1)
        about["options"] = options.model_dump(mode="json", exclude={"threads"})
        xi = torch.stack([(1.5 - wrong) * turn, 0.5 * turn, wrong * turn])
        spread = Spread(torch.tensor([[-1.0], [1.0]]).double(), torch.zeros(2, 6).double(), kernel)
        LatentModel(basis, *networks, [], xi, -one, one, 0 * one, one, spread, about).save(path)
        return WAVE

    return write


@pytest.fixture(scope="session")
def turning_wave() -> Callable[..., dict[str, Any]]:
    """Writes weights of `mi2a`, set down and not trained, for the case that it returns: a wave under linear advection.

    u = a (z_1 cos x + z_2 sin x) at speed 1.5, amplitude a in [0.5, 2]; z(n+1) = z(n) + R [z(n) - z(n-1)], R the
    rotation of `every` steps, times `growth`: exact, from windows of `window` states.
    """

    def write(path: Path, every: int = 3, window: int = 4, growth: float = 1.0, step: float = 0.1) -> dict[str, Any]:
        import torch

        from subgrid.closures.learning.basis import Basis
        from subgrid.closures.mi2a.compression import untrained
        from subgrid.closures.mi2a.model import WaveModel
        from subgrid.closures.mi2a.multistep import Multistep
        from subgrid.closures.mi2a.options import TrainingOptions
        from subgrid.ingest.sweep import request
        from subgrid.solver.case.reading import check

        x = torch.arange(POINTS, dtype=torch.float64) * (2 * np.pi / POINTS)
        size = (POINTS / 2) ** 0.5
        basis = Basis(torch.zeros(POINTS), (torch.stack([x.cos(), x.sin()], 1) / size).float(), size)
        options = TrainingOptions(latent=2, widths=(), frequencies=1, window=window, features=0, random_features=0)
        about = request(check(WAVE, "wave.toml", Path()))
        about["initial"] = {k: v for k, v in about["initial"].items() if k != "amplitude"}
        about |= {"version": "0", "fields": ["u"], "shape": [POINTS], "length": WAVE["grid"]["length"], "span": 4.8}
        about |= {"interval": step * every, "parameters": [["initial.amplitude", [0.5, 2.0]]], "periodic": [True]}
        about |= {"seeds": {}, "scores": {}, "points": [[0.5], [2.0]], "training_case": "", "training_command": ""}
        about["options"] = options.model_dump(mode="json", exclude={"threads"})
        compression = untrained(about["options"], basis, about, 0)
        compression.encoder.linear[0].weight.data = torch.eye(2)
        compression.decoder.network.linear[0].weight.data = torch.eye(2, 4)
        angle = 1.5 * step * every
        rotation = growth * torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = torch.zeros((2 * (window - 1) + 1, 2), dtype=torch.float64)
        matrix[2 * (window - 2) : 2 * (window - 1)] = rotation.T
        none = torch.zeros((4, 0), dtype=torch.float64)
        one = torch.ones(2, dtype=torch.float64)
        evolution = Multistep(matrix, none, none[0], one, window, 0)
        WaveModel(compression, evolution, -2 * one.float(), 2 * one.float(), about).save(path)
        return WAVE

    return write


@pytest.fixture
def plugin_case() -> Callable[..., Path]:
    """Writes a case whose plug-ins are in one file beside it, and returns its path.

    (folder, code, kind="Name"): the code is appended to the file. Without a kind, the class `Faulty` in it is the
    closure of the case; else it is the class of this kind: equation, initial, forcing; "file.py:NAME" for a stepper.
    """

    def write(folder: Path, code: str, **names: str) -> Path:
        source = Path(__file__).parent / "plugin_case"
        (folder / "wave.py").write_text((source / "wave.py.txt").read_text(encoding="utf-8") + "\n\n" + code)
        text = (source / ("forced.toml" if "forcing" in names else "case.toml")).read_text(encoding="utf-8")
        usual = {"equation": "wave.py:Wave", "initial": "wave.py:Sine", "forcing": "wave.py:Still", "stepper": "etdrk4"}
        for kind, name in names.items():
            text = text.replace(f'"{usual[kind]}"', f'"{name}"' if kind == "stepper" else f'"wave.py:{name}"')
        (folder / "case.toml").write_text(text if names else text + '\n[[closure]]\npath = "wave.py:Faulty"\n')
        return folder / "case.toml"

    return write


@pytest.fixture
def one_message(capsys) -> Callable[[], str]:
    """What a command printed on standard error, which must be one message and no traceback."""

    def read() -> str:
        error = capsys.readouterr().err
        assert error.startswith("subgrid: ") and "Traceback" not in error
        return error

    return read
