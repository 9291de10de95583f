"""The networks of the reduced-order model, and stages by ridge regression."""

import pytest
import torch

from subgrid.closures.learning import ridge
from subgrid.closures.learning.perceptrons import Perceptron, StageDecoder


def test_the_tangent_of_the_encoder_is_its_derivative():
    torch.manual_seed(0)
    network = Perceptron((5, 7, 4, 2), 1.0).double()
    x, v = torch.randn(2, 3, 5, dtype=torch.float64)
    value, tangent = network.with_tangent(x, v)
    expected = torch.autograd.functional.jvp(network, x, v)
    assert torch.allclose(value, expected[0]) and torch.allclose(tangent, expected[1])


@pytest.mark.parametrize("first", ["sine", "tanh", "relu"])
def test_an_untrained_stage_is_zero(first):
    assert StageDecoder((3, 8, 8, 6), first)(torch.randn(4, 3)).abs().max() == 0


def test_a_stage_by_ridge_regression_finds_a_smooth_residual_between_the_runs():
    """Between the runs, a smooth function of the latents is found to one per cent; noise gives no stage."""
    generator = torch.Generator().manual_seed(0)
    runs = torch.linspace(-1, 1, 10)[:, None, None] * torch.tensor([0.5, 1.0])
    z = runs + torch.linspace(-1, 1, 30)[None, :, None] * torch.tensor([1.0, -1.0])
    wanted = torch.stack([torch.sin(2 * z[..., 0]) * z[..., 1], torch.cos(z.sum(-1))], -1)
    torch.manual_seed(0)
    decoder = StageDecoder((2, 200, 2), "sine", 1.0, random=True)
    assert ridge.solve(decoder, z, wanted) ** 0.5 < 0.01
    between = z[:-1] + torch.tensor([0.5, 1.0]) / 9
    expected = torch.stack([torch.sin(2 * between[..., 0]) * between[..., 1], torch.cos(between.sum(-1))], -1)
    assert float((decoder(between) - expected).square().mean().sqrt()) < 0.01
    noise = torch.randn(10, 1, 2, generator=generator).expand(10, 30, 2)
    assert ridge.solve(decoder, z, noise) > 0.7
