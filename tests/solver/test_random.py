import numpy as np
import pytest

from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise, Stream, keys, philox4x32
from subgrid.solver.spectral import Transforms, resample

LINE = Grid((64,), (3.0,))
PLANE = Grid((24, 32), (2.0, 5.0))


def decaying(grid: Grid) -> SpectralNoise:
    k2 = sum(k**2 for k in grid.wavenumbers())
    return SpectralNoise(grid, np.broadcast_to(1 / (1 + k2), grid.spectral_shape).copy())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0x00000000, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_known_answers_of_random123(word, expected):
    assert tuple(int(w) for w in philox4x32.py_func(*[np.uint64(word)] * 6)) == expected


@pytest.mark.parametrize("grid", [LINE, PLANE])
def test_a_member_draws_the_same_alone_and_in_a_batch(grid):
    law = decaying(grid)
    batch = law.sample(3, "equation", (0, 4, 7), step=12)
    assert np.array_equal(batch[2:], law.sample(3, "equation", (7,), step=12))
    assert not np.allclose(batch[0], batch[1])


@pytest.mark.parametrize("other", [{"seed": 4}, {"purpose": "initial"}, {"step": 13}])
def test_seed_purpose_and_step_each_change_the_draw(other):
    same = {"seed": 3, "purpose": "equation", "step": 12}
    law = decaying(LINE)
    a = law.sample(members=(0, 1), **same)
    assert np.array_equal(a, law.sample(members=(0, 1), **same))
    b = law.sample(members=(0, 1), **(same | other))
    correlation = np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert abs(correlation) < 0.9


@pytest.mark.parametrize(("grid", "finer"), [(LINE, (96,)), (PLANE, (40, 36))])
def test_one_realisation_on_every_grid(grid, finer):
    fine = Grid(finer, grid.length)
    coarse = decaying(grid).sample(0, "initial", (0, 1))
    assert np.array_equal(resample(decaying(fine).sample(0, "initial", (0, 1)), fine, grid), coarse)


@pytest.mark.parametrize("grid", [Grid((8,), (2.0,)), Grid((6, 8), (2.0, 3.0))])
def test_variance_of_every_mode(grid):
    """The mean of M draws of |xi|^2 is amplitude^2 within 6 standard errors, at most sqrt(2 / M) each."""
    law, samples = decaying(grid), 4000
    power = np.mean(np.abs(law.sample(1, "variance", tuple(range(samples)))) ** 2, axis=0)
    expected = law.amplitude**2
    for m, n in zip(grid.integer_wavenumbers(), grid.shape, strict=True):
        expected = np.where(2 * np.abs(m) == n, 0.0, expected)
    np.testing.assert_allclose(power, expected, rtol=6 * np.sqrt(2 / samples))


def test_real_and_imaginary_parts_are_independent_and_alike():
    draws = decaying(Grid((8,), (2.0,))).sample(1, "parts", tuple(range(4000)))[:, 1:4]
    square = (draws**2).mean(0) / (np.abs(draws) ** 2).mean(0)
    assert np.abs(square).max() < 6 / np.sqrt(4000)


def test_the_field_is_real():
    """xi(-k) = conj xi(k): transforming back and forth loses nothing."""
    draw = decaying(PLANE).sample(0, "initial", (0,))
    transforms = Transforms(PLANE)
    np.testing.assert_allclose(transforms.to_spectrum(transforms.to_physical(draw)), draw, atol=1e-15)


def test_wrong_amplitude_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(33,\)"):
        SpectralNoise(LINE, np.ones(3))


def test_a_stream_is_a_function_of_seed_purpose_member_and_step():
    batch = Stream(1, "closure/0", 5, (0, 9)).normal((4, 3))
    assert batch.shape == (2, 4, 3)
    assert np.array_equal(batch[1:], Stream(1, "closure/0", 5, (9,)).normal((4, 3)))
    assert not np.array_equal(batch, Stream(1, "closure/0", 6, (0, 9)).normal((4, 3)))


