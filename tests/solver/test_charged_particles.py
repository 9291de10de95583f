import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest
import torch

from subgrid.solver.equations import Burgers, ChargedParticles
from subgrid.solver.grid import Grid
from subgrid.solver.initial import File
from subgrid.solver.initial_particles import RandomCharges, RandomMasses, RandomSprings, TwoBody, eccentric_anomaly
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators
from subgrid.solver.steppers import STEPPERS, Split

FIVE, PAIR = Grid((5,), (5.0,)), Grid((2,), (2.0,))
COULOMB = ChargedParticles(softening=0.1)
GRAVITY = ChargedParticles(force="gravity", strength=0.7, softening=0.1)
SPRINGS = ChargedParticles(force="springs", strength=0.4, rest_length=0.8)
DRAWN = {"coulomb": RandomCharges(), "gravity": RandomMasses(mass=1.3), "springs": RandomSprings(held=0.8)}
SYSTEMS = pytest.mark.parametrize("equation", [COULOMB, GRAVITY, SPRINGS], ids=lambda e: e.force)
ORBITS = pytest.mark.parametrize(
    ("equation", "couplings"),
    [(ChargedParticles(force="gravity"), (3.0, 1.0)), (ChargedParticles(strength=2.0), (1.0, -1.5))],
    ids=("gravity", "coulomb"),
)


def drawn(equation: ChargedParticles, members: tuple[int, ...] = (0, 1, 2), grid: Grid = FIVE) -> np.ndarray:
    return DRAWN[equation.force].state(equation, grid, members, 4)


def unequal(equation: ChargedParticles) -> np.ndarray:
    """Random states whose couplings all differ, so that an exchanged index shows."""
    state = drawn(equation)
    state[:, 6] *= np.linspace(0.5, 2.0, 15).reshape(3, 5)
    return state


def carried(equation: ChargedParticles, state: np.ndarray, stepper: str, step: float, steps: int) -> np.ndarray:
    simulation = Simulation(equation, Grid(state.shape[2:], (1.0,)), stepper, step, state)
    simulation.advance(steps)
    return simulation.state


def acceleration(equation: ChargedParticles, state: np.ndarray) -> np.ndarray:
    """a (member, 3, entity), from the compiled code."""
    n = state.shape[2]
    u = np.ascontiguousarray(state).reshape(-1, 1, n)
    out = np.full_like(u, np.nan)
    equation.right_hand_side(Grid((n,), (1.0,)), len(state))(u, 0.0, out)
    return out.reshape(state.shape)[:, 3:6]


# -- closed forms ------------------------------------------------------------------------------------------


@ORBITS
def test_the_closed_orbit_satisfies_the_equation_of_motion_and_closes(equation, couplings):
    orbit = TwoBody(eccentricity=0.6, semi_major_axis=1.7, couplings=couplings)
    period, h = orbit.period(equation), 1e-3

    def at(t: float) -> np.ndarray:
        return orbit.exact(equation, PAIR, t, (0,), 0)

    np.testing.assert_allclose(at(period), at(0.0), atol=1e-13)
    for t in (0.0, 0.3 * period, 2.8 * period):
        slope = (8 * (at(t + h) - at(t - h)) - at(t + 2 * h) + at(t - 2 * h)) / (12 * h)
        np.testing.assert_allclose(slope[:, :3], at(t)[:, 3:6], atol=1e-9)
        np.testing.assert_allclose(slope[:, 3:6], acceleration(equation, at(t)), atol=1e-9)


def test_kepler_s_equation_is_solved_to_round_off():
    for e in (0.0, 0.3, 0.9, 0.999):
        for mean in np.linspace(-20, 40, 61):
            anomaly = eccentric_anomaly(mean, e)
            assert anomaly - e * np.sin(anomaly) == pytest.approx(mean, abs=1e-13)


