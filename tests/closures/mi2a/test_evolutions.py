"""Latent evolutions: the linear multistep model, and recurrent networks."""

import math

import pytest
import torch

from subgrid.closures.mi2a import multistep
from subgrid.closures.mi2a.correction import Correction
from subgrid.closures.mi2a.networks import Recurrent

RUNS, TIMES, WINDOW = 10, 60, 6


def turning(rates):
    """Latents (run, time, 2) that turn at the given rates, on circles of different radius."""
    t = torch.arange(TIMES, dtype=torch.float64)
    angle = rates[:, None] * t
    radius = (1 + 0.3 * torch.linspace(0, 1, len(rates), dtype=torch.float64))[:, None]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def fitted(z, parameters, known=False, features=100, noisy=None):
    held_out = torch.arange(len(z)) % 5 == 2

    def error(path, runs):
        return float((path - z[runs][:, WINDOW:]).square().mean())

    model, _, about = multistep.fit(z, parameters, held_out, WINDOW, features, known, 0, error, noisy)
    return model, about


@pytest.fixture
def rates():
    return torch.linspace(0.1, 0.14, RUNS, dtype=torch.float64)


def test_a_rotation_is_found_and_its_coefficients_sum_to_one(rates):
    """One rate: z(n+1) = 2 cos(rate) z(n) - z(n-1) is linear, up to a constant that the circles do not need."""
    same = torch.full_like(rates, 0.12)
    z, parameters = turning(same), same[:, None]
    model, _ = fitted(z, parameters)
    path = model.rollout(z[:, :WINDOW], parameters, TIMES - WINDOW)
    assert float((path - z[:, WINDOW:]).abs().max()) < 1e-3
    assert float(model.coefficients().sum()) == pytest.approx(1.0, abs=1e-12)


def test_unseen_rates_are_predicted_from_the_window(rates):
    z = turning(rates)
    model, about = fitted(z, rates[:, None])
    unseen = rates[:-1] + 0.5 * rates.diff()
    truth = turning(unseen)
    path = model.rollout(truth[:, :WINDOW], unseen[:, None], TIMES - WINDOW)
    assert float((path - truth[:, WINDOW:]).square().mean().sqrt()) < 0.1
    assert about["held_out"] < 0.01


