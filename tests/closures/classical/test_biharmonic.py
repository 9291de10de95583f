"""Biharmonic viscosity of shallow water: conservation, the sign of the energy budget, and its formula."""

import numpy as np
import pytest

from subgrid.closures.classical.biharmonic import Biharmonic
from subgrid.closures.classical.eddy_viscosity import Smagorinsky
from subgrid.solver.closure import ClosureError, Problem, View
from subgrid.solver.equations import Burgers, ShallowWater
from subgrid.solver.equations.shallow_water.equation import Sides
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream

OBLONG = Grid((20, 28), (3.0, 5.0))
SIDES = [
    Sides(left="periodic", right="periodic", bottom="wall", top="open"),
    Sides(left="wall", right="open", bottom="wall", top="wall"),
]


def rate(state, grid, coefficient=0.2, boundary="periodic", closure=Biharmonic):
    made, members = closure(coefficient=coefficient), tuple(range(len(state)))
    memory = made.start(Problem(ShallowWater(boundary=boundary), grid, 0.01, 1, 0.0, members, 0))
    tendency, _ = made(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, members)), memory)
    assert tendency.field.shape == state.shape and not tendency.field[:, 0].any()
    return tendency.field


def rough(dry=0.0, members=2):
    noise = np.random.default_rng(0)
    h = noise.uniform(0.2, 2.0, (members, *OBLONG.shape)) * (noise.uniform(size=(members, *OBLONG.shape)) >= dry)
    return np.stack([h, h * noise.standard_normal(h.shape), h * noise.standard_normal(h.shape)], axis=1)


@pytest.mark.parametrize("boundary", ["periodic", *SIDES])
@pytest.mark.parametrize("dry", [0.0, 0.3])
def test_momentum_is_kept_energy_falls_and_a_frame_in_motion_sees_the_same(boundary, dry):
    state = rough(dry)
    found = rate(state, OBLONG, boundary=boundary)
    assert np.abs(found.sum((-2, -1))).max() < 1e-12 * np.abs(found).sum((-2, -1)).max()
    u, v = ShallowWater().velocities(state)
    assert ((u * found[:, 1] + v * found[:, 2]).sum((-2, -1)) < 0).all()
    assert not found[np.broadcast_to(state[:, :1] == 0, state.shape)].any()
    np.testing.assert_array_equal(rate(state[1:], OBLONG, boundary=boundary), found[1:])
    if boundary == "periodic":
        moving = state + state[:, :1] * np.array([0.0, 3.0, -7.0])[:, None, None]
        np.testing.assert_allclose(rate(moving, OBLONG), found, atol=1e-11 * np.abs(found).max())


def test_second_order_to_the_operator_applied_twice():
    """u = sin y over h = 1.5 with m = sqrt|cos y|, at a fixed C Delta^2 = 1, where the strain |cos y| has no kinks.

    A u = (m u')' and m (A u)' = -1.5 (|cos y| cos y - sign(cos y) sin^2 y / 2): the force is -1.5 times its derivative.
    """
    errors = []
    for n in (64, 128, 256):
        grid = Grid((n, n), (2 * np.pi, 2 * np.pi))
        y = grid.coordinates(centres=True)[0][:, None] + np.zeros(n)
        state = np.stack([np.full_like(y, 1.5), 1.5 * (2.0 + np.sin(y)), 0 * y])[None]
        found = rate(state, grid, coefficient=(n / (2 * np.pi)) ** 2)[0, 1]
        exact = -1.5 * 1.5 * 3 * np.sign(np.cos(y)) * np.cos(y) * np.sin(y)
        inside = np.abs(np.cos(y)) > 0.4
        errors.append(np.abs(found - exact)[inside].mean())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.8).all(), (errors, orders)


def test_large_scales_are_damped_less_than_by_the_harmonic_closure():
    """Decay rates of long and short waves of a shear, in units of those of smagorinsky."""
    y = OBLONG.coordinates(centres=True)[0][:, None] + np.zeros(28)

    def ratio(wave):
        u = np.sin(2 * np.pi * wave * y / 3.0)
        state = np.stack([np.ones_like(u), u, 0 * u])[None]
        damped = [-(u * rate(state, OBLONG, closure=c)[0, 1]).sum() for c in (Biharmonic, Smagorinsky)]
        return damped[0] / damped[1]

    assert 0 < 10 * ratio(1) < ratio(6)


def test_other_equations_are_refused():
    with pytest.raises(ClosureError, match=r"Biharmonic is made for shallow-water, not for burgers.*Remedy"):
        Biharmonic().start(Problem(Burgers(viscosity=0.1), Grid((8,), (1.0,)), 0.1, 1, 0.0, (0,), 0))