@ORBITS
@pytest.mark.parametrize(("stepper", "order"), [("velocity-verlet", 2), ("strang", 2), ("forest-ruth", 4), ("rk4", 4)])
def test_order_on_the_two_body_orbit(equation, couplings, stepper, order):
    """After one period, which ends where it began."""
    orbit = TwoBody(eccentricity=0.3, couplings=couplings)
    state, period = orbit.state(equation, PAIR, (0,), 0), orbit.period(equation)
    errors = [np.abs(carried(equation, state, stepper, period / n, n) - state).max() for n in (400, 800)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_springs_of_no_length_make_a_harmonic_oscillator_of_every_entity():
    """About the centre of the n that are held the frequency is sqrt(n k): f_i = -k n (x_i - mean). The free go on."""
    equation = ChargedParticles(force="springs", strength=0.4)
    state = drawn(SPRINGS, (3,))
    state[:, 6] = [1, 1, 0, 1, 1]
    x, v = state[:, :3].copy(), state[:, 3:6].copy()
    held = state[0, 6] == 1
    t, omega = 2.0, np.sqrt(4 * 0.4)
    middle, mean_v = x[..., held].mean(-1, keepdims=True), v[..., held].mean(-1, keepdims=True)
    expected = middle + mean_v * t + (x - middle) * np.cos(omega * t) + (v - mean_v) / omega * np.sin(omega * t)
    expected[..., ~held] = (x + t * v)[..., ~held]
    found = carried(equation, state, "forest-ruth", t / 400, 400)
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-8)


@SYSTEMS
def test_forces_are_the_gradient_of_the_potential(equation):
    """m a = -dU/dx, by central differences of the energy at rest: weights, signs, softening, rest length."""
    state = unequal(equation)
    state[:, 3:6] = 0
    masses = equation.masses(state)
    a, h = acceleration(equation, state), 1e-4
    for axis in range(3):
        for entity in range(5):
            energies = []
            for step in (h, -h, 2 * h, -2 * h):
                moved = state.copy()
                moved[:, axis, entity] += step
                energies.append(equation.invariants(moved, FIVE)["energy"])
            slope = (8 * (energies[0] - energies[1]) - energies[2] + energies[3]) / (12 * h)
            np.testing.assert_allclose(masses[:, entity] * a[:, axis, entity], -slope, rtol=1e-7, atol=1e-8)


def test_like_charges_repel_and_masses_attract():
    state = np.zeros((1, 7, 2))
    state[0, 0], state[0, 6] = [0.0, 2.0], [3.0, 5.0]
    np.testing.assert_allclose(acceleration(ChargedParticles(), state)[0, 0], [-15 / 4, 15 / 4])
    np.testing.assert_allclose(acceleration(ChargedParticles(force="gravity"), state)[0, 0], [5 / 4, -3 / 4])
    stretched = acceleration(ChargedParticles(force="springs", rest_length=1.5), state)[0, 0]
    np.testing.assert_allclose(stretched, [15 * 0.5, -15 * 0.5])
    state[0, 6] = [0.0, 5.0]  # a tracer is pulled and does not pull
    np.testing.assert_allclose(acceleration(ChargedParticles(force="gravity"), state)[0, 0], [5 / 4, 0])


# -- conservation and symmetry -----------------------------------------------------------------------------


