"""Array backends: the same run in Numba lanes, in NumPy arrays and in torch, with closures, noise, restart."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
import torch

from subgrid.solver.backend import NUMPY, Backend, BackendError, select
from subgrid.solver.backend import arrays as backends
from subgrid.solver.closure import Closure, Coupled, Tendency
from subgrid.solver.equations import Burgers, Equation, Kolmogorov, ShallowWater, VlasovPoisson
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.initial_state import InitialState
from subgrid.solver.equations.shallow_water.initial import RandomSurface
from subgrid.solver.equations.vlasov_poisson.initial import TwoStream
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.random import QWiener
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping.array_code import ArrayStepper
from subgrid.solver.time_stepping.schemes import STEPPERS, compatible_schemes

TORCH = select("torch")
FLOW = Kolmogorov(
    viscosity=1e-2,
    drag=0.1,
    forcing=SineForcing(amplitude=1.0, wavenumber=2),
    noise=QWiener(amplitude=0.1, correlation=0.05, draws=3),
)
CELLS = Burgers(viscosity=0.02, discretisation="finite-volume", reconstruction="weno5")
WAVES = ShallowWater(
    bathymetry={"kind": "bumps", "bumps": [{"height": 0.3, "width": 0.5, "centre": (2.0, 3.0)}]},
    coriolis=0.3,
    manning=0.02,
)
PROBLEMS: dict[str, tuple[Equation, Grid]] = {
    "modes": (FLOW, Grid((24, 16), (6.0, 4.0))),
    "cells": (CELLS, Grid((48,), (6.0,))),
    "water": (WAVES, Grid((12, 16), (4.0, 6.0))),
    "water, weno5": (WAVES.model_copy(update={"reconstruction": "weno5"}), Grid((12, 16), (4.0, 6.0))),
}
STRICT = PROBLEMS | {
    "modes": (FLOW.model_copy(update={"noise": None}), PROBLEMS["modes"][1]),
    "phase space": (VlasovPoisson(), Grid((24, 16), (14.0, 12.0), (-7.0, 0.0))),
}
FIELD = GaussianRandomField(exponent=2.5, tau=3.0)
INITIAL: dict[str, InitialState] = {
    "modes": FIELD,
    "cells": FIELD,
    "water": RandomSurface(depth=1.0, amplitude=0.1, exponent=3.0, tau=3.0),
    "water, weno5": RandomSurface(depth=1.0, amplitude=0.1, exponent=3.0, tau=3.0),
    "phase space": TwoStream(amplitude=0.1, modes=2),
}


class Relaxation(Closure):
    """du/dt += -rate u, answered in torch: what passes by DLPack."""

    rate: float = 0.5

    def start(self, problem):
        assert (problem.backend, problem.device) in (("numpy", "cpu"), ("torch", "cpu"))
        return {"calls": np.zeros(1)}

    def __call__(self, view, memory):
        state = view.torch()
        if isinstance(view.array, np.ndarray):
            assert state.data_ptr() == view.array.ctypes.data  # DLPack: shared, not copied
        else:
            assert state is view.array
            assert view.state.ctypes.data == state.data_ptr()
        return Tendency(-self.rate * state, hold="linear"), {"calls": memory["calls"] + 1}


def simulation(problem: str, stepper: str, backend: Backend, closures: bool = True) -> Simulation:
    equation, grid = PROBLEMS[problem]
    state = INITIAL[problem].state(equation, grid, (0, 1, 2), 0)
    coupled = [Coupled("relaxation", Relaxation(), every=3)] if closures else []
    return Simulation(equation, grid, stepper, 0.01, state, seed=3, closures=coupled, backend=backend)


KINDS = [("modes", n) for n in compatible_schemes("semi-linear", ())] + [
    ("cells", n) for n in compatible_schemes("balance-law", ())
]
KINDS += [("water", "ssp-rk2"), ("water", "dimension-split"), ("water, weno5", "ssp-rk3")]


@pytest.mark.parametrize(("problem", "stepper"), KINDS)
def test_a_torch_run_is_the_numpy_run_to_round_off(problem, stepper):
    """Noise included: it comes from the same streams."""
    runs = [simulation(problem, stepper, backend) for backend in (NUMPY, TORCH)]
    for run in runs:
        run.run(20)
    scale = np.abs(runs[0].state).max()
    assert np.abs(runs[0].state - runs[1].state).max() < 1e-12 * scale
    assert isinstance(runs[1].internal, torch.Tensor)


@pytest.mark.parametrize(("problem", "stepper"), [("modes", "etdrk4"), ("modes", "sbdf2"), ("cells", "ssp-rk3")])
def test_a_torch_run_continued_is_the_run_uninterrupted(problem, stepper):
    whole, first, second = (simulation(problem, stepper, TORCH) for _ in range(3))
    whole.run(20)
    first.run(11)
    second.restore({k: np.copy(v) for k, v in first.checkpoint().items()})
    second.run(20)
    assert torch.equal(whole.internal, second.internal)


def test_steps_by_cfl_agree_between_backends_and_take_what_they_need():
    """One member: its steps are its own in lanes and in arrays alike."""
    equation, grid = PROBLEMS["cells"]
    state = 3 * FIELD.state(equation, grid, (0,), 0)
    runs = [
        Simulation(equation, grid, "ssp-rk3", 0.5, state, cfl=cfl, backend=backend)
        for backend, cfl in ((NUMPY, 0.4), (TORCH, 0.4), (NUMPY, 0.04))
    ]
    for run in runs:
        run.run(2)
    adaptive, arrays, fine = (run.state for run in runs)
    assert np.abs(adaptive - arrays).max() < 1e-12
    assert 1e-12 < np.abs(adaptive - fine).max() < 0.02 * np.abs(state).max()


def test_a_backend_that_is_not_there_is_refused_with_a_remedy(monkeypatch):
    with pytest.raises(BackendError, match="'jax' is not known; expected one of: numpy, cupy, torch"):
        select("jax")
    with pytest.raises(BackendError, match="numpy:0"):
        select("numpy:0")
    with pytest.raises(BackendError, match=r"'torch:nowhere' is not available here.*Remedy: --backend torch:cpu"):
        select("torch:nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="not available here"):
            select("torch:cuda")

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(backends.importlib, "import_module", absent)
    with pytest.raises(BackendError, match=r"needs CuPy. Remedy: pip install 'subgrid\[cuda\]'"):
        select("cupy")


@pytest.mark.parametrize(("problem", "stepper"), [*KINDS, ("phase space", "rk4"), ("phase space", "forest-ruth")])
def test_the_array_code_keeps_to_the_standard(problem, stepper):
    """Ten steps in array-api-strict, which has nothing but the Python array API, are those of the kernels."""
    equation, grid = STRICT[problem]
    state = INITIAL[problem].state(equation, grid, (0, 1), 0)
    run = Simulation(equation, grid, stepper, 0.01, state)
    run.run(10)
    operators = Operators(grid, array_api_strict)
    carried = ArrayStepper(STEPPERS[stepper], equation, operators, 0.01)
    u, memory = array_api_strict.asarray(state), {}
    u = operators.forward(u) if equation.spectral else u
    for n in range(10):
        u, memory = carried.advance(u, 0.01 * n, None, memory)
    found = np.asarray(operators.inverse(u) if equation.spectral else u)
    assert np.abs(found - run.state).max() < 1e-12 * np.abs(run.state).max()


def test_arrays_are_taken_over_without_copies():
    values = np.arange(6.0)
    assert TORCH.asarray(values).data_ptr() == values.ctypes.data
    tensor = torch.arange(6.0, dtype=torch.float64)
    assert NUMPY.asarray(tensor).ctypes.data == tensor.data_ptr()
    assert TORCH.to_numpy(tensor).ctypes.data == tensor.data_ptr()
    assert NUMPY.asarray(torch.arange(3)).dtype == np.int64
    assert NUMPY.asarray(torch.arange(3, dtype=torch.float32)).dtype == np.float64
