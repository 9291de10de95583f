"""The orthonormal basis of snapshots."""

import numpy as np
import pytest
import torch

from subgrid.closures.learning.basis import Basis


def test_errors_in_the_basis_are_errors_of_the_states():
    """|u - u_hat|^2 = |u - P u|^2 + scale^2 |c - c_hat|^2, and the energy left out is what was asked for."""
    generator = np.random.default_rng(2)
    states = torch.tensor(
        generator.standard_normal((40, 30)) * 0.5 ** np.arange(30) @ generator.standard_normal((30, 64))
    )
    basis = Basis.fit(states, 40, 1e-4)
    u = states.float()
    c = basis.coefficients(u)
    assert float(c.square().sum(1).mean()) == pytest.approx(1, rel=1e-3)
    other = c + 0.1 * torch.tensor(generator.standard_normal(c.shape)).float()
    off = (basis.states(other) - u).square().sum(1)
    split = (basis.states(c) - u).square().sum(1) + basis.scale**2 * (other - c).square().sum(1)
    assert torch.allclose(off, split, rtol=1e-4)
    lost = float((basis.states(c) - u).square().sum() / (u - u.mean(0)).square().sum())
    assert 1e-6 < lost < 1e-4
    assert Basis.fit(states, 3, 1e-4).modes.shape == (64, 3)
