"""Tracers: order of the interpolation, exact paths in a vortex, parity, members, restart, noise, stored flows."""

import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest
from scipy.special import ellipj

from subgrid import read_case
from subgrid import run as run_case
from subgrid.ingest.prepare import prepare
from subgrid.solver.backend import select
from subgrid.solver.closure import Closure, Leap, Tendency
from subgrid.solver.equations import Tracers
from subgrid.solver.equations.tracers.kernels import interpolate
from subgrid.solver.equations.tracers.splines import coefficients, evaluate, finer
from subgrid.solver.grid import Grid
from subgrid.solver.random import EntityNoise
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators

TAU = 2 * np.pi
VORTEX = {"name": "kolmogorov", "viscosity": 0.0}
FLOW = {
    "name": "kolmogorov",
    "viscosity": 1e-2,
    "forcing": {"kind": "sine", "amplitude": 1.0, "wavenumber": 2},
    "noise": {"kind": "q-wiener", "amplitude": 0.05, "correlation": 0.1},
}
CASE = {
    "title": "tracers",
    "equation": {"name": "tracers", "carrier": FLOW, "spin_up": 0.2},
    "grid": {"entities": 8, "shape": [16, 16], "length": [TAU, TAU]},
    "time": {"end": 0.2, "step": 0.02, "stepper": "rk4"},
    "initial": {
        "kind": "tracer-clusters",
        "separation": 0.1,
        "flow": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
    },
    "ensemble": {"members": 3},
    "output": {"every": 0.04},
}


def entities(n: int, points: int = 16) -> Grid:
    return Grid((n,), (float(n),), carrier=Grid((points, points), (TAU, TAU)))


def vortex(grid: Grid, members: int = 1) -> np.ndarray:
    """w of psi = cos x cos y, which is steady without viscosity."""
    y, x = np.meshgrid(*grid.carrier.coordinates(), indexing="ij")
    return np.repeat((2 * np.cos(x) * np.cos(y))[None, None], members, axis=0)


def simulation(n: int = 12, members: tuple[int, ...] = (0, 1, 2), **options: object) -> Simulation:
    """Tracers in a forced, noisy flow."""
    case = read_case(CASE | {"grid": CASE["grid"] | {"entities": n}})
    equation, grid = options.pop("equation", case.build_equation()), case.grid.grid()
    state = case.initial.state(equation, grid, members, 0)
    flow = case.initial.carrier(equation, grid, members, 0)
    return Simulation(equation, grid, "rk4", 0.02, state, members=members, carrier=flow, **options)


def spline_error(points: int, wave: int) -> float:
    """Largest error of the splines for the wave cos(wave (x + y)) at random positions."""
    grid = Grid((points, points), (TAU, TAU))
    y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
    fields = np.cos(wave * (x + y))[None, None]
    c = coefficients(Operators(grid).to_spectrum(fields), Operators(grid), Operators(finer(grid)))
    at = np.random.default_rng(0).uniform(-TAU, 2 * TAU, (1, 2, 500))
    found = evaluate(c, at, grid.origin, finer(grid).spacing, np)
    return float(np.abs(found[0, 0] - np.cos(wave * at[0].sum(axis=0))).max())


def test_the_interpolation_is_of_sixth_order():
    errors = [spline_error(n, 3) for n in (16, 32, 64)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 5.8).all() and (orders < 6.6).all()
    assert spline_error(16, 5) < 2e-4  # the shortest wave that the 2/3 rule keeps


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_paths_in_a_steady_vortex_are_elliptic_functions(backend):
    """sin x = -k sn(t | k^2) from x = 0 for psi = cos x cos y, k^2 = 1 - psi^2; the time step is of fourth order."""
    grid, k = entities(4, 32), np.array([0.2, 0.5, 0.8, 0.95])
    x = np.stack([np.zeros(4), np.arcsin(k)])[None]  # psi = cos y at x = 0, where x decreases
    errors = []
    for steps in (40, 80):
        run = Simulation(
            Tracers(carrier=VORTEX), grid, "rk4", 4.0 / steps, x, carrier=vortex(grid), backend=select(backend)
        )
        run.run(steps)
        sn, _, _, _ = ellipj(4.0, k**2)
        errors.append(np.abs(np.sin(run.state[0, 0]) + k * sn).max())
    assert errors[1] < 1e-5
    assert 12 < errors[0] / errors[1] < 22