def test_a_straight_line_is_extrapolated_without_training(rates):
    """Convex weights, as attention has, cannot leave the hull of the window; here alpha = (2, -1, 0, ...)."""
    t = torch.arange(TIMES, dtype=torch.float64)
    z = (rates[:, None] * t)[..., None]
    model, about = fitted(z, rates[:, None])
    path = model.rollout(z[:, :WINDOW], rates[:, None], TIMES - WINDOW)
    assert float((path - z[:, WINDOW:]).abs().max()) < 1e-3
    alpha = multistep.Multistep(
        torch.zeros((WINDOW, 1), dtype=torch.float64),
        torch.zeros((3, 0), dtype=torch.float64),
        torch.zeros(0, dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
        WINDOW,
        0,
    )
    multistep._extrapolation(alpha, 2)
    assert alpha.coefficients().tolist() == pytest.approx([2.0, -1.0] + [0.0] * (WINDOW - 2))
    assert about["held_out"] < 1e-6


def test_products_of_latents_hold_a_quadratic_map_exactly():
    """z(n+1) = z(n) + 0.1 (x y, x y - y); without products the error is a hundred times as large."""
    generator = torch.Generator().manual_seed(1)
    state = torch.rand((2 * RUNS, 2), generator=generator, dtype=torch.float64)
    found = [state]
    for _ in range(TIMES - 1):
        x, y = found[-1].T
        found.append(found[-1] + 0.1 * torch.stack([-x * y, x * y - y], 1))
    z = torch.stack(found, 1)
    parameters, held_out = torch.zeros(2 * RUNS, 1, dtype=torch.float64), torch.arange(2 * RUNS) % 5 == 2

    def error(path, runs):
        return float((path - z[runs][:, WINDOW:]).square().mean())

    errors = []
    for products in (0, 2):
        model, _, about = multistep.fit(z, parameters, held_out, WINDOW, 0, False, 0, error, products=products)
        errors.append(about["held_out"])
    assert errors[1] < 1e-12 < 0.01 * errors[0]
    assert about["products"] == 2 and model.products == 2
    again = multistep.Multistep.of_tensors(model.tensors(), WINDOW, 0, 0, 2)
    path = again.rollout(z[:, :WINDOW], parameters, TIMES - WINDOW)
    assert float((path - z[:, WINDOW:]).abs().max()) < 1e-5


def test_the_known_parameter_makes_up_for_noise_in_the_window(rates):
    """The slope of a noisy window is uncertain; a known speed is not."""
    t = torch.arange(TIMES, dtype=torch.float64)
    z = (rates[:, None] * t)[..., None]
    generator = torch.Generator().manual_seed(3)
    noisy = z + 0.05 * torch.randn(z.shape, generator=generator, dtype=torch.float64)
    scaled = (rates[:, None] - 0.12) / 0.02
    errors = []
    for known in (False, True):
        model, _ = fitted(z, scaled, known, 0, noisy[None])
        path = model.rollout(noisy[:, :WINDOW], scaled, TIMES - WINDOW)
        errors.append(float((path - z[:, WINDOW:]).square().mean()))
    assert errors[1] < 0.2 * errors[0]


def test_a_correction_by_attention_starts_at_zero_and_survives_a_file(rates):
    z = turning(rates)
    model, _ = fitted(z, rates[:, None])
    plain = model.rollout(z[:, :WINDOW], rates[:, None], 20)
    torch.manual_seed(0)
    model.correction = Correction(2, 4, 5)
    assert torch.equal(model.rollout(z[:, :WINDOW], rates[:, None], 20), plain)
    torch.nn.init.normal_(model.correction.value.weight, std=0.01)
    corrected = model.rollout(z[:, :WINDOW], rates[:, None], 20)
    assert not torch.allclose(corrected, plain, atol=1e-6)
    again = multistep.Multistep.of_tensors(model.tensors(), WINDOW, 0, 0, 0)
    assert torch.equal(again.rollout(z[:, :WINDOW], rates[:, None], 20), corrected)


@pytest.mark.parametrize("kind", ["lstm", "luong", "mi2a"])
def test_networks_step_on_from_the_window(kind):
    torch.manual_seed(0)
    network = Recurrent(kind, 2, 1, 8, WINDOW)
    window, parameters = torch.randn(3, WINDOW, 2), torch.zeros(3, 1)
    path = network.rollout(window, parameters, 7)
    assert path.shape == (3, 7, 2)
    # a longer roll-out begins with the shorter one
    assert torch.allclose(network.rollout(window, parameters, 9)[:, :7], path, atol=1e-6)


def test_attention_without_the_derivative_branch_stays_in_the_hull_of_the_window():
    torch.manual_seed(0)
    network = Recurrent("mi2a", 2, 0, 8, WINDOW, derivative=False)
    torch.nn.init.normal_(network.score.weight)
    window = torch.randn(5, WINDOW, 2)
    path = network.rollout(window, torch.zeros(5, 1), 30)
    assert (path <= window.amax(1, keepdim=True) + 1e-6).all() and (path >= window.amin(1, keepdim=True) - 1e-6).all()


def test_attention_weights_are_kept_on_request():
    network = Recurrent("mi2a", 2, 0, 8, WINDOW)
    network.keep = True
    network.rollout(torch.randn(3, WINDOW, 2), torch.zeros(3, 1), 4)
    assert len(network.weights) == 4 and network.weights[0].shape == (3, WINDOW)
    assert float(network.weights[0].sum()) == pytest.approx(3.0, rel=1e-6)
    assert math.isfinite(float(network.weights[-1].max()))
