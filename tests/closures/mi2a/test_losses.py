"""The loss of Takacs: an exact division of the mean square error."""

import numpy as np
import pytest
import torch

from subgrid.closures.learning.basis import Basis
from subgrid.closures.mi2a.losses import MomentsInBasis, of_fields, takacs


@pytest.fixture
def fields():
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, 5, 7, 30), generator=generator, dtype=torch.float64)


def test_dissipation_and_dispersion_add_up_to_the_mean_square_error(fields):
    data, prediction = fields
    dissipation, dispersion = of_fields(data, prediction).parts(0.0)
    assert dissipation + dispersion == pytest.approx((data - prediction).square().mean(-1), rel=1e-12)
    assert float(takacs(of_fields(data, prediction), 0.5)) == pytest.approx(float((data - prediction).square().mean()))


def test_psi_weighs_phase_and_amplitude():
    """A shifted wave has an error of phase alone, a damped one an error of amplitude alone."""
    x = 2 * np.pi * torch.arange(64, dtype=torch.float64) / 64
    wave, shifted, damped = (torch.sin(x)[None], torch.sin(x - 0.1)[None], 0.9 * torch.sin(x)[None])
    for other, parts in ((shifted, (0.0, 1.0)), (damped, (1.0, 0.0))):
        error = float((wave - other).square().mean())
        found = of_fields(wave, other).parts(0.0)
        assert [float(v) / error for v in found] == pytest.approx(parts, abs=1e-9)
        dissipation, dispersion = parts
        expected = 2 * (0.7 * dispersion + 0.3 * dissipation) * error
        assert float(takacs(of_fields(wave, other), 0.7)) == pytest.approx(expected, rel=1e-6)


def test_constant_fields_have_finite_gradients():
    prediction = torch.zeros((1, 8), dtype=torch.float64, requires_grad=True)
    takacs(of_fields(torch.ones((1, 8), dtype=torch.float64), prediction), 0.7).backward()
    assert torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("psi", [0.7, None])
def test_moments_in_a_basis_are_those_of_the_fields(fields, psi):
    snapshots = fields[0, :, :6].flatten(0, 1)
    basis = Basis.fit(snapshots, 20, 1e-12)
    c = torch.randn((2, 4, 3, basis.size), generator=torch.Generator().manual_seed(1))
    moments = MomentsInBasis(basis, 2.5)(*c)
    expected = takacs(of_fields(*(basis.states(x) / 2.5 for x in c)), psi)
    assert float(takacs(moments, psi)) == pytest.approx(float(expected), rel=1e-4)
