"""The dynamic model against its formula, component by component, in physical space."""

import numpy as np
import pytest

from subgrid.closures.classical.dynamic_smagorinsky import DynamicSmagorinsky
from subgrid.closures.classical.eddy_viscosity import Smagorinsky
from subgrid.solver.closure import ClosureError, Problem, View
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
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


def coefficient(w, flux, ratio=2.0):
    """<L.M> / <M.M> of w (y, x), from velocities and full vectors or tensors."""

    def hat(a):
        return cut(a, int(10 / ratio))

    velocity = [f[0] for f in FLOW.velocity(w[None], SQUARE)]
    filtered = [hat(a) for a in velocity]

    def strains(pair):
        gradient = [[derivative(a, axis) for axis in (1, 0)] for a in pair]
        return [[0.5 * (gradient[i][j] + gradient[j][i]) for j in range(2)] for i in range(2)]

    s, s_ = strains(velocity), strains(filtered)
    size, size_ = (np.sqrt(2 * sum(t[i][j] ** 2 for i in range(2) for j in range(2))) for t in (s, s_))
    if flux == "vorticity":
        found = [hat(velocity[i] * w) - filtered[i] * hat(w) for i in range(2)]
        slope = [derivative(w, axis) for axis in (1, 0)]
        model = [WIDTH**2 * (hat(size * a) - ratio**2 * size_ * hat(a)) for a in slope]
    else:
        stress = [[hat(velocity[i] * velocity[j]) - filtered[i] * filtered[j] for j in range(2)] for i in range(2)]
        trace = 0.5 * (stress[0][0] + stress[1][1])
        found = [stress[i][j] - (i == j) * trace for i in range(2) for j in range(2)]
        model = [2 * WIDTH**2 * (hat(size * s[i][j]) - ratio**2 * size_ * s_[i][j]) for i in range(2) for j in range(2)]
    return sum((a * b).mean() for a, b in zip(found, model, strict=True)) / sum((b * b).mean() for b in model)


@pytest.mark.parametrize("flux", ["vorticity", "momentum"])
@pytest.mark.parametrize("ratio", [2.0, 2.5])
def test_the_coefficient_is_that_of_germano_and_lilly_for_each_member(flux, ratio):
    w = kept(SQUARE, slope=1.5)
    closure = DynamicSmagorinsky(flux=flux, ratio=ratio)
    found = answer(closure, SQUARE, w)
    expected = np.array([coefficient(a[0], flux, ratio) for a in w])
    assert len(set(expected)) == 3
    spectrum = Transforms(SQUARE).to_spectrum(w[:, 0])
    np.testing.assert_allclose(closure.coefficient(spectrum), np.maximum(expected, 0), rtol=1e-9)
    for member, c in enumerate(np.maximum(expected, 0)):
        fixed = answer(Smagorinsky(coefficient=np.sqrt(c)), SQUARE, w[member : member + 1])
        np.testing.assert_allclose(found[member : member + 1], fixed, atol=1e-11 * max(np.abs(found).max(), 1e-30))


@pytest.mark.parametrize("flux", ["vorticity", "momentum"])
def test_a_negative_coefficient_is_clipped(flux):
    states = [kept(SQUARE, seed, members=1, slope=s) for seed in range(20) for s in (0.0, 3.0)]
    signs = np.array([coefficient(w[0, 0], flux) for w in states])
    assert (signs < 0).any() and (signs > 0).any()
    for w, sign in zip(states, signs, strict=True):
        found = answer(DynamicSmagorinsky(flux=flux), SQUARE, w)
        assert found.any() == (sign > 0)
        assert (energy_rate(w, found) <= 0).all()


def test_laminar_shear_has_no_eddy_viscosity():
    y = SQUARE.coordinates()[0][:, None] + np.zeros(32)
    w = np.cos(y)[None, None]
    assert np.abs(answer(Smagorinsky(), SQUARE, w)).max() > 1e-3
    np.testing.assert_allclose(answer(DynamicSmagorinsky(), SQUARE, w), 0.0, atol=1e-14)
    np.testing.assert_array_equal(answer(DynamicSmagorinsky(), SQUARE, 0 * w), 0.0)


def test_symmetries_and_refusals():
    for flux in ("vorticity", "momentum"):
        assert_symmetries(DynamicSmagorinsky(flux=flux))
    assert_refusals(DynamicSmagorinsky())
