"""Every equation, stepper and closure on stand-ins for devices.

The fake CuPy refuses to convert an array to NumPy's and counts transfers. Tensors on torch's "meta" device have a
shape, a type and a device, and no values: a step on it neither mixes devices nor reads a value.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_cupy
import numpy as np
import problems
import pytest
import torch

from subgrid.closures.learning.replay import Replayed
from subgrid.solver.backend import NUMPY, Backend, BackendError, launching
from subgrid.solver.closure import Coupled
from subgrid.solver.closure.discovery import find
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.device_terms import DeviceTerms
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise, keys
from subgrid.solver.simulation.noise_array_code import NoiseDraws
from subgrid.solver.simulation.schedule import Schedule, stops
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping import cuda_graph

TORCH = Backend("torch", "cpu")
META = Backend("torch", "meta")


def test_the_fake_cupy_refuses_implicit_conversion(cupy):
    array = cupy.asarray(np.ones((2, 3)))
    other, xp = np.ones(3), cupy.xp
    refused = (
        lambda: np.asarray(array),
        lambda: np.sin(array),
        lambda: np.sum(array),
        lambda: np.where(array > 0, array, 0),
        lambda: np.concatenate([array, array]),
        lambda: other * array,
        lambda: array + other,
        lambda: xp.sum(other),
        lambda: float(xp.sum(array)),
        lambda: other[xp.sum(array)],
    )
    for use in refused:
        with pytest.raises((TypeError, IndexError)):
            use()
    assert fake_cupy.counts == {"to_host": 0, "to_device": 1}
    assert xp.__name__ == "array_api_compat.cupy"


@pytest.mark.parametrize(("name", "stepper"), list(problems.runs()))
def test_every_stepper_of_every_equation_on_a_fake_device(cupy, name, stepper):
    """The runs of NumPy's kernels and of array code agree, and no step transfers anything."""
    here, there = (problems.problem(name).simulation(stepper, backend) for backend in (NUMPY, cupy))
    here.run(4)
    there.run(2)
    fake_cupy.counts.update(to_host=0, to_device=0)
    there.advance(2)
    assert fake_cupy.counts == {"to_host": 0, "to_device": 0}
    assert problems.difference(here, there) < 1e-12
    assert isinstance(there.internal, fake_cupy.ndarray)


@pytest.mark.parametrize(("name", "stepper"), list(problems.adaptive_runs()))
def test_steps_by_courant_number_on_a_fake_device(cupy, name, stepper):
    """As many as in NumPy, and the host waits once for an interval, whatever the number of steps in it."""
    here, there = (problems.problem(name, 1).simulation(stepper, backend, cfl=0.02) for backend in (NUMPY, cupy))
    here.run(4)
    there.run(2)
    fake_cupy.counts.update(to_host=0, to_device=0)
    there.advance(2)
    if there.equation.autonomous:
        assert fake_cupy.counts == {"to_host": 2, "to_device": 0}
    assert problems.difference(here, there) < 1e-12