def test_the_kernel_is_the_array_code():
    rng = np.random.default_rng(1)
    c, x = rng.standard_normal((3, 2, 12, 20)), rng.uniform(-9, 9, (3, 2, 30))
    found = np.empty_like(x)
    interpolate(c, x, 0.1, 0.2, 0.5, 0.3, found, 0, 30)
    for xp in (np, array_api_strict, array_api_compat.torch):
        code = evaluate(xp.asarray(c), xp.asarray(x), (0.1, 0.2), (0.5, 0.3), xp)
        np.testing.assert_allclose(np.asarray(code), found, rtol=1e-12, atol=1e-13)


def test_torch_gives_the_paths_of_the_kernels():
    numpy, torch = simulation(), simulation(backend=select("torch"))
    for run in (numpy, torch):
        run.run(20)
    np.testing.assert_allclose(torch.state, numpy.state, rtol=0, atol=1e-11)


def test_a_member_of_a_batch_is_the_member_alone():
    together = simulation()
    together.run(20)
    for member in range(3):
        alone = simulation(members=(member,))
        alone.run(20)
        np.testing.assert_allclose(alone.state[0], together.state[member], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_continued_equals_uninterrupted(backend):
    """The state of the whole is that of the tracers and of the flow, which has noise."""
    whole, first, second = (simulation(backend=select(backend)) for _ in range(3))
    whole.run(20)
    first.run(7)
    second.restore({k: v.copy() for k, v in first.checkpoint().items()})
    second.run(20)
    np.testing.assert_array_equal(second.state, whole.state)
    np.testing.assert_array_equal(np.asarray(second.carrier.state), np.asarray(whole.carrier.state))


def test_the_number_of_threads_changes_nothing():
    one, two = (simulation(threads=n) for n in (1, 2))
    for run in (one, two):
        run.run(10)
    np.testing.assert_array_equal(one.state, two.state)


def test_two_neighbours_stay_neighbours_and_a_period_is_no_barrier():
    """Positions are not reduced; the velocity at a position and one period further is the same."""
    x = np.array([[[1.0, 1.0 + TAU, 1.0 - 3 * TAU, 1.0], [2.0, 2.0, 2.0 + TAU, 2.0]]])
    grid = entities(4)
    run = Simulation(Tracers(carrier=VORTEX), grid, "rk4", 0.05, x, carrier=vortex(grid))
    run.run(20)
    moved = run.state - x
    np.testing.assert_allclose(moved, moved[..., :1].repeat(4, axis=2), rtol=0, atol=1e-11)
    assert np.abs(moved).min() > 0.1


class Watching(Closure):
    """Keeps what it sees, and adds noise of entities."""

    seen: list = []  # noqa: RUF012
    deviation: float = 0.0

    def start(self, problem):
        self._shape = (len(problem.members), 2, *problem.grid.shape)
        return {}

    def __call__(self, view, memory):
        self.seen.append((view.state.copy(), np.array(view.carrier.velocity(view.array)), view.carrier.state.shape))
        noise = EntityNoise(np.full(self._shape[1:], self.deviation)) if self.deviation else None
        return Tendency(np.zeros(self._shape), noise=noise), memory


def test_a_closure_sees_the_velocity_of_the_flow():
    grid, watching = entities(6), Watching()
    x = np.random.default_rng(0).uniform(0, TAU, (1, 2, 6))
    run = Simulation(Tracers(carrier=VORTEX), grid, "rk4", 0.05, x, carrier=vortex(grid), closures=[watching])
    run.run(3)
    for state, velocity, shape in watching.seen:
        (at_x, at_y), (u, v) = state[0], velocity[0]
        np.testing.assert_allclose(u, -np.cos(at_x) * np.sin(at_y), rtol=0, atol=1e-6)
        np.testing.assert_allclose(v, np.sin(at_x) * np.cos(at_y), rtol=0, atol=1e-6)
        assert shape == (1, 1, 16, 16)


class Leaping(Closure):
    """Leaves the tracers where they are for five steps, once."""

    def start(self, problem):
        self._h = problem.step
        return {}

    def __call__(self, view, memory):
        if view.step:
            return None, memory
        return Leap(np.stack([view.state] * 5), view.time + self._h * np.arange(1, 6)), memory


def test_the_flow_goes_on_while_a_closure_leaps():
    leaping, stepping = simulation(closures=[Leaping()]), simulation()
    for run in (leaping, stepping):
        run.run(5)
    np.testing.assert_array_equal(np.asarray(leaping.carrier.state), np.asarray(stepping.carrier.state))
    positions = stepping.state
    np.testing.assert_array_equal(leaping.carrier.velocity(positions), stepping.carrier.velocity(positions))
    leaping.run(12)
    stepping.run(12)
    np.testing.assert_array_equal(np.asarray(leaping.carrier.state), np.asarray(stepping.carrier.state))


@pytest.mark.parametrize("own", [True, False])
def test_noise_of_entities_has_its_variance_and_survives_a_restart(own):
    """sqrt(2 D) dW as the equation's own noise, and as that of a closure; without a flow x(t) - x(0) is N(0, 2 D t)."""
    grid, diffusivity = entities(4000), 0.3
    equation = Tracers(carrier=VORTEX, diffusivity=diffusivity if own else 0.0, omit=("advection",))

    def build(members: tuple[int, ...] = (0, 1)) -> Simulation:
        closures = [] if own else [Watching(deviation=float(np.sqrt(2 * diffusivity)))]
        flow = vortex(grid, len(members))
        start = np.zeros((len(members), 2, 4000))
        return Simulation(equation, grid, "rk4", 0.05, start, carrier=flow, closures=closures, members=members)

    whole, first, second = build(), build(), build()
    whole.run(8)
    first.run(3)
    second.restore({k: v.copy() for k, v in first.checkpoint().items()})
    second.run(8)
    np.testing.assert_array_equal(second.state, whole.state)
    assert whole.state.var() == pytest.approx(2 * diffusivity * 0.4, rel=0.05)
    assert abs(np.corrcoef(whole.state[0, 0], whole.state[1, 0])[0, 1]) < 0.06
    alone = build((1,))
    alone.run(8)
    np.testing.assert_array_equal(alone.state[0], whole.state[1])


def test_noise_of_entities_is_the_same_on_torch():
    equation = Tracers(carrier=FLOW, diffusivity=0.1)
    numpy, torch = simulation(equation=equation), simulation(equation=equation, backend=select("torch"))
    for run in (numpy, torch):
        run.run(10)
    np.testing.assert_allclose(torch.state, numpy.state, rtol=0, atol=1e-11)


def test_a_stored_flow_gives_the_paths_of_the_one_that_runs_alongside(tmp_path):
    """Between the outputs by cubic interpolation in time, whose error falls with the fourth power of their interval."""
    smooth = {k: v for k, v in FLOW.items() if k != "noise"}
    alongside = run_case(read_case(CASE | {"equation": {"name": "tracers", "carrier": smooth}}), progress=False)
    errors = []
    for every in (0.05, 0.025):
        flow = {k: v for k, v in CASE.items() if k not in ("equation", "grid", "initial", "time", "output")} | {
            "equation": smooth,
            "grid": {"shape": [16, 16], "length": [TAU, TAU]},
            "time": {"end": 0.2, "step": 0.005, "stepper": "etdrk4"},
            "initial": CASE["initial"]["flow"],
            "output": {"every": every},
        }
        folder = tmp_path / f"flow-{every}"
        run_case(read_case(flow), out=folder, progress=False)
        stored = CASE | {"equation": {"name": "tracers", "carrier": smooth, "stored": str(folder)}}
        found = run_case(read_case(stored), progress=False)
        errors.append(max(float(abs(found[axis] - alongside[axis]).max()) for axis in "xy"))
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] > 6


