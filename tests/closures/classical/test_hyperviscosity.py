"""Hyperviscosity as a tendency and as a part of the linear operator is the same exact decay of every mode."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.closures.classical.hyperviscosity import Hyperviscosity
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms

GRID = Grid((24, 20), (6.0, 5.0))


@pytest.mark.parametrize("order", [1, 2, 8])
@pytest.mark.parametrize("linear", [False, True])
def test_every_mode_decays_exactly_with_the_power_of_its_wavenumber(order, linear):
    state = np.random.default_rng(0).standard_normal((2, 1, 24, 20))
    at_rest = Kolmogorov(viscosity=0.0, omit=("advection",))
    closure = Hyperviscosity(order=order, rate=3.0, linear=linear)
    simulation = Simulation(at_rest, GRID, "etdrk4", 0.05, state, closures=[closure])
    simulation.run(8)
    transforms = Transforms(GRID)
    cut = max(2 * np.pi * 7 / 6.0, 2 * np.pi * 6 / 5.0)
    decay = np.exp(-0.4 * 3.0 * (Operators(GRID).k2 / cut**2) ** order)
    expected = transforms.to_physical(transforms.to_spectrum(state) * decay)
    np.testing.assert_allclose(simulation.state, expected, atol=1e-12)
    assert simulation.closures[0].calls == (0 if linear else 8)


def test_both_forms_converge_to_one_another_at_first_order_in_the_step():
    line = Grid((48,), (2.0,))
    state = np.sin(np.pi * line.coordinates()[0])[None, None]

    def difference(steps: int) -> float:
        found = []
        for linear in (False, True):
            closures = [Hyperviscosity(order=2, rate=20.0, linear=linear)]
            simulation = Simulation(Burgers(viscosity=0.02), line, "etdrk4", 0.5 / steps, state, closures=closures)
            simulation.run(steps)
            found.append(simulation.state)
        return float(np.abs(found[0] - found[1]).max())

    assert 1.8 < difference(100) / difference(200) < 2.2
