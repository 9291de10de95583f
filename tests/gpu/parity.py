"""Parity of a device with NumPy: right-hand sides, steppers, closures, whole runs, resumed runs, and no transfers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import problems
from measuring import Place, Row, Sizes, unmeasured

import subgrid
from subgrid.solver.backend import NUMPY
from subgrid.solver.case.shipped import folder
from subgrid.solver.spectral import Operators

ROUND_OFF = 1e-12
LEARNED = 0.02  # networks are in single precision, with bfloat16 or TF32 in their products


def rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    names = list(problems.TABLES)[: sizes.problems]
    yield from right_hand_sides(place, names)
    yield from steppers(place, sizes, names)
    yield whole_run(place)
    yield resumed(place, names)
    yield transfers(place, names)


def right_hand_sides(place: Place, names: list[str]) -> Iterator[Row]:
    for name in names:
        made = problems.problem(name)
        if made.carrier is not None:
            continue  # the velocity is that of a flow, which a simulation gives them
        here, there = (Operators(made.grid, backend=b) for b in (NUMPY, place.backend))
        found = []
        for operators, backend in ((here, NUMPY), (there, place.backend)):
            u = backend.asarray(made.state)
            u = operators.forward(u) if made.equation.spectral else u
            found.append(backend.to_numpy(made.equation.nonlinear(operators, u, 0.1)))
        scale = np.abs(found[0]).max() or 1.0
        error = float(np.abs(found[0] - found[1]).max() / scale)
        yield Row(f"right-hand side: {name}", error, "relative", "", ROUND_OFF, False)


def steppers(place: Place, sizes: Sizes, names: list[str]) -> Iterator[Row]:
    adaptive = list(problems.adaptive_runs())
    for name in names:
        made = problems.problem(name)
        worst, count = 0.0, 0
        for stepper in made.steppers():
            here, there = (made.simulation(stepper, backend) for backend in (NUMPY, place.backend))
            for run in (here, there):
                run.run(sizes.steps)
            worst, count = max(worst, problems.difference(here, there)), count + 1
        yield Row(f"steppers: {name}", worst, "relative", f"{count} steppers", ROUND_OFF, False)
        for stepper in [s for n, s in adaptive if n == name]:
            runs = [problems.problem(name, 1).simulation(stepper, b, cfl=0.05) for b in (NUMPY, place.backend)]
            for run in runs:
                run.run(5)
            error = problems.difference(*runs)
            yield Row(f"steps by CFL: {name}", error, "relative", stepper, ROUND_OFF, False)


def closures(place: Place, sizes: Sizes) -> Iterator[Row]:
    for name in islice(problems.CLOSURES, sizes.problems):
        learned = problems.CLOSURES[name][1] in problems.LEARNED
        here, there = (problems.closure_run(name, backend) for backend in (NUMPY, place.backend))
        for run in (here, there):
            run.run(problems.steps(name))
        error = problems.difference(here, there)
        yield Row(f"closure: {name}", error, "relative", "", LEARNED if learned else ROUND_OFF, False)


def whole_run(place: Place) -> Row:
    """The outputs of `subgrid.run` of a shipped case."""
    text = "cupy" if place.backend.name == "cupy" else f"torch:{place.backend.device}"
    changes = {"time.end": 0.1, "output.every": 0.05}
    file = folder() / "taylor-green.toml"
    found = []
    for backend in ("numpy", text):
        data = subgrid.run(subgrid.read_case(file, changes | {"backend": backend}), progress=False)
        found.append(data["vorticity"].values)
    error = float(np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())
    return Row("whole run: taylor-green", error, "relative", "", ROUND_OFF, False)


def resumed(place: Place, names: list[str]) -> Row:
    """How many runs that are continued from a checkpoint end with other bytes than those that are not."""
    differ = []
    for name in names:
        stepper = problems.problem(name).steppers()[0]
        whole, first, second = (problems.problem(name).simulation(stepper, place.backend) for _ in range(3))
        whole.run(40)
        first.run(21)
        second.restore({k: np.copy(v) for k, v in first.checkpoint().items()})
        second.run(40)
        if whole.state.tobytes() != second.state.tobytes():
            differ.append(name)
    return Row("resumed runs with other bytes", len(differ), f"of {len(names)}", ", ".join(differ), 0, False)


def transfers(place: Place, names: list[str]) -> Row:
    """Steps that wait for the device or copy to the host, by torch's own detection."""
    what = "steps with a transfer"
    if place.backend.name != "torch" or not place.cuda:
        return unmeasured(what, "torch detects them, on CUDA devices alone")
    import torch

    found = []
    for name in names:
        run = problems.problem(name).simulation(problems.problem(name).steppers()[0], place.backend)
        run.advance(3)  # constants, plans and graphs
        place.wait()
        torch.cuda.set_sync_debug_mode("error")
        try:
            run.advance(3)
        except RuntimeError as error:
            found.append(f"{name}: {error}")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Row(what, len(found), f"of {len(names)} problems", "; ".join(found)[:300], 0, False)