def test_shallow_water_carries_tracers():
    """A uniform current: the tracers move with it."""
    grid = entities(4)
    state = np.ones((1, 3, 16, 16)) * np.array([2.0, 1.0, -0.5])[:, None, None]
    equation = Tracers(carrier={"name": "shallow-water"}, carrier_stepper="ssp-rk2", carrier_cfl=0.5)
    x = np.random.default_rng(0).uniform(0, TAU, (1, 2, 4))
    run = Simulation(equation, grid, "rk4", 0.05, x, carrier=state)
    run.run(10)
    np.testing.assert_allclose(run.state - x, np.array([0.25, -0.125])[None, :, None] * np.ones_like(x), atol=1e-12)


def test_members_with_fewer_entities(tmp_path):
    """The mask counts the real entities of each member; what fills up the state exerts no force on them."""
    case = read_case(
        {
            "title": "charges",
            "equation": {"name": "charged-particles", "softening": 0.1},
            "grid": {"entities": 5},
            "time": {"end": 0.5, "step": 0.01, "stepper": "velocity-verlet"},
            "initial": {"kind": "charged-particles"},
            "ensemble": {"members": 2, "entities": [5, 3]},
            "output": {"every": 0.5},
        }
    )
    prepared = prepare(case, tmp_path, with_reference=False)
    np.testing.assert_array_equal(prepared.mask.sum(axis=1), [5, 3])
    assert not prepared.state[1, 3:, 3:].any()
    whole = prepared.simulation(())
    whole.run(50)
    real = Simulation(
        prepared.equation, Grid((3,), (3.0,)), "velocity-verlet", 0.01, prepared.state[1:, :, :3].copy(), members=(1,)
    )
    real.run(50)
    np.testing.assert_allclose(whole.state[1, :, :3], real.state[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"entities": 7, "shape": [16, 16], "length": [TAU, TAU]}}, "grid.entities: 7 tracers are not whole"),
        ({"grid": {"entities": 8}}, "grid.shape: tracers needs grid.entities, and grid.shape"),
        ({"equation": {"name": "tracers", "carrier": {"name": "burgers", "viscosity": 0.1}}}, "equation.carrier"),
        ({"initial": {"kind": "tracer-clusters", "separation": -1.0}}, "initial.separation"),
        ({"ensemble": {"entities": [9]}}, "ensemble.entities: 9 is more than grid.entities = 8"),
        (
            {"equation": CASE["equation"] | {"carrier_stepper": "strang"}},
            "equation.carrier_stepper: strang does not fit",
        ),
        ({"equation": CASE["equation"] | {"carrier_cfl": 0.5}}, "equation.carrier_cfl: etdrk4 takes no steps"),
        ({"equation": CASE["equation"] | {"stored": "absent"}}, "equation.stored: .*holds no run"),
        (
            {"initial": CASE["initial"] | {"flow": {"kind": "two-body"}}},
            "initial.flow: initial kind 'two-body' is for two charged",
        ),
        ({"initial": {"kind": "run", "path": "absent", "time": 1.0}}, "initial.path: .*records no flow"),
        ({"equation": {"name": "tracers", "carrier": 3}}, "equation.carrier: .*expected a table"),
        ({"equation": {"name": "tracers", "carrier": {"name": "kolmogorow"}}}, "equation.carrier: .*kolmogorov"),
    ],
)
def test_a_mistake_is_named_by_its_key(changes, message):
    with pytest.raises(ValueError, match=message):
        read_case(CASE | changes)


def test_an_initial_state_without_a_flow_is_refused():
    case = read_case(CASE | {"initial": {"kind": "tracer-clusters", "separation": 0.1}})
    with pytest.raises(ValueError, match=r"no flow that could carry the tracers. Remedy: initial.kind"):
        run_case(case, progress=False)


def test_single_precision_gives_the_paths_to_its_own():
    double, single = simulation(), simulation(backend=select("numpy", "float32"))
    for run in (double, single):
        run.run(20)
    assert single.state.dtype == np.float32
    assert np.abs(single.state - double.state).max() < 2e-5
