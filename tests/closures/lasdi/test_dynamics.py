"""Forms and libraries of the latent dynamics, on systems that are known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from subgrid.closures.lasdi import dynamics
from subgrid.closures.lasdi.model import LatentModel


def noisy_oscillators(noise=0.0, times=400, step=0.025):
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
    z, coefficients, terms, step = noisy_oscillators(noise)
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
    z, coefficients, _, step = noisy_oscillators()
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


def oscillators(runs=6, times=40, step=0.1):
    """Damped oscillators whose rates are linear in two parameters, with their exact coefficients."""
    scaled = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (runs, 2)))
    coefficients = torch.stack(
        [torch.tensor([[0.3, -0.1 * a], [-0.1, -2.0 - 0.5 * b], [2.0 + 0.5 * b, -0.1 - 0.05 * a]]) for a, b in scaled]
    ).double()
    start = torch.tensor(np.random.default_rng(1).standard_normal((runs, 2)))
    return scaled, coefficients, dynamics.trajectories(start, coefficients, step, times)


def test_the_joint_fit_recovers_a_linear_system():
    """From exact rates, at the runs and at a parameter that is none of them, to round-off of the normal equations."""
    scaled, coefficients, z = oscillators()
    rate = dynamics.library(z) @ coefficients
    operator = dynamics.fit(dynamics.library(z), rate, dynamics.monomials(scaled, 1), ridge=1e-13)
    assert torch.allclose(dynamics.at(operator, dynamics.monomials(scaled, 1)), coefficients, atol=1e-8)
    unseen = dynamics.at(operator, dynamics.monomials(torch.tensor([[0.2, -0.4]], dtype=torch.float64), 1))[0]
    expected = torch.tensor([[0.3, -0.02], [-0.1, -1.8], [1.8, -0.11]], dtype=torch.float64)
    assert torch.allclose(unseen, expected, atol=1e-8)


def test_trajectories_are_exact_and_differences_of_fourth_order():
    _, coefficients, z = oscillators()
    generator = np.zeros((3, 3))
    generator[:, 1:] = coefficients[2]
    exact = np.array([1.0, *z[2, 0]]) @ scipy.linalg.expm(generator * 3.9)
    assert np.allclose(exact[1:], z[2, -1], rtol=0, atol=1e-12)
    errors = []
    for step in (0.1, 0.05):
        _, coefficients, z = oscillators(step=step)
        errors.append(float((dynamics.derivative(z, step) - dynamics.library(z) @ coefficients).abs().max()))
    assert 12 < errors[0] / errors[1] < 24


def test_monomials_count_and_stability_is_told_by_the_eigenvalue():
    assert dynamics.monomials(torch.tensor([[2.0, 3.0]]), 2).tolist() == [[1, 2, 3, 4, 6, 9]]
    growing = torch.tensor([[[0.0, 0.0], [0.5, 2.0], [-2.0, 0.5]]])
    assert dynamics.fastest_growth(growing).real == pytest.approx(0.5)
