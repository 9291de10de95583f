"""Runs in single precision: types, errors against double precision, restarts, and the types inside the kernels.

SHOW=1 prints the errors that docs/conventions.md states: SHOW=1 python -m pytest -s FILE -k follows
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from subgrid.solver.backend import Backend, real_type, select
from subgrid.solver.closure import Closure, ClosureError, Tendency
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.vlasov_poisson import shift_kernels as kernels
from subgrid.solver.grid import Grid
from subgrid.solver.initial.registry import INITIAL_STATES
from subgrid.solver.random import QWiener
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping.schemes import compatible_schemes

TURN = 2 * np.pi
PLANE, LINE, BASIN = Grid((16, 16), (TURN, TURN)), Grid((32,), (1.0,)), Grid((12, 20), (2.0, 3.0))
NOISE = QWiener(amplitude=0.05, correlation=0.1)
SINE, DAM = {"kind": "sine"}, {"kind": "radial-dam-break", "centre": (1.0, 1.5)}
BUMP = {"kind": "bumps", "bumps": [{"height": 0.8, "centre": (1.0, 1.5), "width": 0.3}]}
LAKE = {"kind": "gaussian-hump", "level": 0.5, "drops": [{"centre": (0.3, 0.4), "width": 0.2, "amplitude": 0.2}]}


def equation(name: str, **options):
    return EQUATIONS.find(name)(**options)


PROBLEMS = {
    "kolmogorov": (
        equation("kolmogorov", viscosity=1e-3, drag=0.1, forcing=SineForcing(amplitude=1.0, wavenumber=2), noise=NOISE),
        PLANE,
        {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 5.0},
        5e-3,
    ),
    "burgers": (equation("burgers", viscosity=0.01, noise=NOISE), LINE, SINE, 2e-3),
    "burgers, muscl": (equation("burgers", viscosity=1e-3, discretisation="finite-volume"), LINE, SINE, 4e-3),
    "burgers, weno5": (
        equation("burgers", viscosity=1e-3, discretisation="finite-volume", reconstruction="weno5", noise=NOISE),
        LINE,
        SINE,
        4e-3,
    ),
    "burgers-2d": (
        equation("burgers-2d", viscosity=1e-3),
        Grid((12, 12), (6.0, 6.0), (-3.0, -3.0)),
        {"kind": "gaussian-velocity"},
        1e-2,
    ),
    "advection": (equation("advection", speed=1.0), LINE, {"kind": "gaussian", "width": 0.1, "centre": 0.5}, 5e-3),
    "oscillator": (equation("oscillator"), Grid((32,), (6.0,), (-3.0,)), {"kind": "oscillator"}, 1e-2),
    "shallow-water": (equation("shallow-water", gravity=1.0, boundary="wall", coriolis=0.3), BASIN, DAM, 1e-2),
    "shallow-water, weno5": (
        equation("shallow-water", gravity=1.0, boundary="wall", reconstruction="weno5"),
        BASIN,
        DAM,
        1e-2,
    ),
    "shallow-water, shore": (
        equation("shallow-water", gravity=1.0, boundary="open", manning=0.03, bathymetry=BUMP),
        BASIN,
        LAKE,
        1e-2,
    ),
    "vlasov-poisson": (
        equation("vlasov-poisson", interpolation=5),
        Grid((16, 24), (12.0, 4 * np.pi), (-6.0, 0.0)),
        {"kind": "landau"},
        2e-2,
    ),
    "charged-particles": (
        equation("charged-particles", softening=0.1),
        Grid((5,), (5.0,)),
        {"kind": "charged-particles"},
        1e-3,
    ),
}
STEPPED = [
    (problem, stepper)
    for problem, (model, *_) in PROBLEMS.items()
    for stepper in compatible_schemes(model.kind, model.split)
    if stepper != "dimension-split" or getattr(model, "reconstruction", "muscl") == "muscl"
]
STEPS = 40
LARGEST_ERROR = 2e-5  # after STEPS steps, of the largest value: see docs/conventions.md


def simulation(problem: str, stepper: str, precision: str = "float32", backend: str = "numpy", **options) -> Simulation:
    model, grid, initial, step = PROBLEMS[problem]
    table = {k: v for k, v in initial.items() if k != "kind"}
    state = INITIAL_STATES.find(initial["kind"])(**table).state(model, grid, (0, 1), 3)
    chosen = select(backend, precision)  # type: ignore[arg-type]
    return Simulation(model, grid, stepper, step, state, seed=3, backend=chosen, **options)


@pytest.mark.parametrize(("problem", "stepper"), STEPPED)
def test_a_run_in_single_precision_follows_the_one_in_double(problem, stepper):
    single, double = simulation(problem, stepper), simulation(problem, stepper, "float64")
    single.run(STEPS)
    double.run(STEPS)
    assert single.state.dtype == np.float32 and double.state.dtype == np.float64
    assert single.time == double.time and all(v.dtype == np.float64 for v in single.invariants().values())
    error = np.abs(single.state - double.state).max() / np.abs(double.state).max()
    if os.environ.get("SHOW"):
        print(f"{problem:24}{stepper:20}{error:.1e}")
    assert 1e-9 < error < LARGEST_ERROR


@pytest.mark.parametrize(("problem", "stepper"), STEPPED)
def test_a_restarted_run_has_the_bytes_of_the_uninterrupted_one(problem, stepper):
    whole, first, second = (simulation(problem, stepper, threads=n) for n in (1, 2, 1))
    whole.run(24)
    first.run(11)
    arrays = {k: v.copy() for k, v in first.checkpoint().items()}
    assert {real_type(v.dtype) for k, v in arrays.items() if v.dtype.kind in "fc"} == {"float32"}
    second.restore(arrays)
    second.run(24)
    assert second.state.tobytes() == whole.state.tobytes()


@pytest.mark.parametrize(("problem", "stepper"), [p for p in STEPPED if p[1] in ("rk4", "sbdf2", "strang", "etdrk4")])
def test_torch_follows_the_compiled_code(problem, stepper):
    compiled, arrays = simulation(problem, stepper), simulation(problem, stepper, backend="torch")
    compiled.run(5)
    arrays.run(5)
    assert arrays.state.dtype == np.float32 and real_type(arrays.internal.dtype) == "float32"
    np.testing.assert_allclose(arrays.state, compiled.state, rtol=0, atol=5e-6 * np.abs(compiled.state).max())


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_array_code_computes_in_single_precision(problem, backend):
    """Before any rounding of answers, which array code of plug-ins may need."""
    model, grid, *_ = PROBLEMS[problem]
    run = simulation(problem, compatible_schemes(model.kind, model.split)[0], backend=backend)
    operators = Operators(grid, backend=run.backend)
    u = run.backend.copy(run.internal)
    answers = [model.nonlinear(operators, u, 0.1), model.relax(operators, u, 0.01)]
    if getattr(model, "reconstruction", "muscl") == "muscl":
        answers += [model.flow(part, operators, u, 0.01) for part in model.split]
    assert {real_type(answer.dtype) for answer in answers} == {"float32"}


def _call_kernels_that_kernels_call():
    """They are compiled by themselves only where Python calls them."""
    n, taps, width, single = 16, kernels.TAPS, kernels.BLOCK, np.float32
    u, whole, coefficients = np.zeros((1, n, n), single), np.zeros(n, np.int64), np.zeros((taps, n), single)
    kernels.taps(np.zeros(n, single), np.zeros((taps, taps + 1), single), coefficients, 0, n)
    kernels.drift(u, whole, coefficients, True, np.zeros(n + taps, single), np.zeros(n + 1, single), 0, n)
    block, moved = np.zeros((n + 2 * taps, width), single), np.zeros((n + taps + 1, width), single)
    kernels.kick(u[0], whole, coefficients, True, True, block, moved, np.zeros(width, single), 0, n)


def test_kernels_compute_in_single_precision():
    """No variable of a kernel of float32 arrays has the type float64, but arguments before they are rounded."""
    from numba.core import types
    from numba.core.dispatcher import Dispatcher

    for problem, stepper in STEPPED:
        simulation(problem, stepper).advance(1)
    adaptive = simulation("shallow-water, shore", "ssp-rk2", cfl=0.3)
    adaptive.advance(1)
    _call_kernels_that_kernels_call()
    wide = {"sum_over_v", "add_modes"}  # in double precision on purpose
    wide |= {"drift_by", "kick_by"}  # distances too
    unseen = {"_distances", "stage", "prepare"}  # of these, if a process compiles them
    unseen |= {"fill", "correct"}  # the cells of a side, whose number is small
    modules = [m for name, m in sys.modules.items() if name.startswith("subgrid.solver")]
    found_kernels = {id(k): k for module in modules for k in vars(module).values() if isinstance(k, Dispatcher)}
    seen, count = set(), 0
    for kernel in found_kernels.values():
        for signature, compiled in kernel.overloads.items():
            if not any(a.dtype in (types.float32, types.complex64) for a in signature if isinstance(a, types.Array)):
                continue
            seen.add(kernel.__name__)
            count += 1
            lines = str(compiled.type_annotation).splitlines()
            found = [x for x in lines if "float64" in x or "complex128" in x]
            found = [x for x in found if "$given" not in x]
            assert kernel.__name__ in wide | unseen or not found, (kernel.__name__, found[:3])
    assert {"combine", "combine_stages", "velocity", "curl", "balance", "along_x", "rates", "kick", "taps"} <= seen
    assert wide <= seen and count > 35


def test_rounded_coefficients_do_not_add_up():
    """A decay over 20000 steps of 1 - 2e-5: exp(z) rounded to single precision alone would be wrong by 6e-4."""
    model, grid = equation("kolmogorov", viscosity=0.02, omit=("advection",)), Grid((8, 8), (TURN, TURN))
    initial = INITIAL_STATES.find("taylor-green")()
    state = initial.state(model, grid, (0,), 0)
    for stepper in ("etdrk2", "cn-euler", "cnab2"):
        run = Simulation(model, grid, stepper, 5e-4, state, backend=Backend(precision="float32"))
        run.run(20000)
        exact = initial.exact(model, grid, 10.0, (0,), 0)
        assert np.abs(run.state - exact).max() < 1e-4 * np.abs(exact).max(), stepper


def test_water_is_conserved_over_many_stages():
    """SSP-RK3 has the weights 1/3 and 2/3, whose rounded sum is not 1."""
    run = simulation("shallow-water", "ssp-rk3")
    before = run.invariants()["mass"]
    run.run(3000)
    assert np.abs(run.invariants()["mass"] / before - 1).max() < 3e-6


class Wide(Closure):
    """A tendency in double precision; what the view holds is kept."""

    factor: float = -0.5
    seen: list = []  # noqa: RUF012

    def start(self, problem):
        assert problem.precision == "float32"
        return {}

    def __call__(self, view, memory):
        self.seen.append(view.state.dtype)
        return Tendency(self.factor * view.state.astype(np.float64)), memory


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_closures_see_single_precision_and_may_answer_in_double(backend):
    closure = Wide()
    run = simulation("burgers, muscl", "ssp-rk2", backend=backend, closures=[closure])
    run.run(3)
    assert closure.seen == [np.float32] * 3 and run.state.dtype == np.float32
    with pytest.raises(ClosureError, match="not finite"):
        simulation("burgers, muscl", "ssp-rk2", backend=backend, closures=[Wide(factor=1e300)]).run(1)


def test_an_equation_may_answer_in_double_precision():
    """Array code of a plug-in that does not keep the type of u."""

    class Careless(EQUATIONS.find("advection")):  # type: ignore[misc]
        def compiled(self, grid, members, dtype="float64"):
            return None

        def nonlinear(self, operators, u, t):
            return np.float64(1.0) * super().nonlinear(operators, u, t)

    state = np.sin(TURN * LINE.coordinates(centres=True)[0])[None, None]
    for backend in ("numpy",):
        model = Careless(speed=1.0, discretisation="finite-volume")
        run = Simulation(model, LINE, "rk4", 5e-3, state, backend=select(backend, "float32"))
        run.run(3)
        assert run.state.dtype == np.float32


def test_a_compiled_version_in_double_precision_alone_is_refused():
    class Old(EQUATIONS.find("advection")):  # type: ignore[misc]
        def compiled(self, grid, members):
            return None

    state = np.zeros((1, 1, *LINE.shape))
    with pytest.raises(ValueError, match=r"precision: Old\.compiled is in double precision only.*Remedy: give it"):
        Simulation(Old(speed=1.0), LINE, "rk4", 5e-3, state, backend=Backend(precision="float32"))
    Simulation(Old(speed=1.0), LINE, "rk4", 5e-3, state)
