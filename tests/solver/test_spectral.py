import importlib.util

import numpy as np
import pytest

from subgrid.solver import spectral
from subgrid.solver.grid import Grid
from subgrid.solver.spectral import Operators, Transforms, resample, spectrum

INSTALLED = [
    name
    for name, module in {"fftw": "pyfftw", "ducc": "ducc0", "scipy": "scipy"}.items()
    if importlib.util.find_spec(module)
]
GRIDS = [Grid((48,), (3.0,)), Grid((15,), (1.0,)), Grid((24, 32), (2.0, 5.0)), Grid((15, 20), (1.0, 1.0))]


@pytest.fixture(params=INSTALLED)
def library(request, monkeypatch):
    monkeypatch.setattr(spectral, "library", lambda: request.param)
    return request.param


def noise(grid: Grid, members: int = 2) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((members, 1, *grid.shape))


@pytest.mark.parametrize("grid", GRIDS)
def test_round_trip(library, grid):
    u, transforms = noise(grid), Transforms(grid)
    np.testing.assert_allclose(transforms.to_physical(transforms.to_spectrum(u)), u, atol=1e-14)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_wave_has_the_coefficients_of_its_exponentials(library, grid):
    """3 + 2 cos(k x) has u_hat_0 = 3 and u_hat_{+-k} = 1 on every grid; the last axis stores k > 0 only."""
    x = grid.coordinates()[-1] / grid.length[-1]
    u = np.broadcast_to(3 + 2 * np.cos(2 * np.pi * 4 * x), grid.shape)
    expected = np.zeros(grid.spectral_shape)
    expected.reshape(-1, grid.spectral_shape[-1])[0, [0, 4]] = 3, 1
    np.testing.assert_allclose(Transforms(grid).to_spectrum(u), expected, atol=1e-14)


@pytest.mark.parametrize("grid", [g for g in GRIDS if g.dimensions == 2] + [Grid((160, 128), (1.0, 2.0))])
def test_two_real_fields_go_through_as_one_complex_field(library, grid):
    """Squared pointwise on the way, in one block of rows or several, on the modes that the 2/3 rule keeps."""
    transforms = Transforms(grid)
    u, v = (transforms.to_physical(transforms.to_spectrum(f) * grid.mask()) for f in noise(grid))
    q = u + 1j * v
    spectrum, square = transforms.through(1, spectral.square)
    spectrum[...] = np.fft.fft2(q, norm="forward")
    square()
    keep = [abs(np.fft.fftfreq(n, 1 / n)) <= cut for n, cut in zip(grid.shape, grid.cuts, strict=True)]
    kept = np.logical_and.outer(*keep)
    expected = np.fft.fft2(q**2, norm="forward")
    np.testing.assert_allclose((spectrum * transforms.scale)[:, kept], expected[:, kept], atol=1e-14)


@pytest.mark.parametrize("shape", [(48, 48), (64, 64), (96, 80), (192, 160)])
def test_a_field_alone_goes_through_to_the_bits_that_it_has_in_a_batch(shape):
    """By the libraries that a run takes, for lengths that either of them transforms."""
    grid = Grid(shape, (1.0, 1.0))
    transforms = Transforms(grid)
    filtered = transforms.to_physical(transforms.to_spectrum(noise(grid, 5)) * grid.mask())
    given = np.fft.fft2(filtered[:, 0], norm="forward")

    def through(part: np.ndarray) -> np.ndarray:
        spectrum, square = Transforms(grid).through(len(part), spectral.square)
        spectrum[...] = part
        square()
        cut = grid.cuts[-1]
        return np.delete(spectrum, range(cut + 1, shape[-1] - cut), axis=-1)

    for count in (2, 3, 5):
        alone = np.concatenate([through(given[i : i + 1]) for i in range(count)])
        np.testing.assert_array_equal(through(given[:count]), alone)


@pytest.mark.parametrize("grid", GRIDS)
def test_array_code_and_planned_transforms_agree(library, grid):
    operators, u = Operators(grid), noise(grid)
    u_hat = Transforms(grid).to_spectrum(u)
    np.testing.assert_allclose(operators.forward(u), u_hat, atol=1e-15)
    np.testing.assert_allclose(operators.inverse(u_hat), u, atol=1e-14)


@pytest.mark.parametrize("grid", GRIDS)
def test_parseval(grid):
    u = noise(grid, 1)
    power = grid.half_plane_weight() * np.abs(Transforms(grid).to_spectrum(u)) ** 2
    np.testing.assert_allclose(power.sum(), (u**2).mean(), rtol=1e-13)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_shell_spectrum_sums_to_the_energy(grid):
    u = noise(grid)
    shells = spectrum(Transforms(grid).to_spectrum(u), grid, np.full(grid.spectral_shape, 0.5))
    energy = 0.5 * (u**2).reshape(2, 1, -1).mean(-1)
    np.testing.assert_allclose(shells.sum(-1), energy, rtol=1e-13)


@pytest.mark.parametrize(("source", "target"), [((24, 32), (36, 20)), ((24, 32), (48, 64)), ((36, 20), (24, 32))])
def test_resampling_is_exact_for_waves_that_both_grids_hold(source, target):
    length = (2.0, 5.0)

    def field(grid: Grid) -> np.ndarray:
        y, x = np.meshgrid(*(2 * np.pi * c / p for c, p in zip(grid.coordinates(), length, strict=True)), indexing="ij")
        return 1 + np.cos(9 * x - 7 * y) + np.sin(3 * x + 11 * y) + np.sin(2 * y)

    a, b = Grid(source, length), Grid(target, length)
    moved = Transforms(b).to_physical(resample(Transforms(a).to_spectrum(field(a)), a, b))
    np.testing.assert_allclose(moved, field(b), atol=1e-13)


def test_resampling_drops_nyquist_and_on_request_all_beyond_the_cut():
    fine, coarse = Grid((64,), (1.0,)), Grid((32,), (1.0,))
    ones = np.ones((1, *fine.spectral_shape), dtype=complex)
    assert np.array_equal(resample(ones, fine, coarse)[0], [1.0] * 16 + [0.0])
    assert np.array_equal(resample(ones, fine, coarse, dealias=True)[0], coarse.mask().astype(float))


def test_unknown_library_is_refused(monkeypatch):
    monkeypatch.setenv("SUBGRID_FFT", "fftpack")
    with pytest.raises(ValueError, match="SUBGRID_FFT is 'fftpack'; expected fftw, ducc or scipy"):
        spectral.library.__wrapped__()


@pytest.mark.parametrize("n", [20, 32, 48, 64, 100, 128, 256])
def test_a_line_alone_has_the_bits_of_the_line_in_a_batch(n):
    """FFTW takes another algorithm for a single line of some lengths."""
    transforms, rows = Transforms(Grid((n,), (6.0,))), np.random.default_rng(0).standard_normal((6, 1, n))
    spectra = transforms.to_spectrum(rows)
    assert np.array_equal(spectra, np.concatenate([transforms.to_spectrum(rows[i : i + 1]) for i in range(6)]))
    values = transforms.to_physical(spectra)
    assert np.array_equal(values, np.concatenate([transforms.to_physical(spectra[i : i + 1]) for i in range(6)]))
