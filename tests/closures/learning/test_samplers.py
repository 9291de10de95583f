"""Samplers and score networks: exact distributions, orders and symmetries."""

import pytest
import torch

from subgrid.closures.latent_diffusion.networks import ScoreCNN, ScoreFNO
from subgrid.closures.learning.denoiser import Denoiser
from subgrid.closures.learning.samplers import sample


class Gaussian(torch.nn.Module):
    """The exact network of a Gaussian x ~ N(mean, deviation^2), whatever the condition."""

    def __init__(self, parametrisation, mean, deviation):
        super().__init__()
        self.parametrisation, self.mean, self.variance = parametrisation, mean, deviation**2

    def prepare(self, condition):
        return None

    def forward(self, v, angle, prepared):
        cos, sin = (f(angle).reshape(-1, 1, 1) for f in (torch.cos, torch.sin))
        gain = self.variance * cos / (self.variance * cos**2 + sin**2)
        data = self.mean + gain * (v - cos * self.mean)
        return (cos * v - data) / sin if self.parametrisation == "data" else (cos * data - v) / sin


def denoiser_of(parametrisation, mean, deviation):
    return Denoiser(parametrisation, Gaussian(parametrisation, mean, deviation)).double()


def draws(denoiser, sampler, evaluations, count=100_000):
    generator = torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(count, 1, 1, generator=generator, dtype=torch.float64)

    return sample(denoiser, draw_noise(), draw_noise(), sampler, evaluations, draw_noise, 1.0)


@pytest.mark.parametrize("parametrisation", ["data", "score"])
@pytest.mark.parametrize(
    ("sampler", "evaluations", "mean_off", "deviation_off"),
    [
        ("exponential", 200, 0.01, 0.02),
        ("euler", 200, 0.01, 0.02),
        ("heun", 39, 0.01, 0.02),
        ("euler-maruyama", 300, 0.01, 0.03),
    ],
)
def test_samplers_draw_a_gaussian_with_its_exact_score(parametrisation, sampler, evaluations, mean_off, deviation_off):
    """A score network is trained up to sigma = 11.5 only, where 0.6/11.5 of the mean is lost to white noise."""
    found = draws(denoiser_of(parametrisation, 0.5, 0.6), sampler, evaluations)
    lost = 0.6 / 11.5 * 0.5 if parametrisation == "score" else 0.0
    assert found.mean().item() == pytest.approx(0.5, abs=mean_off + lost)
    assert found.std().item() == pytest.approx(0.6, rel=deviation_off)


def test_one_evaluation_of_the_exponential_sampler_is_exact_at_unit_variance():
    generator = torch.Generator().manual_seed(0)
    xi = torch.randn(1000, 1, 1, generator=generator, dtype=torch.float64)
    found = sample(denoiser_of("data", 0.5, 1.0), xi, xi, "exponential", 1, lambda: xi, 1.0)
    torch.testing.assert_close(found, xi + 0.5)


def test_one_evaluation_of_euler_returns_the_mean():
    xi = torch.randn(1000, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sample(denoiser_of("data", 0.5, 0.6), xi, xi, "euler", 1, lambda: xi, 1.0)
    torch.testing.assert_close(found, torch.full_like(xi, 0.5))


def test_errors_of_the_probability_flow_fall_with_the_order_of_the_sampler():
    """The probability flow maps xi to mean + deviation xi."""
    generator = torch.Generator().manual_seed(0)
    xi = torch.randn(1000, 1, 1, generator=generator, dtype=torch.float64)
    denoiser = denoiser_of("data", 0.5, 0.6)

    def error(sampler, evaluations):
        found = sample(denoiser, xi, xi, sampler, evaluations, lambda: xi, 1.0)
        return (found - (0.5 + 0.6 * xi)).abs().max().item()

    assert error("exponential", 20) / error("exponential", 40) == pytest.approx(2, rel=0.2)
    assert error("euler", 20) / error("euler", 40) == pytest.approx(2, rel=0.2)
    assert error("heun", 39) / error("heun", 79) == pytest.approx(4, rel=0.4)


def test_the_published_initial_noise_is_too_narrow():
    """tau_max = 0.1 is sigma = 0.378: wider distributions are sampled too narrow."""
    denoiser = denoiser_of("score", 0.0, 1.0)
    generator = torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(20_000, 1, 1, generator=generator, dtype=torch.float64)

    narrow, wide = (
        sample(denoiser, draw_noise(), draw_noise(), "euler-maruyama", 300, draw_noise, t).std().item()
        for t in (0.1, 1)
    )
    assert narrow < 0.5
    assert wide == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(("network", "options"), [(ScoreCNN, {"width": 6}), (ScoreFNO, {"width": 6, "modes": 4})])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_score_networks_commute_with_shifts_and_are_zero_before_training(network, options, dimensions):
    torch.manual_seed(0)
    made = network(dimensions, 1, 2, layers=2, **options)
    v, c = (torch.randn(3, n, *[8] * dimensions) for n in (1, 2))
    angle = torch.tensor([0.1, 0.8, 1.5])
    assert made(v, angle, made.prepare(c)).abs().max() == 0
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    def shifted(field):
        return field.roll(3, -1)

    found = made(v, angle, made.prepare(c))
    torch.testing.assert_close(made(shifted(v), angle, made.prepare(shifted(c))), shifted(found), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], made(v, angle.flip(0), made.prepare(c))[0])
