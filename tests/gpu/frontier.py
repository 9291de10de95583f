"""The cost-error frontier of the large-eddy case on a device: the model on a ladder of grids, closures on 64 x 64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from measuring import Place, Row, Sizes

from subgrid.ingest.restriction import Restrict
from subgrid.solver.case.reading import read
from subgrid.solver.case.shipped import folder
from subgrid.solver.closure import Coupled
from subgrid.solver.closure.discovery import find
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Transforms, resample

CLOSURES: dict[str, dict[str, Any]] = {
    "smagorinsky": {"coefficient": 0.08},
    "spectral-viscosity": {},
    "equation-discovery": {},
    "regression": {},
    "latent-diffusion": {"transfer": "shells"},
}


def rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Relative L2 error at the end, and seconds of the device per unit of time; speed-ups at equal error."""
    case = read(folder() / "kolmogorov-demo.toml", [])
    equation, coarse = case.build_equation(), case.grid.grid()
    fine = coarse.refined((sizes.reference, sizes.reference))
    chosen = tuple(range(sizes.trajectories))
    assert case.reference is not None and case.reference.initial is not None
    initial = case.reference.initial if sizes.reference == 320 else GaussianRandomField(exponent=2.5, tau=5.0)
    start = initial.state(equation, fine, chosen, 0, folder())
    step = 2.5e-3
    reference = Simulation(equation, fine, "etdrk4", step, start, backend=place.backend)
    reference.run(round(sizes.span / step))
    truth = Restrict(equation, fine, coarse, "filter")(reference.state)
    restrict = Restrict(equation, fine, coarse, "filter")

    def measured(grid: Grid, closures: tuple[Coupled, ...]) -> tuple[float, float]:
        state = restrict.onto(start, grid) if grid.shape != fine.shape else start
        h = case.step * 64 / grid.shape[0] if grid.shape != coarse.shape else case.step
        steps = round(sizes.span / h)
        backends = (place.backend, replace(place.backend))
        runs = [
            Simulation(equation, grid, "etdrk4", sizes.span / steps, state, closures=closures, backend=b)
            for b in backends
        ]
        runs[0].run(steps)
        few = max(1, min(20, steps))
        begun = [0]

        def more() -> None:
            begun[0] += few
            runs[1].run(begun[0])

        cost = place.seconds(more, replace(sizes, seconds=min(sizes.seconds, 0.1), turns=min(3, sizes.turns)))
        return error(runs[0].state, grid), cost / (few * sizes.span / steps)

    def error(state: np.ndarray, grid: Grid) -> float:
        spectrum = resample(Transforms(grid).to_spectrum(state), grid, coarse, dealias=True)
        found = Transforms(coarse).to_physical(spectrum)
        return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))

    ladder = []
    for n in sizes.ladder:
        off, cost = measured(coarse.refined((n, n)), ())
        ladder.append((off, cost))
        yield Row(f"none, {n}²", off, "relative L2", f"{1e3 * cost:.3g} milliseconds per unit of time")
    for name, options in CLOSURES.items():
        coupled = (Coupled(name, find(name)(**options), every=1),)
        off, cost = measured(coarse, coupled)
        yield Row(f"{name}, 64²", off, "relative L2", f"{1e3 * cost:.3g} milliseconds per unit of time")
        if gain := speed_up(ladder, off, cost):
            yield Row(f"{name}: speed-up at equal error", gain, "ratio", "over the model on the ladder of grids")


def speed_up(ladder: list[tuple[float, float]], off: float, cost: float) -> float | None:
    """The cost of the ladder at this error over a cost; None outside the ladder. Linear in the logarithms."""
    errors, costs = (np.log(values) for values in zip(*sorted(ladder), strict=True))
    if len(ladder) < 2 or not errors[0] <= np.log(off) <= errors[-1]:
        return None
    return float(np.exp(np.interp(np.log(off), errors, costs)) / cost)
