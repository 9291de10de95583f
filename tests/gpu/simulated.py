"""The CUDA kernels in Numba's simulator of a device, against array code. Run with NUMBA_ENABLE_CUDASIM=1; prints the
largest relative difference of steps for each problem, stepper and precision."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numba import cuda

sys.path.insert(0, str(Path(__file__).resolve().parent))
import problems

from subgrid.solver.backend import NUMPY, Backend
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping import launched
from subgrid.solver.time_stepping.array_code import ArrayStepper
from subgrid.solver.time_stepping.launched import LaunchedStepper
from subgrid.solver.time_stepping.schemes import STEPPERS


def launch(kernel, shape, *arguments):
    """As `Launcher`, with blocks of another shape, which must not matter."""
    blocks = (-(-shape[2] // 5), -(-shape[1] // 3), shape[0])
    assert not any(a is None for a in arguments)  # which Numba does not pass to a device
    arrays = [a.numpy() if hasattr(a, "numpy") else a for a in arguments]  # tensors share their memory
    cuda.jit(kernel)[blocks, (5, 3, 1)](*arrays)


def main() -> None:
    launched.launcher = lambda backend: launch if backend.name == "torch" else None
    cases = [("kolmogorov", "etdrk2"), ("kolmogorov", "etdrk4"), ("burgers", "etdrk4"), ("advection", "etdrk2")]
    for name, stepper in cases:
        for precision in ("float64", "float32"):
            made = problems.problem(name)
            equation, grid = made.equation, made.grid
            operators = Operators(grid, backend=Backend(precision=precision))
            u = operators.forward(made.state.astype(precision))
            added = -0.1 * np.ones((1, *grid.spectral_shape))
            plain = ArrayStepper(STEPPERS[stepper], equation, operators, made.step, added)
            fused = LaunchedStepper(STEPPERS[stepper], equation, operators, made.step, added, launch)
            for frozen in (None, 0.3 * u):
                expected, found = (s.advance(u, 0.0, frozen, {})[0] for s in (plain, fused))
                assert found.dtype == expected.dtype == u.dtype
                error = np.abs(expected - found).max() / np.abs(expected - u).max()
                print(name, stepper, precision, "frozen" if frozen is not None else "free", error)
    here, there = (problems.problem("kolmogorov").simulation("etdrk4", b) for b in (NUMPY, Backend("torch")))
    assert type(there._ensemble._stepper) is LaunchedStepper
    for run in (here, there):
        run.run(4)
    print("whole run", problems.difference(here, there))


if __name__ == "__main__":
    main()