@pytest.mark.parametrize("stepper", ["velocity-verlet", "forest-ruth"])
def test_the_energy_of_an_orbit_keeps_within_bounds_that_shrink_with_the_order(stepper):
    """200 periods: as much off in the last twenty as in the first. Halving the step divides by 2^order."""
    equation, orbit = ChargedParticles(force="gravity"), TwoBody(eccentricity=0.4)
    state = orbit.state(equation, PAIR, (0,), 0)
    at_start = equation.invariants(state, PAIR)["energy"][0]
    worst = []
    for per_period in (100, 200):
        simulation = Simulation(equation, PAIR, stepper, orbit.period(equation) / per_period, state)
        off = []
        for _ in range(200 * 20):
            simulation.advance(per_period // 20)
            off.append(abs(equation.invariants(simulation.state, PAIR)["energy"][0] / at_start - 1))
        assert max(off[-400:]) < 1.1 * max(off[:400])
        worst.append(max(off))
    order = STEPPERS[stepper].order
    assert np.log2(worst[0] / worst[1]) == pytest.approx(order, abs=0.25)


@SYSTEMS
@pytest.mark.parametrize("stepper", [n for n, s in STEPPERS.items() if isinstance(s, Split)])
def test_momenta_are_kept_to_round_off(equation, stepper):
    """Linear and angular, by every split scheme at any step: each pair exchanges what it exchanges along its line."""
    state = unequal(equation)
    before = equation.invariants(state, FIVE)
    after = equation.invariants(carried(equation, state, stepper, 0.02, 500), FIVE)
    for name in before.keys() - {"energy"}:
        np.testing.assert_allclose(after[name], before[name], atol=1e-11, err_msg=name)


@SYSTEMS
@pytest.mark.parametrize("stepper", [n for n, s in STEPPERS.items() if isinstance(s, Split)])
def test_motion_runs_backwards_when_velocities_are_turned(equation, stepper):
    state = drawn(equation)
    turned = carried(equation, state, stepper, 0.01, 200)
    assert np.abs(turned - state).max() > 0.5
    turned[:, 3:6] *= -1
    back = carried(equation, turned, stepper, 0.01, 200)
    back[:, 3:6] *= -1
    np.testing.assert_allclose(back, state, atol=1e-10)


@SYSTEMS
def test_rotations_reflections_shifts_boosts_and_exchanges_carry_over(equation):
    state = unequal(equation)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    order = np.array([3, 0, 4, 1, 2])

    def run(u: np.ndarray) -> np.ndarray:
        return carried(equation, u, "velocity-verlet", 0.01, 100)

    def turn(u: np.ndarray) -> np.ndarray:
        return np.concatenate([rotation @ u[:, :3], rotation @ u[:, 3:6], u[:, 6:]], axis=1)

    def boost(u: np.ndarray, t: float) -> np.ndarray:
        w = np.array([0.3, -1.0, 2.0])[:, None]
        return np.concatenate([u[:, :3] + 5.0 + w * t, u[:, 3:6] + w, u[:, 6:]], axis=1)

    found = run(state)
    np.testing.assert_allclose(run(turn(state)), turn(found), atol=1e-11)
    np.testing.assert_allclose(run(boost(state, 0.0)), boost(found, 1.0), atol=1e-11)
    np.testing.assert_allclose(run(state[..., order]), found[..., order], atol=1e-11)
    mirror = np.array([1, -1, 1, 1, -1, 1, 1.0])[:, None]
    np.testing.assert_array_equal(run(mirror * state), mirror * found)


def test_forces_are_cut_off_component_by_component_after_the_sum():
    state = drawn(COULOMB)
    whole = acceleration(COULOMB, state)
    limit = float(np.median(np.abs(whole)))
    cut = acceleration(COULOMB.model_copy(update={"force_limit": limit}), state)
    np.testing.assert_allclose(cut, np.clip(whole, -limit, limit), rtol=1e-14)
    assert (cut == limit).any() and (cut == -limit).any() and (np.abs(cut) < limit).any()


# -- initial states ----------------------------------------------------------------------------------------


@SYSTEMS
def test_a_member_alone_is_the_member_of_a_batch(equation):
    """In every bit, from the draw to the end of the run."""
    many = tuple(range(12))
    batch = carried(equation, drawn(equation, many), "velocity-verlet", 0.01, 300)
    alone = carried(equation, drawn(equation, (7,)), "velocity-verlet", 0.01, 300)
    np.testing.assert_array_equal(alone[0], batch[7])


def test_the_published_law_of_the_initial_states():
    """Positions N(0, 1), speeds of exactly 0.5 in directions without preference, charges +-1; means within 5 sigma."""
    state = RandomCharges().state(COULOMB, Grid((1000,), (1.0,)), tuple(range(20)), 0)
    x, v, charge = state[:, :3], state[:, 3:6], state[:, 6]
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 0.5, rtol=1e-14)
    assert set(np.unique(charge)) == {-1.0, 1.0}
    for values, variance in ((x, 1.0), (v, 0.25 / 3), (charge, 1.0)):
        sigma = np.sqrt(variance / values.size)
        assert abs(values.mean()) < 5 * sigma
    assert x.var() == pytest.approx(1.0, abs=5 * np.sqrt(2 / x.size))
    np.testing.assert_allclose(np.einsum("mie,mje->ij", v, v) / 20000, np.eye(3) * 0.25 / 3, atol=5 * 0.08 / 141)
    held = RandomSprings(held=0.25).state(SPRINGS, Grid((1000,), (1.0,)), (0,), 0)[0, 6]
    assert set(held) == {0.0, 1.0} and held.mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.19 / 1000))


