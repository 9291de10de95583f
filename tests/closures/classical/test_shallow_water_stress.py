"""Smagorinsky's eddy viscosity of shallow water against what its formula says."""

import numpy as np
import pytest

from subgrid.closures.classical.eddy_viscosity import Smagorinsky
from subgrid.solver.closure import Problem, View
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.shallow_water.equation import Sides
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream

OBLONG = Grid((20, 28), (3.0, 5.0))
SIDES = [
    Sides(left="periodic", right="periodic", bottom="wall", top="open"),
    Sides(left="open", right="wall", bottom="periodic", top="periodic"),
    Sides(left="wall", right="open", bottom="wall", top="wall"),
]


def rate(state, grid, coefficient=0.17, boundary="periodic"):
    """The tendency that the closure gives for a state (member, 3, y, x)."""
    closure, members = Smagorinsky(coefficient=coefficient), tuple(range(len(state)))
    equation = ShallowWater(boundary=boundary)
    memory = closure.start(Problem(equation, grid, 0.01, 1, 0.0, members, 0))
    tendency, _ = closure(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, members)), memory)
    assert tendency.field.shape == state.shape and not tendency.field[:, 0].any()
    return tendency.field


def flowing(h, u, v):
    return np.stack([h, h * u, h * v])[None]


def random_state(grid, dry=0.0, members=2, seed=0):
    """Rough depths, velocities of order 1, and a fraction of dry cells."""
    noise = np.random.default_rng(seed)
    h = noise.uniform(0.2, 2.0, (members, *grid.shape)) * (noise.uniform(size=(members, *grid.shape)) >= dry)
    return np.stack([h, h * noise.standard_normal(h.shape), h * noise.standard_normal(h.shape)], axis=1)


def velocities(state):
    return ShallowWater().velocities(state)


def derivative(field, axis):
    """d/dx on a periodic square of side 2 pi, by full transforms."""
    k = np.fft.fftfreq(field.shape[axis], 1 / field.shape[axis])
    k[len(k) // 2] = 0
    spectrum = np.fft.fft(field, axis=axis) * 1j * (k[:, None] if axis == 0 else k)
    return np.fft.ifft(spectrum, axis=axis).real


def shear_flow(y, x):
    """u = sin y over h = 1.5, and d_y(h |u_y| u_y) = -3 |cos y| sin y."""
    u = np.sin(y) + 0 * x
    return np.full_like(u, 1.5), u, 0 * u, -3 * np.abs(np.cos(y)) * u, 0 * u


def smooth_flow(y, x):
    """A strain that nowhere vanishes over a depth that varies, div(h |S| (grad u + grad u^T)) by Fourier series."""
    h = 1 + 0.3 * np.sin(x) * np.cos(y)
    u, v = np.sin(x) + 0.2 * np.sin(y), 1.5 * np.cos(x) + 0.2 * np.cos(x + y)
    u_x, v_y, shear = derivative(u, 1), derivative(v, 0), derivative(u, 0) + derivative(v, 1)
    thick = h * np.sqrt(2 * u_x**2 + 2 * v_y**2 + shear**2)
    force_x = derivative(2 * thick * u_x, 1) + derivative(thick * shear, 0)
    force_y = derivative(thick * shear, 1) + derivative(2 * thick * v_y, 0)
    return h, u, v, force_x, force_y


@pytest.mark.parametrize("flow", [shear_flow, smooth_flow])
def test_second_order_to_the_divergence_of_the_stress(flow):
    """At a fixed C Delta = 1; in the mean norm, as the stress of the shear flow has kinks where |S| = 0."""
    errors = []
    for n in (32, 64, 128):
        grid = Grid((n, n), (2 * np.pi, 2 * np.pi))
        h, u, v, force_x, force_y = flow(*np.meshgrid(*grid.coordinates(centres=True), indexing="ij"))
        found = rate(flowing(h, u, v), grid, coefficient=n / (2 * np.pi))
        errors.append(np.abs(found[0, 1:] - np.stack([force_x, force_y])).mean())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.9).all(), (errors, orders)


@pytest.mark.parametrize("boundary", ["periodic", *SIDES])
@pytest.mark.parametrize("dry", [0.0, 0.3])
def test_momentum_is_kept_energy_falls_and_a_frame_in_motion_sees_the_same(boundary, dry):
    """Nothing flows through walls, open sides and dry faces, so the sums vanish to round-off over any of them."""
    state = random_state(OBLONG, dry)
    found = rate(state, OBLONG, boundary=boundary)
    assert np.abs(found.sum((-2, -1))).max() < 1e-13 * np.abs(found).sum((-2, -1)).max()
    u, v = velocities(state)
    assert ((u * found[:, 1] + v * found[:, 2]).sum((-2, -1)) < 0).all()
    assert not found[np.broadcast_to(state[:, :1] == 0, state.shape)].any()
    if boundary == "periodic":
        moving = state + state[:, :1] * np.array([0.0, 3.0, -7.0])[:, None, None]
        np.testing.assert_allclose(rate(moving, OBLONG), found, atol=1e-12 * np.abs(found).max())


