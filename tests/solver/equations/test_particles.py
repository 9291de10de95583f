"""Charged particles: closed orbits, what is conserved and what is mirrored, clipped forces, parity, restart."""

import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest

from subgrid.solver.equations import ChargedParticles, VlasovPoisson
from subgrid.solver.equations.particles.initial import RandomParticles, TwoBody, eccentric_anomaly
from subgrid.solver.equations.particles.kernels import Particles
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators

FORCES = ("coulomb", "gravity", "springs")
SPLIT = ("velocity-verlet", "forest-ruth", "strang")
CHARGES, RANDOM = ChargedParticles(softening=0.2), RandomParticles()


def entities(n: int) -> Grid:
    return Grid((n,), (float(n),))


def start(equation: ChargedParticles, n: int = 5, members: tuple[int, ...] = (0,)) -> np.ndarray:
    return RANDOM.state(equation, entities(n), members, 0)


def run(equation: ChargedParticles, stepper: str, state: np.ndarray, steps: int, end: float) -> np.ndarray:
    simulation = Simulation(equation, entities(state.shape[-1]), stepper, end / steps, state)
    simulation.advance(steps)
    return simulation.state


def invariants(equation: ChargedParticles, state: np.ndarray) -> dict[str, np.ndarray]:
    return equation.invariants(state, entities(state.shape[-1]))


def acceleration(equation: ChargedParticles, state: np.ndarray) -> np.ndarray:
    """a (3, entity) of one member."""
    return equation.nonlinear(Operators(entities(state.shape[-1])), state, 0.0)[0, 3:6]


def rotation() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]


