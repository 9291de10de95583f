import numpy as np
import pytest
import torch

from subgrid.closures.learning.fourier_modes import from_low_modes, low_modes, sharp_cut
from subgrid.closures.learning.learned_term import LearnedTerm, anomaly, build, phase_space, vorticity_velocity
from subgrid.closures.learning.networks import QuadraticSpectralNetwork

KINDS = {
    "quadratic": {"modes": 8, "pairs": 3},
    "fno": {"modes": 6, "width": 8, "layers": 2},
    "cnn": {"width": 8, "layers": 3},
}


def smooth_field(samples, fields, grid, highest, seed=0):
    """A random real field with modes |k_i| <= highest only: the same function of position on every grid."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2 * highest + 1, highest + 1)[-len(grid) :]
    spectrum = torch.randn(samples, fields, *shape, dtype=torch.complex64, generator=generator)
    return from_low_modes(spectrum / spectrum[0, 0].numel() ** 0.5, grid)


def network(kind, dimensions, fields=1, **options):
    torch.manual_seed(1)
    return build(kind, KINDS[kind] | options, fields, dimensions)


def largest(value):
    return value.abs().max().item()


@pytest.mark.parametrize("grid", [(12,), (15,), (12, 16), (15, 9)])
def test_low_modes_are_those_of_the_fft(grid):
    field = torch.randn(2, 3, *grid)
    axes = tuple(range(-len(grid), 0))
    full = torch.fft.rfftn(field, dim=axes, norm="forward")[..., :5]
    if len(grid) == 2:
        full = torch.cat([full[..., :5, :], full[..., -4:, :]], dim=-2)
    assert torch.allclose(low_modes(field, 4, len(grid)), full, atol=1e-6)


@pytest.mark.parametrize("grid", [(12,), (16, 12)])
def test_fields_of_low_modes_survive_the_round_trip(grid):
    field = smooth_field(2, 2, grid, 4)
    assert torch.allclose(from_low_modes(low_modes(field, 5, len(grid)), grid), field, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [1, 2])
@torch.inference_mode()
def test_networks_commute_with_shifts_by_grid_points(kind, dimensions):
    model = network(kind, dimensions, fields=2)
    state = torch.randn(3, 2, *(20, 24)[-dimensions:])
    shifts, axes = (3, -5)[-dimensions:], tuple(range(-dimensions, 0))
    before, after = model(state.roll(shifts, axes)), model(state).roll(shifts, axes)
    assert largest(model(state)) > 1e-3
    assert largest(before - after) < 1e-5 * largest(after)


@torch.inference_mode()
def test_quadratic_network_commutes_with_shifts_by_fractions_of_a_grid_point():
    model = network("quadratic", 1)
    spectrum = low_modes(smooth_field(2, 1, (32,), 4), 4, 1)
    phase = torch.exp(-0.3j * torch.arange(17))
    before = model(from_low_modes(spectrum * phase[:5], (32,)))
    after = from_low_modes(low_modes(model(from_low_modes(spectrum, (32,))), 8, 1) * phase[:9], (32,))
    assert largest(before - after) < 1e-5 * largest(after)


@pytest.mark.parametrize("dimensions", [1, 2])
@torch.inference_mode()
def test_quadratic_weights_give_the_same_modes_on_every_grid(dimensions):
    model = network("quadratic", dimensions)
    coarse, fine = (smooth_field(2, 1, (points,) * dimensions, 4) for points in (32, 64))
    on_coarse, on_fine = (low_modes(model(state), 12, dimensions) for state in (coarse, fine))
    assert largest(on_coarse - on_fine) < 1e-5 * largest(on_fine)


@pytest.mark.parametrize("dimensions", [1, 2])
@torch.inference_mode()
def test_fno_weights_give_nearly_the_same_modes_on_a_frontier(dimensions):
    model = network("fno", dimensions)
    coarse, fine = (smooth_field(2, 1, (points,) * dimensions, 3) for points in (64, 128))
    on_coarse, on_fine = (low_modes(model(state), 6, dimensions) for state in (coarse, fine))
    assert largest(on_coarse - on_fine) < 1e-3 * largest(on_fine)


@torch.inference_mode()
def test_products_are_free_of_aliasing():
    """A pure product of the top modes, against the same product formed in float64 on a large grid."""
    model = QuadraticSpectralNetwork(1, 1, 1, modes=8, pairs=1, linear=False, zero_mean=False)
    state = smooth_field(1, 1, (20,), 4)
    factors, products = (
        torch.view_as_complex(weights.data).numpy().astype(complex)[:, 0] for weights in (model.factors, model.products)
    )
    spectrum = np.fft.rfft(state.numpy().astype(float), norm="forward")[0, :, :5]
    left, right = np.fft.irfft(factors * spectrum, 256, norm="forward")
    expected = np.zeros(11, dtype=complex)
    expected[:9] = products[0] * np.fft.rfft(left * right, norm="forward")[:9]
    found = np.fft.rfft(model(state).numpy()[0, 0], norm="forward")
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@torch.inference_mode()
def test_a_quadratic_network_without_its_linear_part_is_quadratic():
    model = network("quadratic", 2, linear=False)
    state = smooth_field(1, 1, (24, 24), 4)
    assert largest(model(-3 * state) - 9 * model(state)) < 1e-5 * largest(9 * model(state))
    assert largest(network("quadratic", 2)(-state) - network("quadratic", 2)(state)) > 1e-3


def test_working_grid_holds_the_products_and_no_more():
    assert network("quadratic", 2, modes=16).working_grid == (36, 36)
    assert network("quadratic", 2, modes=16, output_modes=16).working_grid == (30, 30)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [1, 2])
@torch.inference_mode()
def test_cut_and_zero_mean_hold_for_every_network(kind, dimensions):
    state = torch.randn(2, 1, *(32,) * dimensions)
    axes = tuple(range(-dimensions, 0))
    cut = torch.fft.fftn(network(kind, dimensions, cut=3)(state), dim=axes, norm="forward")
    wavenumber = torch.fft.fftfreq(32, 1 / 32).abs()
    inside = wavenumber <= 3
    if dimensions == 2:
        inside = inside[:, None] & inside
    assert largest(cut[..., ~inside]) < 1e-5 * largest(cut)
    assert largest(cut[..., inside]) > 1e-3
    assert largest(network(kind, dimensions)(state).mean(axes)) < 1e-6
    assert largest(network(kind, dimensions, zero_mean=False)(state).mean(axes)) > 1e-4


def test_a_cut_the_grid_cannot_resolve_changes_nothing():
    term = torch.randn(2, 1, 8, 8)
    assert torch.equal(sharp_cut(term, 2, 4, zero_mean=False), term)


def test_velocity_of_a_known_vorticity():
    """psi = cos(a x) sin(b y): omega = (a^2 + b^2) psi, u = dpsi/dy, v = -dpsi/dx, on an oblong domain."""
    length_y, length_x = 3.0, 5.0
    y, x = np.meshgrid(np.arange(12) * length_y / 12, np.arange(16) * length_x / 16, indexing="ij")
    a, b = 2 * (2 * np.pi / length_x), 3 * (2 * np.pi / length_y)
    psi = np.cos(a * x) * np.sin(b * y)
    expected = [(a**2 + b**2) * psi, b * np.cos(a * x) * np.cos(b * y), a * np.sin(a * x) * np.sin(b * y)]
    omega = torch.tensor(expected[0], dtype=torch.float32)[None, None] + 7.0
    found = vorticity_velocity(omega, (length_y, length_x), 0.0)[0].numpy()
    for number in range(3):
        offset = 7.0 if number == 0 else 0.0
        assert np.abs(found[number] - offset - expected[number]).max() < 1e-5 * (a**2 + b**2)


def test_velocity_is_free_of_divergence_and_of_the_nyquist_mode():
    found = vorticity_velocity(torch.randn(1, 1, 16, 16), 2 * np.pi, 0.0)[0].double()
    u, v = torch.fft.rfft2(found[1:], norm="forward")
    ky, kx = torch.fft.fftfreq(16, 1 / 16)[:, None], torch.fft.rfftfreq(16, 1 / 16)
    assert largest((kx * u + ky * v)[:, :8]) < 1e-6
    assert largest(u[8]) < 1e-7
    assert largest(v[:, 8]) < 1e-7


def test_fluxes_in_phase_space():
    """f = (1 + a cos kx) g(v), with v from the origin and E = (a n_0 / k) sin kx from E_x = n - <n>."""
    length, origin, shape = (10.0, 4.0), (-5.0, 0.0), (64, 16)
    v = origin[0] + (np.arange(64) + 0.5) * 10 / 64
    x, k = np.arange(16) * 4 / 16, 2 * np.pi / 4
    profile = np.exp(-(v**2) / 2)
    state = np.outer(profile, 1 + 0.3 * np.cos(k * x))
    field = 0.3 * profile.sum() * (10 / 64) / k * np.sin(k * x)
    found = phase_space(torch.tensor(state, dtype=torch.float32)[None, None], length, origin)[0].numpy()
    assert found.shape == (3, *shape)
    for number, factor in enumerate((1.0, v[:, None], field)):
        assert np.abs(found[number] - factor * state).max() < 1e-5


def test_anomalies_have_no_mean_and_keep_the_differences():
    state = torch.randn(2, 3, 8, 10)
    found = anomaly(state, 1.0, 0.0)
    assert found.mean((2, 3)).abs().max() < 1e-6
    assert torch.allclose(found[..., 1:] - found[..., :-1], state[..., 1:] - state[..., :-1], atol=1e-6)


def test_learned_term_restores_physical_units():
    scales = {"state": [2.0], "term": [5.0], "features": [1.0, 0.5, 0.25]}
    torch.manual_seed(0)
    term = LearnedTerm("cnn", KINDS["cnn"], "vorticity-velocity", 2, 3.0, scales)
    state = torch.randn(2, 1, 12, 12)
    given = vorticity_velocity(state / 2, 3.0, 0.0) / torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    expected = 5 * term.network(given)
    assert torch.allclose(term(state), expected)


def test_weights_made_in_inference_mode_can_still_be_trained():
    """The Fourier matrices are cached: a first call under inference_mode must not spoil them for training."""
    model, state = network("quadratic", 1, modes=14), torch.randn(1, 1, 46)
    with torch.inference_mode():
        model(state)
    model(state).square().sum().backward()
    assert largest(model.factors.grad) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("transformer", {}, 1, 2), "quadratic, fno, cnn"),
        (lambda: build("cnn", {"modes": 4}, 1, 2), "width, layers, kernel, cut, zero_mean, points, precision"),
        (lambda: build("cnn", {}, 1, 2, "velocity"), "state, vorticity-velocity, phase-space, anomaly"),
        (lambda: build("cnn", {}, 2, 2, "vorticity-velocity"), 'features = "state"'),
        (lambda: build("cnn", {"kernel": 4}, 1, 2), "odd"),
        (lambda: build("cnn", {"layers": 1}, 1, 2), "2 or more"),
        (lambda: build("quadratic", {"modes": 5}, 1, 2), "even"),
        (lambda: build("fno", {}, 1, 3), "1 or 2"),
        (lambda: build("quadratic", {"modes": 16}, 1, 1)(torch.zeros(1, 1, 16)), "at least 17"),
        (lambda: build("cnn", {"kernel": 9}, 1, 1)(torch.zeros(1, 1, 3)), "smaller kernel"),
        (lambda: vorticity_velocity(torch.zeros(1, 2, 8, 8), 1.0, 0.0), 'features = "state"'),
    ],
)
def test_errors_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