# -- several fields ----------------------------------------------------------------------------------------


def several(grid: Grid, fields: int = 3) -> SpectralNoise:
    return SpectralNoise(grid, np.stack([(f + 1) * decaying(grid).amplitude for f in range(fields)]))


@pytest.mark.parametrize("grid", [LINE, PLANE])
def test_the_first_field_draws_the_numbers_of_a_law_without_fields(grid):
    one, three = (law.sample(3, "equation", (0, 7), step=12) for law in (decaying(grid), several(grid)))
    assert three.shape == (2, 3, *grid.spectral_shape)
    assert np.array_equal(three[:, 0], one)


@pytest.mark.parametrize("grid", [LINE, PLANE])
def test_one_amplitude_holds_for_every_field_with_independent_numbers(grid):
    """As a law that states the amplitude for each field, in any shape of the target."""
    members, fields = (0, 4, 7), 3
    same = SpectralNoise(grid, np.stack([decaying(grid).amplitude] * fields))
    drawn = decaying(grid).sample(3, "equation", members, step=-5, fields=fields)
    assert np.array_equal(drawn, same.sample(3, "equation", members, step=-5))
    flat = np.zeros((len(members) * fields, *grid.spectral_shape), complex)
    same.add_to(flat, keys(3, "equation", members), -5, 1.0)
    assert np.array_equal(flat.reshape(drawn.shape), drawn)
    assert len(np.unique(drawn.reshape(len(members) * fields, -1)[:, 2])) == len(members) * fields


@pytest.mark.parametrize("step", [0, 3, -1, 2**40])
def test_fields_are_independent_of_each_other_and_of_other_steps(step):
    """Over 4000 members: correlations of every pair of fields and of neighbouring steps below 6 standard errors."""
    members, law = tuple(range(4000)), decaying(Grid((8,), (2.0,)))
    draws = np.concatenate([law.sample(1, "fields", members, step + i, fields=3) for i in (0, 1)], axis=1)
    white = draws[..., 2] / law.amplitude[2]
    correlation = np.abs(white.conj().T @ white) / len(members)
    np.testing.assert_allclose(np.diag(correlation), 1, atol=6 / np.sqrt(4000))
    assert (correlation - np.diag(np.diag(correlation))).max() < 6 / np.sqrt(4000)


@pytest.mark.parametrize(("grid", "finer"), [(LINE, (96,)), (PLANE, (40, 36))])
def test_every_field_is_the_same_alone_in_a_batch_and_on_every_grid(grid, finer):
    fine = Grid(finer, grid.length)
    coarse = several(grid).sample(0, "initial", (0, 5), step=9)
    assert np.array_equal(coarse[1:], several(grid).sample(0, "initial", (5,), step=9))
    assert np.array_equal(resample(several(fine).sample(0, "initial", (0, 5), step=9), fine, grid), coarse)


def test_a_field_is_negligible_by_its_own_largest_amplitude():
    """Fields have units of their own: a field that is small throughout is drawn."""
    amplitude = np.stack([decaying(LINE).amplitude, 1e-20 * decaying(LINE).amplitude])
    assert np.array_equal(SpectralNoise(LINE, amplitude).amplitude > 0, decaying(LINE).amplitude > 0 * amplitude)


def test_the_fields_are_real():
    draw = several(PLANE).sample(0, "initial", (0, 1))
    transforms = Transforms(PLANE)
    np.testing.assert_allclose(transforms.to_spectrum(transforms.to_physical(draw)), draw, atol=1e-15)


@pytest.mark.parametrize("fields", [1, 2, 4])
def test_noise_for_another_number_of_fields_is_refused(fields):
    with pytest.raises(ValueError, match=f"noise for 3 fields cannot be added to {fields} fields"):
        several(LINE).sample(0, "initial", (0,), fields=fields)
