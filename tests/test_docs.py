"""The examples in docs/architecture.md run as they stand."""

import re
from pathlib import Path

import numpy as np

from subgrid.solver.closure import Coupled
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.schemes import STEPPERS

DOCS = Path(__file__).parent.parent / "docs"


def test_an_equation_a_stepper_and_a_closure_in_under_thirty_lines():
    """The three examples run together: mass is conserved without the closure, and the closure pulls the state back."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "architecture.md").read_text(), re.S)
    assert len(blocks) == 3
    assert all(len([line for line in b.splitlines() if line.strip()]) < 30 for b in blocks)
    before = set(EQUATIONS), set(STEPPERS)
    scope: dict = {"__name__": "docs_example"}
    try:
        for block in blocks:
            exec(compile(block, "architecture.md", "exec"), scope)
        grid = Grid((64,), (20.0,))
        x = grid.coordinates()[0]
        state = (2 / np.cosh(x - 10) ** 2)[None, None]
        equation = EQUATIONS["korteweg-de-vries"]()
        runs = []
        for closures in ([], [Coupled("relaxation", scope["Relaxation"](timescale=0.01))]):
            simulation = Simulation(equation, grid, "etdrk4", 1e-3, state, closures=closures)
            simulation.run(200)
            runs.append(simulation.state)
        exact = 2 / np.cosh(x - 10 - 4 * 0.2) ** 2
        assert np.abs(runs[0][0, 0] - exact).max() < 1e-3
        assert abs(runs[0].mean() - state.mean()) < 1e-14
        assert np.abs(runs[1] - state).max() < 0.2 * np.abs(runs[0] - state).max()
        heun = Simulation(equation, grid, "heun", 1e-5, state)
        heun.run(10)
        assert np.isfinite(heun.state).all()
    finally:
        for registry, names in zip((EQUATIONS, STEPPERS), before, strict=True):
            for name in set(registry) - names:
                del registry[name]
