"""Backscatter: its budget of energy, and its formula in physical space."""

import numpy as np
import pytest

from subgrid.closures.classical.backscatter import Backscatter
from subgrid.solver.closure import ClosureError, Problem, View
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms

SQUARE = Grid((32, 32), (2 * np.pi, 2 * np.pi))
FLOW = Kolmogorov(viscosity=0.01)
WIDTH = np.pi / 10  # of SQUARE


def answer(closure, grid, state):
    """The tendency that the closure gives for a state (member, field, *grid)."""
    members = tuple(range(len(state)))
    memory = closure.start(Problem(FLOW, grid, 0.01, 1, 0.0, members, 0))
    tendency, _ = closure(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, members)), memory)
    assert tendency.noise is None and tendency.field.shape == state.shape
    return tendency.field


def kept(grid, seed=0, members=3, slope=1.0):
    """Random modes that the 2/3 rule keeps, falling as |k|^-slope, without a mean; (member, 1, *grid)."""
    transforms = Transforms(grid)
    u = transforms.to_spectrum(np.random.default_rng(seed).standard_normal((members, 1, *grid.shape)))
    u *= grid.mask() * np.maximum(grid.shells(), 1.0) ** -slope
    u.reshape(members, -1)[:, 0] = 0
    return transforms.to_physical(u)


def derivative(field, axis):
    """d/dx on the square by full complex transforms: no code in common with what is tested."""
    k = np.fft.fftfreq(32, 1 / 32)
    k[16] = 0
    return np.fft.ifft(1j * (k if axis == 1 else k[:, None]) * np.fft.fft(field, axis=axis - 2), axis=axis - 2).real


def cut(field, largest=10):
    """The modes up to `largest` along each axis."""
    keep = np.abs(np.fft.fftfreq(32, 1 / 32)) <= largest
    return np.fft.ifft2(keep[:, None] * keep * np.fft.fft2(field)).real


def assert_symmetries(closure):
    """A shift, a quarter turn, and the choice of the batch do not matter; a reflection changes the sign."""
    w = kept(SQUARE)
    found = answer(closure, SQUARE, w)
    size = np.abs(found).max()
    np.testing.assert_allclose(
        answer(closure, SQUARE, np.roll(w, (3, 7), (2, 3))), np.roll(found, (3, 7), (2, 3)), atol=1e-12 * size
    )

    def turned(a):
        return np.roll(np.rot90(a, axes=(2, 3)), 1, axis=2)  # about the point at the origin

    np.testing.assert_allclose(answer(closure, SQUARE, turned(w)), turned(found), atol=1e-11 * size)

    def mirrored(a):
        return -np.roll(np.flip(a, 3), 1, axis=3)

    np.testing.assert_allclose(answer(closure, SQUARE, mirrored(w)), mirrored(found), atol=1e-11 * size)
    np.testing.assert_array_equal(answer(closure, SQUARE, w[1:2]), found[1:2])
    np.testing.assert_allclose(cut(found), found, atol=1e-12 * size)


def assert_refusals(closure):
    line = Grid((48,), (2.0,))
    with pytest.raises(ClosureError, match=f"{type(closure).__name__} is made for kolmogorov, not for burgers.*Remedy"):
        closure.start(Problem(Burgers(viscosity=0.1), line, 0.01, 1, 0.0, (0,), 0))


def energy_rate(w, rate):
    """<psi dw/dt> (member,): the change of the kinetic energy."""
    transforms = Transforms(SQUARE)
    psi = transforms.to_physical(transforms.to_spectrum(w) * Operators(SQUARE).inverse_k2)
    return (psi * rate).mean(axis=(1, 2, 3))


def biharmonic(w, coefficient):
    """-lap div(nu_4 grad w) of w (y, x), and <nu_4 |grad w|^2>."""
    u, v = (f[0] for f in FLOW.velocity(w[None], SQUARE))
    u_x, u_y, v_x, v_y = (derivative(f, axis) for f in (u, v) for axis in (1, 0))
    viscosity = coefficient**2 * WIDTH**4 * np.sqrt(2 * u_x**2 + 2 * v_y**2 + (u_y + v_x) ** 2)
    w_x, w_y = derivative(w, 1), derivative(w, 0)
    flux = derivative(viscosity * w_x, 1) + derivative(viscosity * w_y, 0)
    laplacian = derivative(derivative(flux, 1), 1) + derivative(derivative(flux, 0), 0)
    return -cut(laplacian), (viscosity * (w_x**2 + w_y**2)).mean()


@pytest.mark.parametrize("returned", [0.0, 0.9, 1.0])
def test_the_fraction_of_the_energy_that_is_not_returned_is_dissipated(returned):
    w = kept(SQUARE)
    found = answer(Backscatter(coefficient=0.3, returned=returned), SQUARE, w)
    for member, state in enumerate(w[:, 0]):
        term, taken = biharmonic(state, 0.3)
        negative = returned * taken / (state**2).mean()
        laplacian = derivative(derivative(state, 1), 1) + derivative(derivative(state, 0), 0)
        np.testing.assert_allclose(found[member, 0], term - negative * laplacian, atol=1e-11 * np.abs(found).max())
        change = energy_rate(w, found)[member]
        np.testing.assert_allclose(change, -(1 - returned) * taken, rtol=1e-10, atol=1e-13 * taken)


def test_energy_goes_from_small_to_large_scales():
    w = kept(SQUARE, slope=0.0)
    found = answer(Backscatter(coefficient=0.2), SQUARE, w)
    transforms = Transforms(SQUARE)
    exchange = (transforms.to_spectrum(w).conj() * transforms.to_spectrum(found)).real * Operators(SQUARE).inverse_k2
    shells = SQUARE.shells()
    assert exchange[..., (shells > 0) & (shells < 4)].sum() > 0 > exchange[..., shells > 8].sum()


def test_symmetries_and_refusals():
    assert_symmetries(Backscatter())
    assert_refusals(Backscatter())
    np.testing.assert_array_equal(answer(Backscatter(), SQUARE, np.zeros((1, 1, 32, 32))), 0.0)


def test_a_run_with_it_is_stable():
    simulation = Simulation(FLOW, SQUARE, "etdrk4", 0.01, kept(SQUARE), closures=[Backscatter()])
    simulation.run(100)
    assert np.abs(simulation.state).max() < 2 * np.abs(kept(SQUARE)).max()
