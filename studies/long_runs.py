"""Rows of [compare] in long runs: are they finite, and are their statistics within the intervals of the reference's?

    python studies/long_runs.py cases/kolmogorov-les.toml --span 200 --every 1
    python studies/long_runs.py cases/shallow-water-coarse.toml --set time.end=10.0 --set output.every=0.2 --last 0.2

The runs begin at the first states of the trajectories of [reference], and last `--span`, by default as long as these.
Statistics are the means of the equation's invariants, of the variance (the mean square of the fields without their
means over the grid) and of the spectrum. They are taken over the last part `--last` of the run and of the reference
each, by default over all of it. For a flow that is statistically steady the run may be longer than the reference; for
one that decays it must be as long.

The reference's 95 % intervals are those of the bootstrap over blocks of trajectories and times, `--block` units of time
long. The column "spectrum distance" is that from the mean spectrum of the reference, and its interval reaches from 0 to
what 95 % of the means of redrawn blocks keep to. A star marks what is outside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.commands.comparison import metrics
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import reference_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case, CompareRow
from subgrid.solver.closure import PluginError
from subgrid.solver.equations.base import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

REDRAWN = 1000


class Statistics:
    """Statistics of states (time, member, field, *grid), by blocks of one member and `length` times each."""

    def __init__(self, states: NDArray, length: int, equation: Equation, grid: Grid) -> None:
        times = len(states) // length * length
        if not times:
            raise ValueError(f"{len(states)} states are fewer than the {length} of a block. Remedy: a smaller --block")
        blocks = states[len(states) - times :].reshape(-1, length, *states.shape[1:])
        self.values: dict[str, list[float]] = {}
        spectra = []
        for block in blocks:
            for member in np.moveaxis(block, 1, 0):
                found = {k: float(np.mean(v)) for k, v in equation.invariants(member, grid).items()}
                axes = tuple(range(2, member.ndim))
                found["variance"] = float(np.square(member - member.mean(axes, keepdims=True)).mean())
                for name, value in found.items():
                    self.values.setdefault(name, []).append(value)
                spectra.append(metrics.energy_spectrum(member, equation, grid))
        self.spectra = np.array(spectra)
        self._largest = min(grid.cuts) - 1

    def mean(self, name: str) -> float:
        return float(np.mean(self.values[name]))

    def distance(self, spectrum: NDArray) -> float:
        """That of a spectrum from the mean one."""
        found = metrics.spectrum_distance(spectrum, self.spectra.mean(0), self._largest)
        return float("nan") if found is None else found

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the means, from blocks drawn with replacement."""
        generator = np.random.default_rng(0)
        drawn = generator.integers(len(self.spectra), size=(REDRAWN, len(self.spectra)))
        found = {
            name: tuple(np.quantile(np.array(values)[drawn].mean(1), (0.025, 0.975)).tolist())
            for name, values in self.values.items()
        }
        distances = [self.distance(self.spectra[rows].mean(0)) for rows in drawn]
        return found | {"spectrum distance": (0.0, float(np.quantile(distances, 0.95)))}


def run(case: Case, row: CompareRow, initial: NDArray, span: float, every: int) -> NDArray:
    """The states (time, member, field, *grid) of a row, from the initial ones (member, field, *grid) on."""
    simulation = build_simulation(
        case,
        case.build_equation(),
        case.grid.grid(),
        initial,
        start=case.time.start,
        seed=case.ensemble.seed,
        members=tuple(range(len(initial))),
        closures=[table.couple(case.folder) for table in row.closures if table.name != "none"],
        folder=case.folder,
        initial={},
    )
    with np.errstate(all="ignore"):
        return np.stack(Collector(simulation, multiple(span, case.step), every).run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `subgrid run`")
    parser.add_argument("--span", type=float, help="units of time of a run; by default that of the reference")
    parser.add_argument("--every", type=float, help="time between states of a run; by default output.every")
    parser.add_argument("--last", type=float, default=1.0, help="the part of runs and reference that is averaged")
    parser.add_argument("--block", type=float, default=5.0, help="units of time of a block of the reference")
    parser.add_argument("--members", type=int, help="trajectories that the runs begin from; by default all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not 0 < options.last <= 1:
        parser.error("--last: choose a part of the run, above 0 and at most 1")
    case = with_step(read(options.case, options.set))
    if case.reference is None:
        parser.error(f"{options.case}: it has no table [reference]")
    equation, grid = case.build_equation(), case.grid.grid()
    truth = np.swapaxes(np.array(generate(case, reference_request(case), lambda done, total, what: None).state), 0, 1)
    span = options.span or case.time.end - case.time.start
    every = multiple(options.every or case.output.every, case.step)

    def last(states: NDArray) -> NDArray:
        return states[len(states) - max(1, round(options.last * len(states))) :]

    part = last(truth)
    known = Statistics(part, min(len(part), round(options.block / case.output.every)), equation, grid)
    intervals = known.intervals()
    print(f"{'row':44}" + "".join(f"{name:>26}" for name in intervals))
    bounds = (f"{f'{low:.4g} to {high:.4g}':>26}" for low, high in intervals.values())
    print(f"{f'reference, {len(known.spectra)} blocks':44}" + "".join(bounds), flush=True)
    table: list[dict[str, Any]] = [{"name": "reference", "intervals": intervals}]
    for row in [CompareRow.model_validate({"closures": [{"name": "none"}]}), *case.compare.closures]:
        if any(closure.find(case.folder).needs_reference for closure in row.closures):
            continue
        try:
            states = last(run(case, row, truth[0, : options.members], span, every))
            found = Statistics(states, len(states), equation, grid)
        except (BlowUp, PluginError) as error:
            print(f"{row.name[:43]:44}{error}", flush=True)
            table.append({"name": row.name, "failed": str(error)})
            continue
        values = {name: found.mean(name) for name in known.values}
        values["spectrum distance"] = known.distance(found.spectra.mean(0))
        outside = [name for name, (low, high) in intervals.items() if not low <= values[name] <= high]
        marked = (f"{f'{value:.4g}' + ('*' if name in outside else ' '):>26}" for name, value in values.items())
        print(f"{row.name[:43]:44}" + "".join(marked), flush=True)
        table.append({"name": row.name, "values": values, "outside": outside})
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
