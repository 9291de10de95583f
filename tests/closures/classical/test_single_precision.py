"""Classical closures compute in the precision of the state."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.closures.classical.backscatter import Backscatter
from subgrid.closures.classical.biharmonic import Biharmonic
from subgrid.closures.classical.dynamic_smagorinsky import DynamicSmagorinsky
from subgrid.closures.classical.eddy_viscosity import Leith, Smagorinsky
from subgrid.closures.classical.gradient import Gradient
from subgrid.closures.classical.hyperdiffusion import Hyperdiffusion
from subgrid.closures.classical.hyperviscosity import Hyperviscosity
from subgrid.solver.backend import Backend
from subgrid.solver.closure import Problem, View
from subgrid.solver.equations import Kolmogorov, ShallowWater, VlasovPoisson
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream

FLOW, WATER, PLASMA = Kolmogorov(viscosity=1e-3), ShallowWater(), VlasovPoisson()
PAIRS = [
    *((FLOW, cls()) for cls in (Smagorinsky, Leith, DynamicSmagorinsky, Backscatter, Gradient, Hyperviscosity)),
    *((WATER, cls()) for cls in (Smagorinsky, Biharmonic)),
    (PLASMA, Hyperdiffusion()),
]


@pytest.mark.parametrize(("equation", "closure"), PAIRS)
def test_the_tendency_has_the_precision_of_the_state(equation, closure):
    grid = Grid((24, 24), (6.0, 6.0))
    fields = len(equation.fields)
    state = 1.0 + 0.3 * np.random.default_rng(1).standard_normal((2, fields, *grid.shape)).clip(-2, 2)
    found = {}
    for precision in ("float64", "float32"):
        memory = closure.start(Problem(equation, grid, 0.01, 1, 0.0, (0, 1), 0, precision=precision))
        backend = Backend(precision=precision)
        view = View(lambda: backend.asarray(state), 0.0, 0, Stream(0, "closure", 0, (0, 1)), backend)  # noqa: B023
        found[precision] = np.asarray(closure(view, memory)[0].field)
        assert found[precision].dtype == precision
    error = np.abs(found["float32"] - found["float64"]).max() / np.abs(found["float64"]).max()
    assert 0 < error < 2e-5
