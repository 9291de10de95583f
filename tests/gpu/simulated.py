"""The CUDA kernels in Numba's simulator of a device, against array code. Run with NUMBA_ENABLE_CUDASIM=1; prints the
largest relative difference of steps for each problem, stepper and precision."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba import cuda

sys.path.insert(0, str(Path(__file__).resolve().parent))
import problems

from subgrid.solver.backend import NUMPY, Backend
from subgrid.solver.backend.launching import device_number
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping import launched
from subgrid.solver.time_stepping.array_code import ArrayStepper
from subgrid.solver.time_stepping.launched import LaunchedStepper
from subgrid.solver.time_stepping.schemes import STEPPERS

FUSED = [("kolmogorov", "etdrk2"), ("kolmogorov", "etdrk4"), ("burgers", "etdrk4"), ("advection", "etdrk2")]
# equations with kernels of their own
OWN = ["shallow water", "shallow water, bumps", "shallow water, weno5", "vlasov-poisson", "vlasov-poisson, open"]


class Launch:
    """As `Launcher`, with blocks of another shape, which must not matter."""

    def __init__(self, backend: Backend) -> None:
        self.double, self._known = replace(backend, precision="float64"), {}

    def __call__(self, kernel, shape, *arguments):
        blocks = (-(-shape[2] // 5), -(-shape[1] // 3), shape[0])
        assert not any(a is None for a in arguments)  # which Numba does not pass to a device
        arrays = [a.numpy() if hasattr(a, "numpy") else a for a in arguments]  # tensors share their memory
        assert not any(a is b for a in arrays[-1:] for b in arrays[:-1])  # out is not an argument
        cuda.jit(kernel)[blocks, (5, 3, 1)](*arrays)

    def number(self, value):
        return device_number(value, self.double, self._known)


def steppers(name: str) -> list[str]:
    return ["ssp-rk2", "dimension-split"] if name.startswith("shallow") else ["rk4", "strang"]


def main() -> None:
    launched.launcher = lambda backend: Launch(backend) if backend.name == "torch" else None
    for name, stepper in [*FUSED, *((n, s) for n in OWN for s in steppers(n))]:
        for precision in ("float64", "float32"):
            made = problems.problem(name, 1, (8, 9)) if name in OWN else problems.problem(name)
            backend = Backend(precision=precision)
            operators = Operators(made.grid, backend=backend)
            u, added = made.state.astype(precision), None
            if made.equation.spectral:
                u, added = operators.forward(u), -0.1 * np.ones((1, *made.grid.spectral_shape))
            bound = STEPPERS[stepper], made.equation, operators, made.step, added
            launch = Launch(backend)
            steps = ArrayStepper(*bound), LaunchedStepper(*bound, launch, made.equation.launched(operators, launch))
            kinds = [(None, None), (0.3 * u, None)]
            if name in OWN:
                kinds = [*kinds, (None, 0.7 * made.step)] if precision == "float64" else kinds[:1]
            for frozen, h in kinds:
                expected, found = (s.advance(u, 0.0, frozen, {}, h)[0] for s in steps)
                assert found.dtype == expected.dtype == u.dtype
                scale = np.abs(expected - u if precision == "float64" else expected).max()
                error = np.abs(expected - found).max() / scale
                what = "shorter" if h else "free" if frozen is None else "frozen"
                print(name, stepper, precision, what, error, flush=True)
    for name, stepper in (("kolmogorov", "etdrk4"), ("shallow water, bumps", "ssp-rk2"), ("vlasov-poisson", "strang")):
        here, there = (problems.problem(name, 2).simulation(stepper, b) for b in (NUMPY, Backend("torch")))
        assert type(there._ensemble._stepper) is LaunchedStepper
        for run in (here, there):
            run.run(2)
        print("whole run", name, problems.difference(here, there))


if __name__ == "__main__":
    main()