def test_states_from_a_file_and_states_that_do_not_fit(tmp_path):
    state = drawn(COULOMB)
    np.savez(tmp_path / "entities.npz", state=state)
    file = File(path=tmp_path / "entities.npz")
    np.testing.assert_array_equal(file.state(COULOMB, FIVE, (2, 0), 0), state[[2, 0]])
    with pytest.raises(ValueError, match="grid of shape"):
        file.state(COULOMB, Grid((6,), (1.0,)), (0,), 0)
    for initial, equation, grid, message in (
        (RandomCharges(), GRAVITY, FIVE, "charged-particles with force = 'coulomb'"),
        (RandomCharges(), Burgers(viscosity=1.0), FIVE, "not for burgers"),
        (TwoBody(), GRAVITY, FIVE, "grid.entities = 2"),
        (TwoBody(), SPRINGS, PAIR, "force = 'coulomb' or 'gravity'"),
        (TwoBody(), COULOMB, PAIR, "do not attract each other.*Remedy"),
        (TwoBody(couplings=(2.0, -1.0)), GRAVITY, PAIR, "do not attract each other.*Remedy"),
    ):
        with pytest.raises(ValueError, match=message):
            initial.state(equation, grid, (0,), 0)
    assert TwoBody().exact(GRAVITY, PAIR, 1.0, (0,), 0) is None, "no closed form of softened orbits"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rest_length": 1.0}, "rest_length = 1 contradicts force = 'coulomb'.*Remedy"),
        ({"noise": {"amplitude": 1.0, "correlation": 0.1}}, "noise.*Remedy"),
        ({"softening": -0.1}, "softening"),
        ({"force_limit": 0.0}, "force_limit"),
        ({"force": "magnetic"}, "force"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ChargedParticles(**options)


# -- implementations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("omit", [(), ("interaction",)])
@pytest.mark.parametrize(
    "equation", [COULOMB, GRAVITY, SPRINGS, COULOMB.model_copy(update={"force_limit": 0.4, "softening": 0.0})]
)
def test_compiled_equals_array_code(equation, omit):
    """The right-hand side, and the flow of each part."""
    equation = equation.model_copy(update={"omit": omit})
    state = unequal(equation)
    u = state.reshape(-1, 1, 5)
    rhs, rate = equation.right_hand_side(FIVE, 3), np.full_like(u, np.nan)
    rhs(u.copy(), 0.0, rate)
    moved = {part: u.copy() for part in equation.split}
    for part, v in moved.items():
        rhs.flow(part, v, 0.3)
    for xp in (np, array_api_strict, array_api_compat.torch):
        operators, v = Operators(FIVE, xp), xp.asarray(state)
        for code, compiled in (
            (equation.nonlinear(operators, v, 0.0), rate),
            *((equation.flow(part, operators, v, 0.3), moved[part]) for part in equation.split),
        ):
            scale = np.abs(compiled).max()
            np.testing.assert_allclose(np.asarray(code).reshape(compiled.shape), compiled, rtol=0, atol=4e-15 * scale)


@SYSTEMS
def test_gradients_through_50_velocity_verlet_steps(equation):
    """Of a weighted sum of the last state, by all of the first one: against central differences of fourth order."""
    state = torch.from_numpy(unequal(equation)[:1])
    operators = Operators(FIVE, array_api_compat.torch)
    weight = torch.randn(state.shape, dtype=torch.float64, generator=torch.manual_seed(0))

    def objective(u: torch.Tensor) -> torch.Tensor:
        for _ in range(50):
            for part, c in STEPPERS["velocity-verlet"].parts:
                u = equation.flow(part, operators, u, 0.02 * c)
        return (weight * u).sum()

    u = state.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(u), u)
    direction, h = torch.randn(state.shape, dtype=torch.float64, generator=torch.manual_seed(1)), 1e-3

    def along(step: float) -> float:
        return float(objective(state + step * direction))

    slope = (8 * (along(h) - along(-h)) - along(2 * h) + along(-2 * h)) / (12 * h)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6)


def test_gradients_are_finite_where_nothing_is_softened():
    """The diagonal, where the distance is 0, is left out of the root: no nan comes back through it."""
    equation = ChargedParticles()
    u = torch.from_numpy(drawn(equation)).requires_grad_(True)
    equation.nonlinear(Operators(FIVE, array_api_compat.torch), u, 0.0)[:, 3:6].square().sum().backward()
    assert torch.isfinite(u.grad).all() and u.grad[:, :3].abs().min() > 0
