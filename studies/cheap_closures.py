"""Rows of [compare] on validation trajectories: cost, long-run scores and stability; the choice has a penalty for cost.

    python studies/cheap_closures.py cases/kolmogorov-les.toml --set time.step=0.0333333333333333 ...

The runs start at many times of the validation trajectories, `--gap` apart, and last `--span`: the correlation time and
the relative L2 error are averaged over the starts, whose windows overlap. The spectrum distance is that of all states.
A further run of each row lasts `--long` from the first start of each trajectory; it must stay finite, and the table
gives the ratio of its mean square, without means over the grid, to that of the trajectories: of vorticities this is
their enstrophy. The test trajectories are not used.

The chosen row has the largest value: its correlation time or, with `--score`, minus the logarithm of its error, minus
`--penalty` times the logarithm of its cost. The penalty is what a finer grid gains on the frontier of the case. The
default one is that of the large-eddy case: a correlation time 1.5 longer for a cost e times as large.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subgrid.commands.comparison import metrics
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import training_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case, CompareRow
from subgrid.solver.closure import PluginError
from subgrid.solver.simulation import BlowUp, Simulation
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

SCORES = ("correlation_time", "relative_l2", "spectrum_distance")
COLUMNS = ("cost", *SCORES, "variance", "value")


@dataclass
class Score:
    """cost: CPU seconds per unit of time and member. variance: of the long run over that of the trajectories."""

    name: str
    cost: float = math.nan
    correlation_time: float = math.nan
    relative_l2: float = math.nan
    spectrum_distance: float = math.nan
    variance: float = math.nan
    value: float = -math.inf
    failed: str = ""


class Validation:
    """The validation trajectories of a case, and runs of rows from their states."""

    def __init__(self, case: Case, span: float, gap: float, long: float) -> None:
        assert case.training is not None
        self.case, self.equation, self.grid = case, case.build_equation(), case.grid.grid()
        trajectories = generate(case, training_request(case), lambda done, total, what: None)
        self.states = np.array(trajectories.state[-case.training.validation :])  # (trajectory, time, field, *grid)
        interval = case.training.every
        self._every = multiple(interval, case.step)
        self._count = round(span / interval)
        starts = range(0, self.states.shape[1] - self._count, max(1, round(gap / interval)))
        self._initial = np.concatenate([self.states[:, i] for i in starts])
        self._truth = np.stack(
            [np.concatenate([self.states[:, i + n] for i in starts]) for n in range(self._count + 1)]
        )
        self._times = interval * np.arange(self._count + 1)
        self._long = round(long / interval)

    def _simulation(self, row: CompareRow, state: NDArray) -> Simulation:
        case = self.case
        assert case.training is not None
        return build_simulation(
            case,
            self.equation,
            self.grid,
            state,
            start=case.training.start,
            seed=case.training.seed,
            members=tuple(range(len(state))),
            closures=[table.couple(case.folder) for table in row.closures if table.name != "none"],
            folder=case.folder,
            initial={},
        )

    def _run(self, row: CompareRow, state: NDArray, count: int) -> NDArray:
        run = Collector(self._simulation(row, state), count * self._every, self._every)
        with np.errstate(all="ignore"):
            return np.stack(run.run()).astype(np.float64, copy=False)

    def __call__(self, row: CompareRow, score: str, penalty: float) -> Score:
        found = Score(row.name)
        try:
            self._run(row, self._initial[:2], 1)  # compiles
            began = time.process_time()
            states = self._run(row, self._initial, self._count)
            found.cost = (time.process_time() - began) / (self._times[-1] * len(self._initial))
            end = self._run(row, self.states[:, 0], self._long)[self._long // 2 :]
        except (BlowUp, PluginError) as error:
            found.failed = str(error)
            return found
        follows = metrics.correlation(states, self._truth)
        threshold = self.case.compare.correlation_threshold
        found.correlation_time = float(metrics.correlation_time(follows, self._times, threshold).mean())
        found.relative_l2 = float(metrics.relative_l2(states, self._truth)[1:].mean())
        spectra = (metrics.energy_spectrum(u, self.equation, self.grid) for u in (states, self._truth))
        distance = metrics.spectrum_distance(*spectra, min(self.grid.cuts) - 1)
        found.spectrum_distance = math.nan if distance is None else distance
        found.variance = float(_anomaly(end) / _anomaly(self.states))
        gain = found.correlation_time if score == "correlation_time" else -math.log(getattr(found, score))
        found.value = gain - penalty * math.log(found.cost)
        return found


def _anomaly(states: NDArray) -> float:
    """The mean square of states (..., y, x) or (..., x) without the means of the fields, which a run conserves."""
    axes = (-2, -1) if states.ndim > 4 else (-1,)
    return float(np.square(states - states.mean(axes, keepdims=True)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `subgrid run`")
    parser.add_argument("--span", type=float, default=8.0)
    parser.add_argument("--gap", type=float, default=0.5)
    parser.add_argument("--long", type=float, default=200.0)
    parser.add_argument("--score", choices=SCORES, default=SCORES[0])
    parser.add_argument("--penalty", type=float, default=1.5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    case = with_step(read(options.case, options.set))
    if case.training is None:
        parser.error(f"{options.case}: it has no table [training]")
    validation = Validation(case, options.span, options.gap, options.long)
    rows = [CompareRow.model_validate({"closures": [{"name": "none"}]}), *case.compare.closures]
    scores = []
    print(f"{'row':44}" + "".join(f"{c.replace('_', ' '):>18}" for c in COLUMNS), flush=True)
    for row in rows:
        if any(table.find(case.folder).needs_reference for table in row.closures):
            continue
        scores.append(score := validation(row, options.score, options.penalty))
        print(
            f"{score.name[:43]:44}" + "".join(f"{getattr(score, c):18.4g}" for c in COLUMNS), score.failed, flush=True
        )
    best = max(scores, key=lambda score: score.value)
    print(f"chosen: {best.name}")
    if options.json:
        table = [asdict(score) | {"chosen": score is best} for score in scores]
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