@pytest.mark.parametrize("boundary", ["periodic", *SIDES])
def test_axes_are_alike(boundary):
    """x and y, u and v exchanged; and mirrored in x where the sides are the same."""
    state = random_state(OBLONG, dry=0.2)
    turned = boundary
    if isinstance(boundary, Sides):
        left, right, bottom, top = boundary.all
        turned = Sides(left=bottom, right=top, bottom=left, top=right)
    found = rate(state, OBLONG, boundary=boundary)
    other = rate(state.swapaxes(2, 3)[:, [0, 2, 1]], Grid(OBLONG.shape[::-1], OBLONG.length[::-1]), boundary=turned)
    np.testing.assert_allclose(other, found.swapaxes(2, 3)[:, [0, 2, 1]], atol=1e-12 * np.abs(found).max())
    if boundary == "periodic":
        sign = np.array([1.0, -1.0, 1.0])[:, None, None]
        mirrored = rate(sign * state[..., ::-1], OBLONG)
        np.testing.assert_allclose(mirrored, sign * found[..., ::-1], atol=1e-12 * np.abs(found).max())


@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_rigid_rotation_has_no_stress(boundary):
    """Neither in the interior, over any depth, nor beside dry ground, nor does it change the stress of another flow; at
    the sides the water is not in rotation."""
    y, x = np.meshgrid(*OBLONG.coordinates(centres=True), indexing="ij")
    h = random_state(OBLONG, dry=0.2)[0, 0]
    found = rate(flowing(h, -0.7 * (y - 1), 0.7 * (x - 2)), OBLONG, coefficient=1.0, boundary=boundary)
    assert np.abs(found[..., 2:-2, 2:-2]).max() < 1e-12
    _, u, v = np.moveaxis(random_state(OBLONG), 1, 0)[:, 0]
    still, turning = (
        rate(flowing(h, u - spin * y, v + spin * x), OBLONG, boundary=boundary)[..., 2:-2, 2:-2] for spin in (0, 0.7)
    )
    np.testing.assert_allclose(turning, still, atol=1e-12 * np.abs(still).max())


def test_waters_apart_do_not_feel_each_other():
    """A dry line parts two waters: neither feels the motion of the other, also not across the corner of a cell."""
    state = random_state(OBLONG)
    state[..., 10, :] = state[..., [0, -1], :] = 0.0
    state[..., 10, 5], state[..., 11, 5] = 0.0, 0.0
    calm = state.copy()
    calm[:, 1:, 11:] = 0.0
    found, without = rate(state, OBLONG, boundary="wall"), rate(calm, OBLONG, boundary="wall")
    assert np.array_equal(found[..., :10, :], without[..., :10, :])
    assert not without[..., 11:, :].any() and found[..., 11:, :].any()


def test_a_wall_is_the_axis_of_a_symmetric_flow():
    """Free slip: half of a mirrored flow between walls feels what the whole does, but for the normal stress on the
    wall."""
    half = random_state(Grid((10, 28), (1.5, 5.0)))
    mirrored = half[:, :, ::-1] * np.array([1.0, 1.0, -1.0])[:, None, None]
    whole = rate(np.concatenate([half, mirrored], axis=2), OBLONG)
    found = rate(
        half, Grid((10, 28), (1.5, 5.0)), boundary=Sides(left="periodic", right="periodic", bottom="wall", top="wall")
    )
    scale = np.abs(whole).max()
    np.testing.assert_allclose(found[:, 1], whole[:, 1, :10], atol=1e-12 * scale)
    np.testing.assert_allclose(found[:, 2, 1:-1], whole[:, 2, 1:9], atol=1e-12 * scale)


def test_the_acceleration_of_shallow_cells_is_bounded():
    """Depths over ten decades: |d(h u)/dt| <= h nu_e / dx^2 times a number, however deep the neighbours are."""
    grid = Grid((24, 24), (1.0, 1.0))
    state = random_state(grid)
    u, v = velocities(state)
    deep = 10.0 ** -np.random.default_rng(3).uniform(0, 7, (2, 24, 24))
    found = rate(np.stack([deep, deep * u, deep * v], axis=1), grid)
    fastest = max(np.abs(u).max(), np.abs(v).max())
    viscosity = 0.17**2 * 8 * fastest / grid.spacing[0]  # nu_e / dx^2, as |S| <= 8 max|u| / dx
    assert np.abs(found[:, 1:] / deep[:, None]).max() < 32 * viscosity * fastest
