"""Forms and libraries of the latent dynamics, on systems that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.closures.lasdi import dynamics
from subgrid.closures.lasdi.model import LatentModel


def oscillators(noise=0.0, times=400, step=0.025):
    """Damped oscillators whose frequency is linear in a parameter, with noise on every value."""
    scaled = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
    coefficients = torch.stack(
        [torch.tensor([[0.1, 0.0], [-0.1, w], [-w, -0.1]], dtype=torch.float64) for w in (2 + 0.3 * scaled[:, 0])]
    )
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(6, 2)
    z = dynamics.trajectories(start, coefficients, step, times)
    seen = z + noise * torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=z.dtype)
    return seen, coefficients, dynamics.monomials(scaled, 1), step


def error(form, noise):
    z, coefficients, terms, step = oscillators(noise)
    rate = dynamics.derivative(z, step) if form == "strong" else None
    found = dynamics.at(dynamics.fit(*dynamics.equation_sides(z, rate, step), terms), terms)
    return float((found - coefficients).norm() / coefficients.norm())


def test_the_weak_form_is_more_accurate_with_noise():
    """Without noise both forms find the system; with 5 % noise the weak form has a third of the error or less."""
    assert error("strong", 0.0) < 1e-5 and error("weak", 0.0) < 1e-4
    assert error("weak", 0.05) < 0.01
    assert error("strong", 0.05) > 3 * error("weak", 0.05)


def test_the_weak_form_is_the_strong_one_integrated():
    """int phi dz/dt = -int phi' z to the accuracy of the trapezoidal rule, which is high for these test functions."""
    z, coefficients, _, step = oscillators()
    library, rate = dynamics.equation_sides(z, None, step)
    assert torch.allclose(library @ coefficients, rate, atol=1e-5 * float(rate.abs().max()))
    with pytest.raises(ValueError, match="needs 9 times or more, not 8"):
        dynamics.equation_sides(z[:, :8], None, step)


def test_a_quadratic_library_finds_and_integrates_a_quadratic_system():
    """Lotka-Volterra, x' = x - x y, y' = x y - y: its invariant x + y - ln(x y) is kept to the order of RK4."""
    operator = torch.zeros(3, 6, 2, dtype=torch.float64)
    operator[:, 1, 0], operator[:, 4, 0], operator[:, 2, 1], operator[:, 4, 1] = 1, -1, -1, 1
    start = torch.tensor([[1.5, 1.0], [1.0, 0.6], [0.7, 1.2]], dtype=torch.float64)
    drift = []
    for step in (0.1, 0.05):
        z = dynamics.trajectories(start, operator, step, round(6 / step) + 1)
        kept = z.sum(-1) - z.prod(-1).log()
        drift.append(float((kept - kept[:, :1]).abs().max()))
    assert drift[0] < 1e-6 and 10 < drift[0] / drift[1] < 64
    rate = dynamics.library(z, "quadratic") @ operator
    one = torch.ones(3, 1, dtype=torch.float64)
    found = dynamics.fit(*dynamics.equation_sides(z, rate, step, "quadratic"), one, ridge=1e-12)
    assert torch.allclose(dynamics.at(found, one), operator, atol=1e-6)
    assert dynamics.kind_of(operator) == "quadratic" and dynamics.kind_of(operator[:, :3]) == "affine"


def test_samples_are_those_of_the_spread(carried_wave, tmp_path):
    carried_wave(tmp_path / "w.safetensors", noise=0.02)
    model = LatentModel.load(tmp_path / "w.safetensors")
    state, at = torch.sin(torch.arange(24) * 2 * np.pi / 24)[None], np.array([[1.5]])
    drawn = model.sample(state, at, 0.3, 9)
    assert drawn.shape == (20, 1, 9, 24)
    assert torch.allclose(drawn.std(0), model.predict_std(state, at, 0.3, 9), atol=1e-3)
    relative = drawn.double().var(0).sum(-1).sqrt() / model.predict(state, at, 0.3, 9).norm(dim=-1)
    assert torch.allclose(model.relative_spread(state, at, 0.3, 9).double(), relative, atol=1e-3)
