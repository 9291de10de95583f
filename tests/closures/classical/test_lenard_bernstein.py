"""Collisions in velocity: conserved moments, the Maxwellian at rest, and the relaxation towards it."""

import numpy as np
import pytest

from subgrid.closures.classical.lenard_bernstein import LenardBernstein
from subgrid.solver.closure import ClosureError, Problem, View
from subgrid.solver.equations import Burgers, VlasovPoisson
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.simulation import Simulation


def plane(n: int) -> Grid:
    return Grid((n, 6), (14.0, 8.0), (-7.0, 0.0))


def answer(grid, state, rate=0.5):
    closure, members = LenardBernstein(rate=rate), tuple(range(len(state)))
    memory = closure.start(Problem(VlasovPoisson(), grid, 0.01, 1, 0.0, members, 0))
    return closure(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, members)), memory)[0].field


def velocities(grid):
    return grid.coordinates(centres=True)[0][:, None]


def test_mass_momentum_and_energy_of_every_column_are_conserved_to_round_off():
    grid = plane(40)
    f = np.random.default_rng(0).random((3, 1, *grid.shape))
    found = answer(grid, f)
    for power in range(3):
        moment = (velocities(grid) ** power * found).sum(axis=-2)
        assert np.abs(moment).max() < 1e-12 * np.abs(velocities(grid) ** power * found).sum(axis=-2).max()
    np.testing.assert_array_equal(answer(grid, f[1:2]), found[1:2])
    assert np.abs(found).max() > 0.1


def test_second_order_to_the_collision_operator():
    """d/dv [(v - U) f + T f_v] of two beams, with U and T their mean and variance."""
    errors = []
    for n in (64, 128, 256):
        grid = plane(n)
        v = velocities(grid) + np.zeros(6)
        beams = [(0.6, 1.5, 0.8), (0.4, -2.0, 0.7)]
        parts = [a * np.exp(-0.5 * ((v - c) / s) ** 2) / (s * np.sqrt(2 * np.pi)) for a, c, s in beams]
        mean = sum(a * c for a, c, _ in beams)
        variance = sum(a * (s**2 + (c - mean) ** 2) for a, c, s in beams)
        f, exact = sum(parts), 0.0
        for part, (_, c, s) in zip(parts, beams, strict=True):
            slope = -(v - c) / s**2 * part
            curvature = ((v - c) ** 2 / s**4 - 1 / s**2) * part
            exact = exact + part + (v - mean) * slope + variance * curvature
        errors.append(np.abs(answer(grid, f[None, None], rate=1.0)[0, 0] - exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.9).all(), orders


def test_a_maxwellian_is_nearly_at_rest_and_columns_relax_to_one():
    grid = plane(128)
    v = velocities(grid) + np.zeros(6)
    maxwell = np.exp(-0.5 * (v - 0.3) ** 2) / np.sqrt(2 * np.pi)
    wave = maxwell * (1 + 0.2 * np.cos(6 * v))
    still, moving = (np.abs(answer(grid, f[None, None])).max() for f in (maxwell, wave))
    assert still < 1e-2 * moving
    f = wave[None, None].copy()
    for _ in range(400):
        f += 0.005 * answer(grid, f)  # rate T h / dv^2 = 0.2
    assert np.abs(f[0, 0] - maxwell).max() < 0.05 * np.abs(wave - maxwell).max()


def test_filaments_decay_in_a_run_and_other_equations_are_refused():
    grid = plane(64)
    v = velocities(grid)
    f = (np.exp(-0.5 * v**2) / np.sqrt(2 * np.pi) * (1 + 0.1 * np.cos(10 * v)) + np.zeros(6))[None, None]

    def ripple(*closures):
        simulation = Simulation(VlasovPoisson(), grid, "strang", 0.05, f, closures=closures)
        simulation.run(40)
        return np.abs(np.fft.rfft(simulation.state[0, 0], axis=0))[22].max()

    assert ripple(LenardBernstein(rate=0.02)) < 0.5 * ripple()
    assert np.isfinite(answer(grid, np.zeros_like(f))).all()
    with pytest.raises(ClosureError, match=r"LenardBernstein is made for vlasov-poisson, not for burgers.*Remedy"):
        LenardBernstein().start(Problem(Burgers(viscosity=0.1), Grid((8,), (1.0,)), 0.1, 1, 0.0, (0,), 0))