@pytest.mark.parametrize("backend", ["cupy", "torch"])
@pytest.mark.parametrize("name", list(problems.CLOSURES))
def test_every_closure_on_a_fake_device(cupy, name, backend):
    """The state stays on the device: a call and its steps read two truth values, and send nothing."""
    chosen = cupy if backend == "cupy" else TORCH
    here, there = (problems.closure_run(name, b) for b in (NUMPY, chosen))
    last = problems.steps(name)
    here.run(last)
    leaps = problems.CLOSURES[name][1] in problems.LEAPS
    there.run(0 if leaps else last // 2)
    fake_cupy.counts.update(to_host=0, to_device=0)
    there.run(last)
    compiled = problems.CLOSURES[name][1] == "regression"  # in NumPy, with sums in another order than torch's
    assert problems.difference(here, there) < (1e-6 if compiled else 1e-12)
    if backend == "cupy" and not leaps and name not in problems.ON_HOST:
        calls = 1 + 10 // problems.CLOSURES[name][3]
        assert fake_cupy.counts["to_host"] <= 2 * calls and fake_cupy.counts["to_device"] == 0


@pytest.mark.parametrize("name", [n for n, (_, closure, _, _) in problems.CLOSURES.items() if closure != "none"])
def test_the_closures_of_the_stand_ins_do_something(name):
    """Else the two tests above would compare runs without closures."""
    run, free = problems.closure_run(name, NUMPY), problems.closure_run(name, NUMPY, closed=False)
    for each in (run, free):
        each.run(problems.steps(name))
    assert problems.difference(run, free) > 1e-9


@pytest.mark.parametrize("name", list(problems.TABLES))
def test_steps_neither_mix_devices_nor_read_values(name):
    """One stepper of each kind: they share their code."""
    made = problems.problem(name)
    for stepper in {"rk4", "sbdf2", "strang", "dimension-split"} & set(made.steppers()):
        run = made.simulation(stepper, META)
        run.advance(2 if stepper == "sbdf2" else 1)
    assert run.internal.device.type == "meta"


@pytest.mark.parametrize("stepper", ["ssp-rk2", "dimension-split"])
def test_outputs_alone_copy_the_state_to_the_host(cupy, stepper):
    """A whole run with outputs every 5 of 20 steps: five copies, and two truth values at each stop."""
    run = problems.problem("shallow water").simulation(stepper, cupy)
    kept = []
    fake_cupy.counts.update(to_host=0, to_device=0)
    run.run(20, stops(Schedule(0, 20, 5)), lambda n: kept.append(run.state))
    assert len(kept) == 5 and fake_cupy.counts["to_host"] == 5 + 4


@pytest.mark.parametrize("shape", [(16,), (15,), (12, 16), (9, 8), (8, 9)])
def test_noise_on_the_device_is_that_of_the_host(cupy, shape):
    """For many seeds, steps and members, one or several fields, and amplitudes with zeros."""
    rng, grid = np.random.default_rng(0), Grid(shape, (6.0,) * len(shape))
    holes = rng.random((2, *grid.spectral_shape)) * (rng.random((2, *grid.spectral_shape)) > 0.3)
    worst = 0.0
    for amplitude in (rng.random(grid.spectral_shape), holes, np.zeros(grid.spectral_shape)):
        law = SpectralNoise(grid, amplitude)
        for seed in range(8):
            keyed = keys(seed, f"purpose {seed}", (0, 5, 7 + seed))
            draws = [NoiseDraws(law, keyed, 2, backend) for backend in (cupy, TORCH)]
            for step in (0, 1, 31, 32, 33, 2**31 + 5, 2**32 - 1, 2**32, 2**40 + 17, -3):
                host = np.zeros((3, 2, *grid.spectral_shape), dtype=np.complex128)
                law.add_to(host, keyed, step, 1.3)
                for draw, backend in zip(draws, (cupy, TORCH), strict=True):
                    found = backend.to_numpy(draw.at(step, 1.3))
                    worst = max(worst, np.abs(found - host).max())
    assert worst < 1e-14


def test_noise_in_single_precision_is_the_rounded_noise():
    grid = Grid((12, 16), (6.0, 6.0))
    law, keyed = SpectralNoise(grid, np.ones(grid.spectral_shape)), keys(1, "x", (0, 1))
    single, double = (
        NoiseDraws(law, keyed, 1, Backend("torch", precision=p)).at(5, 1.0) for p in ("float32", "float64")
    )
    assert single.dtype == torch.complex64
    assert torch.equal(single, double.to(torch.complex64))


def test_noise_for_another_number_of_fields_is_refused():
    grid = Grid((8,), (1.0,))
    with pytest.raises(ValueError, match="noise for 2 fields cannot be added to 3 fields"):
        NoiseDraws(SpectralNoise(grid, np.ones((2, 5))), keys(0, "x", (0,)), 3, TORCH)


def test_cuda_kernels_in_the_simulator_of_a_device():
    """In a process of its own, because Numba simulates a device for the whole process."""
    script, environment = Path(__file__).with_name("simulated.py"), os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    errors = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()}
    assert len(errors) == 59
    for name, error in errors.items():
        assert error < (1e-6 if "float32" in name else 2e-13), name


GRAPHED = [(n, s) for n, s in problems.runs() if n in ("kolmogorov", "burgers, weno5", "shallow water", "gravity")]


@pytest.mark.parametrize(("name", "stepper"), [*GRAPHED, ("oscillator", "rk4")])
def test_steps_of_a_graph_are_the_steps(monkeypatch, name, stepper):
    """A stand-in for a CUDA graph, which runs the recorded work when it is replayed: bit for bit, with closures, with
    noise, and after the state was replaced. Without it the run is slower and nothing else."""
    made, closures = problems.problem(name), []
    if name == "kolmogorov":
        closures = [Coupled("smagorinsky", find("smagorinsky")(), every=3)]
    plain = made.simulation(stepper, TORCH, tuple(closures))
    recorded = []

    def record(work):
        recorded.append(work)
        return work

    monkeypatch.setattr(cuda_graph, "recorder", lambda backend: record)
    graph = made.simulation(stepper, TORCH, tuple(closures))
    for run in (plain, graph):
        run.run(7)
        run.replace(run.state)
        run.run(14)
    assert torch.equal(plain.internal, graph.internal)
    assert bool(recorded) == made.equation.autonomous


