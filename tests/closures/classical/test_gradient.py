"""The gradient model against the flux of a Gaussian filter, and its stabilised form by its enstrophy."""

import numpy as np
import pytest

from subgrid.closures.classical.gradient import Gradient
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


def smooth():
    """Vorticity in the modes 1 and 2, whose products the grid resolves; (1, 1, y, x)."""
    y, x = np.meshgrid(*SQUARE.coordinates(), indexing="ij")
    return (np.cos(x + 2 * y) + 0.7 * np.sin(2 * x - y) + 0.4 * np.cos(x) - 0.5 * np.sin(2 * y))[None, None]


def gaussian(field, variance):
    k = np.fft.fftfreq(32, 1 / 32)
    return np.fft.ifft2(np.exp(-0.5 * variance * (k[:, None] ** 2 + k**2)) * np.fft.fft2(field)).real


def test_it_is_the_subgrid_flux_of_a_gaussian_filter_to_fourth_order():
    """Variance c Delta^2 / 12; halving the width divides the error by 16."""
    errors = []
    for coefficient in (0.4, 0.1):
        variance = coefficient * WIDTH**2 / 12
        w = smooth()
        u, v = FLOW.velocity(w, SQUARE)
        flux = [gaussian(a * w, variance) - gaussian(a, variance) * gaussian(w, variance) for a in (u, v)]
        exact = -derivative(flux[0], 1) - derivative(flux[1], 0)
        closure = Gradient(coefficient=coefficient, stabilised=False)
        errors.append(np.abs(answer(closure, SQUARE, gaussian(w, variance)) - exact).max())
    assert 14 < errors[0] / errors[1] < 18


@pytest.mark.parametrize("coefficient", [1.0, 2.0])
def test_the_stabilised_form_keeps_the_dissipative_part_of_the_strain(coefficient):
    w = kept(SQUARE, slope=2.0)
    found = answer(Gradient(coefficient=coefficient), SQUARE, w)
    w_, u, v = w[:, 0], *(f[:, 0] for f in FLOW.velocity(w, SQUARE))
    xx, xy = derivative(u, 1), 0.5 * (derivative(u, 0) + derivative(v, 1))
    rotation = 0.5 * (derivative(v, 1) - derivative(u, 0))
    strain = np.stack([np.stack([xx, xy], -1), np.stack([xy, -xx], -1)], -2)
    values, vectors = np.linalg.eigh(strain)
    negative = np.einsum("...ik,...k,...jk->...ij", vectors, np.minimum(values, 0), vectors)
    a = negative + rotation[..., None, None] * np.array([[0.0, -1.0], [1.0, 0.0]])
    gradient = np.stack([derivative(w_, 1), derivative(w_, 0)], -1)
    flux = coefficient * WIDTH**2 / 12 * np.einsum("...ik,...k->...i", a, gradient)
    expected = cut(-derivative(flux[..., 0], 1) - derivative(flux[..., 1], 0))
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-11 * np.abs(found).max())
    assert ((w * found).mean(axis=(1, 2, 3)) < 0).all()


def test_the_plain_form_sharpens_where_the_stabilised_one_does_not():
    """Runs with the plain form alone grow; the stabilised form lets no run grow."""
    w = kept(SQUARE, slope=0.5)

    def enstrophy(stabilised):
        closures = [Gradient(stabilised=stabilised, coefficient=4.0)]
        inviscid = Kolmogorov(viscosity=0.0)
        simulation = Simulation(inviscid, SQUARE, "rk4", 0.01, w, closures=closures, guard="off")
        simulation.run(100)
        return (simulation.state**2).mean() / (w**2).mean()

    assert enstrophy(True) < 0.9 and enstrophy(False) > 1.01


def test_symmetries_and_refusals():
    assert_symmetries(Gradient())
    assert_symmetries(Gradient(stabilised=False))
    assert_refusals(Gradient())
