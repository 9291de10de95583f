"""Smagorinsky's viscosity on shallow water against what its stress tensor says."""

import numpy as np
import pytest

from subgrid.closures.eddy_viscosity import Leith, Smagorinsky
from subgrid.solver.closure import ClosureError, Coupled, Problem, View
from subgrid.solver.equations import ChargedParticles, ShallowWater
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.simulation import Simulation

GRID = Grid((24, 32), (3.0, 5.0))
SIDES = {
    "periodic": "periodic",
    "walls": "wall",
    "open": "open",
    "mixed": {"left": "wall", "right": "open", "bottom": "periodic", "top": "periodic"},
}


def force(state: np.ndarray, grid: Grid = GRID, coefficient: float = 0.3, boundary: object = "periodic") -> np.ndarray:
    """What the closure adds to the rate of the two momenta, (member, 2, y, x)."""
    equation, members = ShallowWater(boundary=boundary), tuple(range(len(state)))
    closure = Smagorinsky(coefficient=coefficient)
    memory = closure.start(Problem(equation, grid, 0.01, 1, 0.0, members, 0))
    tendency, _ = closure(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, members)), memory)
    assert not tendency.field[:, 0].any(), "the depth is left alone"
    return tendency.field[:, 1:]


def flow(h: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The state of a depth and a velocity, each (y, x) or a number."""
    h, u, v = (np.broadcast_to(np.asarray(q, dtype=float), GRID.shape) for q in (h, u, v))
    return np.stack([h, h * u, h * v])[None]


def rough(dry: bool = False) -> np.ndarray:
    """Random depth and velocity at every cell, a third of the cells dry if asked for."""
    rng = np.random.default_rng(0)
    h = rng.uniform(0.2, 2.0, GRID.shape)
    if dry:
        h[rng.random(GRID.shape) < 0.1] = 0.0
    return flow(h, *rng.standard_normal((2, *GRID.shape)))


def places() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(*GRID.coordinates(centres=True), indexing="ij")
    return y, x


@pytest.mark.parametrize("axis", [0, 1])
def test_a_shear_layer_decays_by_its_own_viscosity(axis):
    """u(y) = U sin k y: (h u)_t = d_y (nu h u_y), nu = (C Delta)^2 |u_y|, u_y = 2 U sin(k dy / 2) cos(k y) / dy.

    That is the slope at the faces. The discrete form is closed, and goes to -2 h C^2 Delta^2 U^2 k^3 |cos| sin.
    """
    n, length, speed, depth, coefficient = GRID.shape[axis], GRID.length[axis], 0.7, 1.6, 0.3
    spacing, k = length / n, 2 * np.pi / length
    centre = (np.arange(n) + 0.5) * spacing
    profile = speed * np.sin(k * centre)
    along = profile[:, None] if axis == 0 else profile[None]
    found = force(flow(depth, along, 0.0) if axis == 0 else flow(depth, 0.0, along))[0]
    face = np.arange(n + 1) * spacing
    slope = 2 * speed * np.sin(k * spacing / 2) * np.cos(k * face) / spacing
    stress = depth * coefficient**2 * np.prod(GRID.spacing) * np.abs(slope) * slope
    rate = np.diff(stress) / spacing
    expected = np.broadcast_to(rate[:, None] if axis == 0 else rate[None], GRID.shape)
    np.testing.assert_allclose(found[axis], expected, atol=1e-13)
    assert np.abs(found[1 - axis]).max() < 1e-15
    continuous = -2 * depth * coefficient**2 * np.prod(GRID.spacing) * speed**2 * k**3
    continuous *= np.abs(np.cos(k * centre)) * np.sin(k * centre)
    assert np.abs(rate - continuous).max() < 2 * (k * spacing) ** 2 * np.abs(continuous).max()


def test_a_normal_strain_is_resisted_twice_as_much():
    """u(x) alone: (h u)_t = d_x (2 nu h u_x) with |S| = sqrt(2) |u_x|."""
    _, x = places()
    factor = 0.3**2 * np.prod(GRID.spacing)
    u = 0.5 * x**2
    found = force(flow(1.3, u, 0.0), boundary="open")[0, 0, :, 2:-2]
    slope = np.arange(1, GRID.shape[1]) * GRID.spacing[1]  # of x^2 / 2 at the faces, exact
    stress = 2 * np.sqrt(2) * factor * 1.3 * slope**2
    np.testing.assert_allclose(found, np.broadcast_to(np.diff(stress)[1:-1] / GRID.spacing[1], found.shape), rtol=1e-11)


@pytest.mark.parametrize("dry", [False, True])
def test_momentum_is_kept_to_round_off(dry):
    for sides in SIDES.values():
        found = force(rough(dry), boundary=sides)
        assert np.abs(found).max() > 0.1
        np.testing.assert_allclose(found.sum((-2, -1)), 0, atol=1e-12)


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("sides", SIDES)
def test_energy_falls_and_never_rises(sides, dry):
    """sum u . (force) < 0 with sides of any kind, and dry cells feel nothing, nor do they pull."""
    state = rough(dry)
    found = force(state, boundary=SIDES[sides])[0]
    wet = state[0, 0] > 0
    velocity = state[0, 1:] / np.where(wet, state[0, 0], 1.0)
    assert (velocity * found).sum() < -1
    assert not found[:, ~wet].any()
    state[0, 1:, ~wet] = 7.0  # whatever stands in a dry cell
    np.testing.assert_array_equal(force(state, boundary=SIDES[sides])[0], found)


def test_energy_falls_by_exactly_the_dissipation_at_the_corners():
    """sum u . (force) = -sum nu_e h |S|^2, with gradients at corners taken here by rolling, and h the harmonic mean."""
    state = rough()
    h, u, v = state[0, 0], state[0, 1] / state[0, 0], state[0, 2] / state[0, 0]

    def mean(q: np.ndarray, axis: int) -> np.ndarray:
        return 0.5 * (q + np.roll(q, -1, axis))

    def slope(q: np.ndarray, axis: int) -> np.ndarray:
        return mean((np.roll(q, -1, axis) - q) / GRID.spacing[axis], 1 - axis)

    depth = 1 / mean(mean(1 / h, 0), 1)
    square = 2 * slope(u, 1) ** 2 + 2 * slope(v, 0) ** 2 + (slope(u, 0) + slope(v, 1)) ** 2
    dissipation = depth * 0.3**2 * np.prod(GRID.spacing) * square**1.5
    found = force(state)[0]
    np.testing.assert_allclose((u * found[0] + v * found[1]).sum(), -dissipation.sum(), rtol=1e-12)


def test_uniform_motion_and_solid_rotation_are_not_resisted():
    y, x = places()
    moving = rough()
    moving[:, 1] += 3.0 * moving[:, 0]
    moving[:, 2] -= 2.0 * moving[:, 0]
    np.testing.assert_allclose(force(moving), force(rough()), atol=1e-11)
    turning = flow(1 + 0.1 * np.sin(x) * np.cos(y), -2.0 * (y - 1.5), 2.0 * (x - 2.5))
    inner = (..., slice(2, -2), slice(2, -2))
    assert np.abs(force(turning, boundary="open")[inner]).max() < 1e-12
    assert not force(flow(1.0, 2.0, -1.0), boundary="open").any()


def test_water_slides_along_walls():
    """A uniform stream along two walls is not slowed down; along a wall the force is that beside the mirror image."""
    stream = {"left": "periodic", "right": "periodic", "bottom": "wall", "top": "wall"}
    assert not force(flow(1.0, 2.0, 0.0), boundary=stream).any()
    state = rough()
    image = np.array([1.0, 1.0, -1.0])[:, None, None] * state[..., ::-1, :]
    doubled = Grid((2 * GRID.shape[0], GRID.shape[1]), (2 * GRID.length[0], GRID.length[1]))
    between = force(state, boundary=stream)
    free = force(np.concatenate([state, image], axis=-2), doubled)[..., : GRID.shape[0], :]
    np.testing.assert_allclose(between[:, 0], free[:, 0], atol=1e-12)
    np.testing.assert_allclose(between[:, 1, 1:-1], free[:, 1, 1:-1], atol=1e-12)


def test_it_scales_with_coefficient_and_speed():
    once = force(rough(), coefficient=0.1)
    np.testing.assert_allclose(force(rough(), coefficient=0.3), 9 * once, rtol=1e-12)
    faster = rough()
    faster[:, 1:] *= -2
    np.testing.assert_allclose(force(faster, coefficient=0.1), -4 * once, rtol=1e-12)
    assert not force(rough(), coefficient=0.0).any()


def test_a_run_with_it_keeps_momentum_and_loses_energy_faster():
    """Through the solver, with a call every 4 steps."""
    equation = ShallowWater()
    y, x = places()
    k, l = 2 * np.pi / 3.0, 2 * np.pi / 5.0
    state = flow(1.0, np.sin(3 * k * y), 0.5 * np.sin(2 * l * x))
    energies = []
    for closures in ([], [Coupled("smagorinsky", Smagorinsky(coefficient=0.4), every=4)]):
        simulation = Simulation(equation, GRID, "ssp-rk3", 0.005, state, closures=closures)
        simulation.run(80)
        invariants = equation.invariants(simulation.state, GRID)
        for name in ("mass", "momentum_x", "momentum_y"):
            np.testing.assert_allclose(invariants[name], equation.invariants(state, GRID)[name], atol=1e-13)
        energies.append(float(invariants["energy"][0]))
    kinetic = float(equation.invariants(state, GRID)["energy"][0]) - 0.5 * 9.81
    assert energies[0] - energies[1] > 0.02 * kinetic


def test_other_equations_are_refused_by_name():
    for closure, equation, grid, named in (
        (
            Smagorinsky(),
            ChargedParticles(),
            Grid((5,), (5.0,)),
            "Smagorinsky.*shallow-water.*not for charged-particles",
        ),
        (Leith(), ShallowWater(), GRID, "Leith.*not for shallow-water"),
    ):
        with pytest.raises(ClosureError, match=f"{named}.*Remedy"):
            closure.start(Problem(equation, grid, 0.01, 1, 0.0, (0,), 0))