@pytest.mark.parametrize("name", ["regression", "latent-diffusion, split", "latent-diffusion"])
def test_calls_of_networks_in_a_graph_are_the_calls(monkeypatch, name):
    """Networks that draw no noise are recorded at the second call with a shape; members come in parts of two shapes."""
    plain, recorded = problems.closure_run(name, TORCH, members=3), []

    def record(work):
        recorded.append(work)
        return work

    monkeypatch.setattr(cuda_graph, "recorder", lambda backend: record)
    graph = problems.closure_run(name, TORCH, members=3)
    for run in (plain, graph):
        run.closures[0].closure.batch = 2
        run.run(4 * problems.steps(name))
    assert torch.equal(plain.internal, graph.internal)
    network = [work for work in recorded if "replay" in work.__module__]
    assert len(network) == (0 if name == "latent-diffusion" else 2)


def test_an_answer_of_a_graph_outlives_the_next_call(monkeypatch):
    """A graph writes to the same memory again."""
    monkeypatch.setattr(cuda_graph, "recorder", lambda backend: lambda work: work)
    memory = torch.zeros(3)
    replayed = Replayed(lambda given: torch.add(given, 1.0, out=memory), "cpu")
    answers = [replayed(torch.full((3,), float(n))) for n in range(4)]
    assert [a.tolist() for a in answers[1:]] == [[n + 1.0] * 3 for n in (1, 2, 3)]


def test_graphs_are_for_cuda_devices_alone(monkeypatch):
    monkeypatch.delenv("SUBGRID_CUDA_GRAPHS", raising=False)
    assert cuda_graph.recorder(TORCH) is None and cuda_graph.recorder(Backend("cupy", "cuda")) is None
    assert cuda_graph.recorder(Backend("torch", "cuda:0")) is not None
    monkeypatch.setenv("SUBGRID_CUDA_GRAPHS", "0")
    assert cuda_graph.recorder(Backend("torch", "cuda:0")) is None


@pytest.mark.parametrize("name", ["kolmogorov", "burgers, weno5", "shallow water"])
def test_a_run_on_a_fake_device_that_is_continued_is_the_run(cupy, name):
    stepper = "sbdf2" if name == "kolmogorov" else "ssp-rk3"
    whole, first, second = (problems.problem(name).simulation(stepper, cupy) for _ in range(3))
    whole.run(45)
    first.run(21)
    second.restore({k: np.copy(v) for k, v in first.checkpoint().items()})
    second.run(45)
    assert whole.state.tobytes() == second.state.tobytes()


def test_kernels_are_launched_where_numba_finds_the_device(monkeypatch, caplog):
    from numba import cuda

    launching._say.cache_clear()

    torch_device, cupy_device = Backend("torch", "cuda:0"), Backend("cupy", "cuda")
    monkeypatch.delenv("SUBGRID_CUDA_KERNELS", raising=False)
    assert launching.launcher(torch_device) is None and launching.launcher(TORCH) is None  # there is no device here
    assert launching.launcher(torch_device) is None
    (said,) = (r.getMessage() for r in caplog.records if "array code" in r.getMessage())
    assert "it finds no device. Remedy: numba-cuda" in said
    monkeypatch.setenv("SUBGRID_CUDA_KERNELS", "1")
    with pytest.raises(BackendError, match="Numba's CUDA target: it finds no device"):
        launching.launcher(torch_device)
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    assert launching.launcher(torch_device) is not None and launching.launcher(cupy_device) is not None
    monkeypatch.delenv("SUBGRID_CUDA_KERNELS")
    assert launching.launcher(torch_device) is not None and launching.launcher(cupy_device) is None
    monkeypatch.setenv("SUBGRID_CUDA_KERNELS", "0")
    assert launching.launcher(torch_device) is None


def test_a_number_is_sent_to_the_device_once():
    known: dict = {}
    first = launching.device_number(0.25, TORCH, known)
    assert first.dtype == torch.float64 and first.tolist() == [0.25]
    assert launching.device_number(0.25, TORCH, known) is first
    for n in range(1000):  # steps by Courant number that the host chooses
        assert launching.device_number(1.0 + n, TORCH, known).tolist() == [1.0 + n]
    assert len(known) == launching.NUMBERS and launching.device_number(0.25, TORCH, known) is first
    step = torch.tensor(0.5, dtype=torch.float32)
    assert launching.device_number(step, TORCH, known).tolist() == [0.5] and 0.5 not in known


def test_an_equation_with_its_own_rate_keeps_it():
    """Kernels of the parent do not know it."""

    class Slower(ShallowWater):
        def nonlinear(self, operators, u, t):
            return 0.5 * super().nonlinear(operators, u, t)

    made = problems.problem("shallow water")
    operators = Operators(made.grid, backend=TORCH)
    launch = SimpleNamespace(double=TORCH)
    assert ShallowWater().launched(operators, launch).rate is not None
    assert Slower().launched(operators, launch) == DeviceTerms()