def turned(state: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Positions and velocities turned or mirrored."""
    x, v = (np.einsum("ij,mjn->min", matrix, state[:, a : a + 3]) for a in (0, 3))
    return np.concatenate([x, v, state[:, 6:]], axis=1)


# -- physics -----------------------------------------------------------------------------------------------


def test_signs_and_sizes_of_the_forces():
    """Two entities 2 apart, c = 3 and 5: like charges repel with 15 / 4, masses attract with the other's c / 4."""
    state = np.zeros((1, 7, 2))
    state[0, 1], state[0, 6] = (0.0, 2.0), (3.0, 5.0)
    pulls = {
        "coulomb": [-15 / 4, 15 / 4],
        "gravity": [5 / 4, -3 / 4],
        "springs": [15 * (2 - 0.5), -15 * (2 - 0.5)],
    }
    for force, wanted in pulls.items():
        found = acceleration(ChargedParticles(force=force, strength=2.0, rest_length=0.5), state)
        np.testing.assert_allclose(found[1], 2 * np.array(wanted), rtol=1e-14)
        assert not found[[0, 2]].any()
    soft = acceleration(ChargedParticles(softening=1.5), state)
    np.testing.assert_allclose(soft[1], np.array([-2, 2]) * 15 / 2.5**3, rtol=1e-14)


@pytest.mark.parametrize("force", FORCES)
def test_forces_are_the_slope_of_the_energy(force):
    """-dU/dx = m a, by central differences along a random direction."""
    equation = ChargedParticles(force=force, strength=0.7, softening=0.2, rest_length=0.3)
    state, direction = start(equation, 6), np.zeros((1, 7, 6))
    state[:, 6] *= np.arange(1, 7)
    direction[:, :3] = np.random.default_rng(1).standard_normal((3, 6))
    h = 1e-5
    up, down = (invariants(equation, state + sign * h * direction)["energy"][0] for sign in (1, -1))
    mass = state[0, 6] if force == "gravity" else 1.0
    work = (mass * acceleration(equation, state) * direction[0, :3]).sum()
    assert -(up - down) / (2 * h) == pytest.approx(work, rel=1e-7)


@pytest.mark.parametrize(("force", "masses"), [("gravity", (1.0, 3.0)), ("coulomb", (1.0, 1.0))])
def test_two_bodies_move_as_kepler_says(force, masses):
    """The closed form obeys the equation (central differences), and returns after the period."""
    equation, initial, grid = ChargedParticles(force=force), TwoBody(eccentricity=0.7, masses=masses), entities(2)
    h, period = 1e-4, initial.period(equation)
    for t in (0.0, 0.3, 0.4 * period, 5.2 * period):
        before, now, after = (initial.exact(equation, grid, t + s * h, (0,), 0)[0] for s in (-1, 0, 1))
        slope = (after - before) / (2 * h)
        np.testing.assert_allclose(slope[:3], now[3:6], rtol=0, atol=3e-6)
        np.testing.assert_allclose(slope[3:6], acceleration(equation, now[None]), rtol=0, atol=2e-4)
    back = initial.exact(equation, grid, 3 * period, (0,), 0)
    np.testing.assert_allclose(back, initial.state(equation, grid, (0,), 0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("e", [0.0, 0.5, 0.99, 0.999999])
def test_keplers_equation(e):
    mean = np.linspace(-20, 20, 101)
    found = np.array([eccentric_anomaly(m, e) for m in mean])
    np.testing.assert_allclose(found - e * np.sin(found), mean, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("stepper", "order"), [("velocity-verlet", 2), ("forest-ruth", 4), ("rk4", 4)])
@pytest.mark.parametrize("force", ["gravity", "coulomb"])
def test_an_orbit_closes_after_its_period_to_the_order_of_the_scheme(stepper, order, force):
    """In a plane of any direction."""
    equation, initial = ChargedParticles(force=force, strength=1.5), TwoBody(eccentricity=0.5, masses=(1.0, 3.0))
    state = turned(initial.state(equation, entities(2), (0,), 0), rotation())
    period = initial.period(equation)
    errors = [np.abs(run(equation, stepper, state, n, period) - state).max() for n in (400, 800)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)
    assert errors[1] < (0.02 if order == 2 else 1e-5)


@pytest.mark.parametrize("stepper", ["velocity-verlet", "strang"])
def test_the_error_in_energy_is_bounded_and_of_second_order(stepper):
    """Over 50 eccentric orbits no more than over the first two; a quarter for half the step."""
    equation, initial = ChargedParticles(force="gravity"), TwoBody(eccentricity=0.5)
    state, grid = initial.state(equation, entities(2), (0,), 0), entities(2)
    energy, worst = invariants(equation, state)["energy"][0], []
    for n in (200, 400):
        simulation, found = Simulation(equation, grid, stepper, initial.period(equation) / n, state), []
        for _ in range(50 * n // 10):
            simulation.advance(10)
            found.append(abs(invariants(equation, simulation.state)["energy"][0] / energy - 1))
        assert max(found) < 1.02 * max(found[: 2 * n // 10])
        worst.append(max(found))
    assert np.log2(worst[0] / worst[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("stepper", SPLIT)
@pytest.mark.parametrize("force", FORCES)
def test_momentum_and_angular_momentum_stay_to_round_off(force, stepper):
    equation = ChargedParticles(force=force, softening=0.2, rest_length=0.4)
    state = start(equation, 8)
    if force == "gravity":
        state[:, 6] = np.linspace(0.5, 2, 8)
    before, after = (invariants(equation, s) for s in (state, run(equation, stepper, state, 1000, 5.0)))
    for name in before:
        if name != "energy":
            assert abs(after[name] - before[name]) < 1e-12
    assert abs(after["energy"] - before["energy"]) < 1e-2 * abs(before["energy"])


@pytest.mark.parametrize("stepper", SPLIT)
def test_split_steps_run_backwards(stepper):
    state = start(CHARGES)
    there = run(CHARGES, stepper, state, 1000, 5.0)
    there[:, 3:6] *= -1
    back = run(CHARGES, stepper, there, 1000, 5.0)
    back[:, 3:6] *= -1
    assert np.abs(there - state).max() > 1
    np.testing.assert_allclose(back, state, rtol=0, atol=1e-10)


@pytest.mark.parametrize("force", FORCES)
def test_permuted_mirrored_and_turned_particles_go_the_same_way(force):
    """Mirrored bit for bit; permuted and turned to round-off, grown as chaos lets it."""
    equation = ChargedParticles(force=force, softening=0.2, rest_length=0.3)
    state, mirror = start(equation, 6), np.diag([-1.0, 1.0, 1.0])

    def moved(begin: np.ndarray) -> np.ndarray:
        return run(equation, "velocity-verlet", begin, 500, 1.0)

    end = moved(state)
    np.testing.assert_array_equal(moved(turned(state, mirror)), turned(end, mirror))
    order = np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(moved(state[..., order]), end[..., order], atol=1e-11)
    found = moved(turned(state, rotation()))
    np.testing.assert_allclose(found, turned(end, rotation()), rtol=0, atol=1e-11)


def test_clipped_forces():
    """Each component of the sum is clipped, not each pair's: two pulls of 1000 that cancel leave nothing."""
    state = np.zeros((1, 7, 3))
    state[0, 0], state[0, 1, 2], state[0, 6] = (-0.03, 0.0, 0.03), 0.004, (1.0, -1.0, 1.0)
    free, clipped = (acceleration(ChargedParticles(force_limit=limit), state) for limit in (None, 100.0))
    assert np.abs(free[0, [0, 2]]).max() > 500 and np.abs(free[1]).min() > 0
    np.testing.assert_array_equal(clipped, np.clip(free, -100, 100))
    assert np.abs(clipped[0, 1]) < 100
    rhs, rate = ChargedParticles(force_limit=100.0).right_hand_side(entities(3), 1), np.zeros((7, 1, 3))
    rhs(state.reshape(7, 1, 3), 0.0, rate)
    np.testing.assert_allclose(rate[3:6, 0], clipped, rtol=1e-13)


def test_springs_oscillate():
    """Those that are tied turn about their centre of mass with the frequency sqrt(n strength); the others fly."""
    equation = ChargedParticles(force="springs", strength=0.8)
    state = start(equation, 7)
    assert 2 <= state[0, 6].sum() <= 6
    wanted = RANDOM.exact(equation, entities(7), 3.0, (0,), 0)
    errors = [np.abs(run(equation, "velocity-verlet", state, n, 3.0) - wanted).max() for n in (100, 200)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    np.testing.assert_allclose(run(equation, "forest-ruth", state, 800, 3.0), wanted, rtol=0, atol=1e-9)
    pair = np.zeros((1, 7, 2))
    pair[0, 0], pair[0, 6] = (-0.6, 0.6), 1.0  # 1.2 apart, at rest, on a spring of rest length 1
    equation = ChargedParticles(force="springs", strength=0.5, rest_length=1.0)
    end = run(equation, "forest-ruth", pair, 500, 2.0)
    assert end[0, 0, 1] - end[0, 0, 0] == pytest.approx(1 + 0.2 * np.cos(2.0), abs=1e-9)


def test_without_interaction_all_fly_straight_on():
    equation = ChargedParticles(omit=("interaction",))
    state = start(equation)
    for stepper in ("velocity-verlet", "rk4"):
        end = run(equation, stepper, state, 10, 2.0)
        np.testing.assert_allclose(end, RANDOM.exact(equation, entities(5), 2.0, (0,), 0), rtol=0, atol=1e-14)


# -- initial states ----------------------------------------------------------------------------------------


def test_random_states_are_as_published_and_a_members_own():
    members = tuple(range(400))
    u = start(ChargedParticles(), 5, members)
    np.testing.assert_allclose(np.sqrt((u[:, 3:6] ** 2).sum(1)), 0.5, rtol=1e-14)
    assert set(np.unique(u[:, 6])) == {-1.0, 1.0}
    assert abs(u[:, 6].mean()) < 0.1
    assert u[:, :3].std() == pytest.approx(1, abs=0.04)
    assert np.abs(u[:, :6].mean((0, 2))).max() < 0.1
    assert start(ChargedParticles(), 40, members)[:, :3].std() == pytest.approx(2, abs=0.05)
    masses = start(ChargedParticles(force="gravity"), 10, members)
    assert (masses[:, 6] == 1).all()
    np.testing.assert_allclose(masses[:, 3:6].mean(-1), 0, atol=1e-15)
    assert masses[:, 3:6].std() == pytest.approx(np.sqrt(0.9), abs=0.03)
    assert set(np.unique(start(ChargedParticles(force="springs"), 5, members)[:, 6])) == {0.0, 1.0}
    np.testing.assert_array_equal(start(ChargedParticles(), 5, (7,))[0], u[7])


def test_initial_states_are_for_this_equation():
    with pytest.raises(ValueError, match=r"charged-particles.*not for vlasov-poisson.*Remedy"):
        RANDOM.state(VlasovPoisson(), Grid((8, 8), (1.0, 1.0)), (0,), 0)
    for equation, n in ((ChargedParticles(), 3), (ChargedParticles(strength=-1.0), 2), (VlasovPoisson(), 2)):
        with pytest.raises(ValueError, match=r"two charged-particles that attract each other.*Remedy"):
            TwoBody().state(equation, entities(n), (0,), 0)
    assert TwoBody().exact(ChargedParticles(softening=0.1), entities(2), 1.0, (0,), 0) is None
    assert RANDOM.exact(ChargedParticles(), entities(5), 1.0, (0,), 0) is None
    with pytest.raises(TypeError, match=r"no Courant number\. Remedy: set time\.step"):
        CHARGES.signal_speed(start(CHARGES), entities(5))


# -- implementations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 33])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"softening": 0.1, "force_limit": 0.5},
        {"force": "gravity", "softening": 0.1, "strength": 2.0},
        {"force": "springs"},
        {"force": "springs", "rest_length": 0.3, "softening": 0.1},
        {"omit": ("interaction",)},
    ],
)
def test_compiled_equals_array_code(options, n):
    equation, grid = ChargedParticles(**options), entities(n)
    u = start(equation, n, (0, 1, 2))
    u[:, 6] *= np.linspace(0.5, 2, n)
    rhs, rate = equation.right_hand_side(grid, 3), np.zeros((21, 1, n))
    rhs(u.reshape(21, 1, n), 0.0, rate)
    for xp in (np, array_api_strict, array_api_compat.torch):
        operators = Operators(grid, xp)
        code = np.asarray(equation.nonlinear(operators, xp.asarray(u), 0.0)).reshape(rate.shape)
        np.testing.assert_allclose(code, rate, rtol=1e-13, atol=1e-13 * np.abs(rate).max())
        for part in equation.split:
            moved = u.copy()
            rhs.flow(part, moved.reshape(21, 1, n), 0.07)
            code = np.asarray(equation.flow(part, operators, xp.asarray(u), 0.07))
            np.testing.assert_allclose(code, moved, rtol=1e-13, atol=1e-13 * np.abs(rate).max())


@pytest.mark.parametrize("stepper", ["velocity-verlet", "rk4"])
def test_a_member_of_a_batch_is_the_member_alone(stepper):
    together = run(CHARGES, stepper, start(CHARGES, 5, (0, 1, 2)), 200, 1.0)
    for i in range(3):
        np.testing.assert_array_equal(run(CHARGES, stepper, start(CHARGES, 5, (i,)), 200, 1.0)[0], together[i])


@pytest.mark.parametrize("stepper", [*SPLIT, "rk4"])
def test_continued_equals_uninterrupted(stepper):
    """What the kernel keeps of the last positions is no part of the state."""
    state = start(CHARGES, 5, (0, 1))
    whole, first, second = (Simulation(CHARGES, entities(5), stepper, 0.01, state) for _ in range(3))
    whole.run(40)
    first.run(17)
    second.restore(first.checkpoint())
    second.run(40)
    np.testing.assert_array_equal(second.state, whole.state)


def test_kept_forces_are_those_of_the_positions_and_charges_at_hand():
    kernel = Particles(5, 2, "coulomb", 1.0, 0.2, 0.0, None, "float64")
    u = start(CHARGES, 5, (0, 1))
    first = kernel.acceleration(u).copy()
    u[:, 3:6] += 1.0
    np.testing.assert_array_equal(kernel.acceleration(u), first)
    for field in (0, 1, 2, 6):
        u[1, field, 3] += 0.5
        fresh = Particles(5, 2, "coulomb", 1.0, 0.2, 0.0, None, "float64").acceleration(u)
        np.testing.assert_array_equal(kernel.acceleration(u), fresh)
        assert (fresh[0] == first[0]).all() and (fresh[1] != first[1]).any()
