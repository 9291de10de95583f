"""PyClaw's dimension-split classic solver of the shallow-water equations."""

from __future__ import annotations

import logging

import numpy as np
from clawpack import pyclaw, riemann
from numpy.typing import NDArray

logging.disable(logging.CRITICAL)  # PyClaw logs every step


class Peer:
    """Second order with the monotonised central limiter, Roe's solver with an entropy fix, walls, Courant number 0.9.

    riemann.shallow_roe_with_efix_2D in Fortran, set up as in its authors' example of the radial dam break.
    """

    def __init__(self, depth: NDArray, length: float, gravity: float) -> None:
        n = depth.shape[0]
        solver = pyclaw.ClawSolver2D(riemann.shallow_roe_with_efix_2D)
        solver.dimensional_split, solver.order = True, 2
        solver.limiters = pyclaw.limiters.tvd.MC
        solver.bc_lower, solver.bc_upper = [pyclaw.BC.wall] * 2, [pyclaw.BC.wall] * 2
        solver.cfl_desired, solver.cfl_max = 0.9, 1.0
        solver.dt_initial = 0.1 * length / n
        domain = pyclaw.Domain([pyclaw.Dimension(0.0, length, n, name=axis) for axis in "xy"])
        state = pyclaw.State(domain, 3)
        state.problem_data["grav"] = gravity
        state.q[0], state.q[1:] = depth.T, 0.0
        self.solver, self.solution = solver, pyclaw.Solution(state, domain)
        solver.setup(self.solution)

    def advance(self, span: float) -> None:
        """Go on for a time."""
        self.solver.evolve_to_time(self.solution, self.solution.t + span)

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self.solver.status["numsteps"])

    @property
    def depth(self) -> NDArray:
        return np.array(self.solution.state.q[0]).T
