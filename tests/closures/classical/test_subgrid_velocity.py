"""Random velocities of tracers: their fits, their laws, restarts, and what they refuse."""

import numpy as np
import pytest

from subgrid import read_case
from subgrid.closures.classical.subgrid_velocity import (
    CorrelatedVelocity,
    OUDisplacement,
    fitted_length,
    fitted_time,
    streamfunction,
)
from subgrid.solver.closure import ClosureError
from subgrid.solver.equations import Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators

TAU = 2 * np.pi


def build(closure, members: tuple[int, ...] = (0, 1), entities: int = 64, **options) -> Simulation:
    """The model of the shipped case, from a flow at rest."""
    case = read_case("tracers-kolmogorov")
    equation = case.build_equation()
    grid = Grid((entities,), (float(entities),), carrier=case.grid.grid().carrier)
    x = case.reference.initial.state(equation, grid, members, 0)
    flow = np.zeros((len(members), 1, *grid.carrier.shape))
    return Simulation(equation, grid, "rk4", 0.02, x, members=members, carrier=flow, closures=[closure], **options)


def velocities(closure, **options) -> np.ndarray:
    run = build(closure, **options)
    return np.asarray(closure._at(run.memories[0]["velocity"], run.state))


def test_the_correlation_time_of_an_ou_process_is_found():
    rng, h, tau = np.random.default_rng(0), 0.1, 0.4
    a, v = np.exp(-h / tau), rng.standard_normal((40, 2, 100))
    series = [v := a * v + np.sqrt(1 - a * a) * rng.standard_normal(v.shape) for _ in range(30)]
    assert fitted_time(np.stack(series, axis=1), h) == pytest.approx(tau, rel=0.05)


def test_the_length_of_a_random_field_is_found_and_its_variance_is_one():
    domain, length = Grid((16, 16), (TAU, TAU)), 0.5
    grid, amplitude = streamfunction(domain, length)
    drawn = SpectralNoise(grid, amplitude).sample(0, "test", tuple(range(20)))
    operators = Operators(grid)
    ky, kx = operators.k
    field = np.stack([operators.inverse(1j * ky * drawn), operators.inverse(-1j * kx * drawn)], axis=1)
    assert field.var() == pytest.approx(1.0, rel=0.05)
    pick = np.random.default_rng(0).integers(0, grid.shape[0], (2, 200))
    positions = np.broadcast_to((pick[::-1] * grid.spacing[0])[None, None], (20, 1, 2, 200))
    terms = field[:, None, :, pick[0], pick[1]]
    assert fitted_length(positions, terms, domain) == pytest.approx(length, rel=0.1)


@pytest.mark.parametrize("closure", [OUDisplacement, CorrelatedVelocity])
def test_the_velocity_has_the_fitted_deviation(closure):
    found = velocities(closure(scale=2.0), members=tuple(range(20)))
    assert found.std() == pytest.approx(2 * 0.178, rel=0.08)


def test_only_the_correlated_field_keeps_neighbours_together():
    """Pairs are 0.05 apart: their velocities differ by little in the field, by sqrt(2) deviations without."""
    members = tuple(range(20))
    apart = {}
    for closure in (OUDisplacement(), CorrelatedVelocity()):
        v = velocities(closure, members=members)
        apart[type(closure)] = (v[..., ::2] - v[..., 1::2]).std() / v.std()
    assert apart[OUDisplacement] == pytest.approx(np.sqrt(2), rel=0.05)
    assert apart[CorrelatedVelocity] < 0.5


@pytest.mark.parametrize("closure", [OUDisplacement, CorrelatedVelocity])
def test_the_variance_is_stationary_and_a_restart_changes_nothing(closure):
    whole, first, second = (build(closure(), members=(3, 4)) for _ in range(3))
    whole.run(12)
    first.run(5)
    second.restore({k: v.copy() for k, v in first.checkpoint().items()})
    second.run(12)
    np.testing.assert_array_equal(second.state, whole.state)
    alone = build(closure(), members=(4,))
    alone.run(12)
    np.testing.assert_allclose(alone.state[0], whole.state[1], rtol=0, atol=1e-12)


def test_what_they_do_not_fit_is_refused():
    grid = Grid((16, 16), (TAU, TAU))
    with pytest.raises(ClosureError, match="made for tracers"):
        Simulation(
            Kolmogorov(viscosity=1e-3), grid, "etdrk4", 0.1, np.zeros((1, 1, 16, 16)), closures=[OUDisplacement()]
        )
    case = read_case("tracers-kolmogorov")
    fine = Grid((64,), (64.0,), carrier=Grid((20, 20), (TAU, TAU)))
    flow, x = np.zeros((1, 1, 20, 20)), np.zeros((1, 2, 64))
    named = OUDisplacement(weights="tracers-kolmogorov-ou-displacement")
    with pytest.raises(ClosureError, match=r"is for a flow on \[16, 16\], the case has \[20, 20\]"):
        Simulation(case.build_equation(), fine, "rk4", 0.02, x, carrier=flow, closures=[named])
