"""`subgrid tune`: options of a closure that give the best rollouts on the validation trajectories of a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
from numpy.typing import NDArray
from pydantic import ValidationError

from subgrid.ingest.entities import carrier_state, restricted_carrier
from subgrid.ingest.perturbation import perturbed
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import Request, describe_initial, training_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case, ClosureTable
from subgrid.solver.closure import Closure, PluginError
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

from .comparison import metrics
from .progress import Bars, watching

Score = Literal["relative_l2", "correlation_time", "spectrum_distance", "crps"]
PERTURBATION = "perturbation"  # the option that is not of a closure, but of its row
WEIGHT = "weight"  # the option that every closure of a case has
GRID = 9  # values of a single option that are tried before the search between them


@dataclass
class Tuning:
    """What was found. table: the closure as a table of a case, with the best options. score: its score, and that of
    the uncorrected model. tried: every evaluation, as (options, score); infinite for a run that failed.
    at_end: options whose best value is an end of its range.
    """

    table: dict[str, Any]
    score: float
    uncorrected: float
    tried: list[tuple[dict[str, float], float]] = field(default_factory=list)
    at_end: list[str] = field(default_factory=list)


def tune(
    case: Case,
    closure: str,
    score: Score = "relative_l2",
    ranges: Mapping[str, tuple[float, float]] | Sequence[str] = (),
    *,
    evaluations: int = 24,
    out: Path | None = None,
    progress: bool | Bars = True,
) -> Tuning:
    """Choose options of a closure by rollouts over the validation trajectories of the case.

    closure: its name, or "file.py:Class" relative to the folder of the case. If a row of [compare] or an entry of
    [[closure]] consists of this closure alone, its other options are kept. It may also be the label of a row: the last
    closure of the row is tuned, and the others stay as they are. score: what is best on average over the
    trajectories. ranges: option -> (low, high), both positive, searched in the logarithm, or a list of "NAME=LOW:HIGH";
    by default `tunable` of the class. The option "perturbation" is that of the initial states of the row, with as many
    members per trajectory as the case has; the score "crps" is of this ensemble. out: a file for the table of the
    closure with the best options. The test trajectories, those of [reference], are not used.

    Raises ValueError if the case has no [training] table, or the closure nothing to tune.
    """
    if case.training is None:
        raise ValueError(
            "training: missing; tuning runs over its validation trajectories. "
            "Remedy: [training] with [reference] shape, or with a file of data"
        )
    if evaluations < 1:
        raise ValueError(f"--evaluations {evaluations}: expected 1 or more")
    *others, table = _tables(case, closure)
    found = table.find(case.folder)
    searched = dict((ranges if isinstance(ranges, Mapping) else _parsed(ranges)) or found.tunable)
    if not searched:
        raise ValueError(f"closure {closure!r} has no options to tune. Remedy: name them, --option rate=0.1:10")
    for name, (low, high) in searched.items():
        if name not in (*found.model_fields, WEIGHT, PERTURBATION):
            raise ValueError(f"--option {name}: closure {closure!r} has no such option")
        if not 0 < low < high < math.inf:
            raise ValueError(f"--option {name}={low:g}:{high:g}: expected two positive numbers, the smaller one first")
    whole = {name for name, field in found.model_fields.items() if field.annotation is int}
    _check_ends(found, table, searched, whole)
    with watching(progress) as bars:
        case = with_step(case)
        rollouts = Rollouts(case, score, bars)
        result = Tuning({}, math.inf, rollouts((), case.ensemble.perturbation))

        def evaluate(values: Mapping[str, float]) -> float:
            options = {k: round(value) if k in whole else float(f"{value:.4g}") for k, value in values.items()}
            known = [error for other, error in result.tried if other == options]
            if known:
                return known[0]
            own = {name: value for name, value in options.items() if name != PERTURBATION}
            corrected = () if found.kind == "none" else (*others, table.model_copy(update=own))
            error = rollouts(corrected, options.get(PERTURBATION, case.ensemble.perturbation))
            result.tried.append((options, error))
            bars(min(len(result.tried), evaluations), evaluations, f"tune {closure}", f"{options}: {error:.4g}")
            return error

        _search(searched, evaluate, evaluations)
    best, error = min(result.tried, key=lambda entry: entry[1])
    if not math.isfinite(error):
        raise ValueError(
            f"closure {closure!r}: every run failed. Remedy: other ranges, or a smaller time.step. The last failure: "
            f"{rollouts.failure}"
        )
    result.score = 1 / error if score == "correlation_time" else error
    result.uncorrected = 1 / result.uncorrected if score == "correlation_time" else result.uncorrected
    result.table = {**_plain(table), **best}
    if PERTURBATION in best or others:
        row = {PERTURBATION: result.table.pop(PERTURBATION)} if PERTURBATION in best else {}
        result.table = row | {"closures": [*map(_plain, others), result.table]}
    if out is not None:
        out.write_text(tomli_w.dumps(result.table), encoding="utf-8")
    result.at_end = [k for k, ends in searched.items() if min(abs(math.log(best[k] / e)) for e in ends) < 0.01]
    return result


def _check_ends(
    found: type[Closure], table: ClosureTable, searched: Mapping[str, tuple[float, float]], whole: set[str]
) -> None:
    """Refuse options that are not numbers, and ranges beyond the bounds of an option."""
    for name, (low, high) in searched.items():
        if name not in found.model_fields:
            continue
        if found.model_fields[name].annotation is bool:
            raise ValueError(f"--option {name}: it is true or false, not a number. Remedy: set it in the case")
        for end in (low, high):
            try:
                found(**{**table.options, name: round(end) if name in whole else end})
            except ValidationError as error:
                raise ValueError(f"--option {name}={low:g}:{high:g}: {error.errors()[0]['msg']}") from None


def words(found: Tuning, score: Score) -> str:
    """Every evaluation, from the worst to the best, the scores, and the table of the closure."""
    lines = [
        "  ".join(f"{name} = {v:g}" for name, v in options.items()) + f"  {value:.5g}"
        for options, value in sorted(found.tried, key=lambda entry: -entry[1])
    ]
    lines += [
        f"the best {name} is at an end of its range. Remedy: --option {name}=LOW:HIGH with a wider one"
        for name in found.at_end
    ]
    lines.append(f"{score}: {found.score:.5g}, uncorrected {found.uncorrected:.5g}")
    return "\n".join([*lines, tomli_w.dumps(found.table).rstrip()])


def _parsed(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    found = {}
    for text in texts:
        name, _, ends = text.partition("=")
        low, _, high = ends.partition(":")
        try:
            found[name] = (float(low), float(high))
        except ValueError:
            raise ValueError(f"--option {text!r}: expected NAME=LOW:HIGH") from None
    return found


def _plain(table: ClosureTable) -> dict[str, Any]:
    return table.model_dump(exclude_none=True, exclude_defaults=True)


def _tables(case: Case, closure: str) -> tuple[ClosureTable, ...]:
    """The closures of the row with this label, or the closure as the case has it, else with its defaults, called as
    often as the first closure of the case."""
    for row in case.compare.closures:
        if row.label == closure and row.closures:
            return row.closures
    alone = [*case.closure, *(row.closures[0] for row in case.compare.closures if len(row.closures) == 1)]
    for table in alone[::-1]:
        if closure in (table.name, table.path):
            return (table,)
    source = {"path": closure} if ":" in closure else {"name": closure}
    return (ClosureTable.model_validate({**source, "every": case.closure[0].every if case.closure else 1}),)


class Rollouts:
    """The error of closures over the validation trajectories: runs from the start of [training] to its end."""

    def __init__(self, case: Case, score: Score, bars: Bars) -> None:
        assert case.training is not None
        owners = case.reference.trajectories if case.reference else 1
        self._members = case.ensemble.members // owners if score == "crps" else 1
        request = training_request(case)
        trajectories = generate(case, request, bars)
        self._case, self._score = case, score
        self.failure = ""  # why the last run that failed did
        last = case.training.trajectories
        numbers = range(self._members * (last - case.training.validation), self._members * last)
        self._numbers = tuple(numbers)  # with one member each, those of the trajectories, whose noise stirs them
        self._times = trajectories.times()
        self._truth = np.moveaxis(np.array(trajectories.state[-case.training.validation :]), 1, 0)
        self._equation, self._grid = case.build_equation(), case.grid.grid()
        self._every = multiple(case.training.every, case.step)
        self._flow = self._carrier(request, bars)

    def _carrier(self, request: Request, bars: Bars) -> NDArray | None:
        """The flow that carries the entities of each rollout at its start, restricted to the grid of the case.

        Raises ValueError for a [training] that starts later than the reference, since the flow there is not kept.
        """
        case, training, reference = self._case, self._case.training, self._case.reference
        assert training is not None
        if not self._equation.carried or reference is None:
            return None
        if training.start != request.start:
            raise ValueError(
                f"training.start: the flow of the tracers is known at t = {request.start:g} alone, found "
                f"{training.start:g}. Remedy: training.start = {request.start:g}, and a longer equation.spin_up"
            )
        fine = self._grid.refined(request.reference_shape)
        ids = tuple(range(training.trajectories - training.validation, training.trajectories))
        flow = carrier_state(
            case, reference.initial or case.initial, self._equation.complete(), fine, ids, request.seed, request.step,
            request.start, lambda done, total: bars(done, total, "flow of the validation trajectories"),
        )  # fmt: skip
        if flow is None:
            return None
        flow = restricted_carrier(flow, self._equation, fine, self._grid, reference.restrict)
        return np.repeat(flow, self._members, axis=0)

    def __call__(self, tables: tuple[ClosureTable, ...], perturbation: float) -> float:
        """The score, inverted if larger is better; infinite for a run that fails."""
        case = self._case
        assert case.training is not None
        state = np.repeat(self._truth[0], self._members, axis=0)
        ids = tuple(range(len(state)))
        state = perturbed(state, self._equation, self._grid, ids, case.ensemble.seed, perturbation)
        try:
            simulation = build_simulation(
                case,
                self._equation,
                self._grid,
                state,
                start=case.training.start,
                seed=case.training.seed,
                members=self._numbers,
                closures=[table.couple(case.folder) for table in tables],
                folder=case.folder,
                initial=describe_initial(case.initial),
                carrier=self._flow,
            )
            run = Collector(simulation, (len(self._times) - 1) * self._every, self._every)
            with np.errstate(all="ignore"):
                states = np.stack(run.run()).astype(np.float64, copy=False)
        except (BlowUp, PluginError) as error:
            self.failure = str(error)
            return math.inf
        return self._error(states)

    def _error(self, states: NDArray) -> float:
        if self._score == "crps":
            ensemble = states.reshape(*self._truth.shape[:2], self._members, *self._truth.shape[2:])
            return float(metrics.crps(ensemble, self._truth)[1:].mean())
        if self._score == "relative_l2":
            return float(metrics.relative_l2(states, self._truth)[1:].mean())
        if self._score == "correlation_time":
            follows = metrics.correlation(states, self._truth)
            spans = metrics.correlation_time(follows, self._times, self._case.compare.correlation_threshold)
            return 1 / float(spans.mean()) if spans.any() else math.inf
        energy, true = (metrics.energy_spectrum(u, self._equation, self._grid) for u in (states, self._truth))
        distance = metrics.spectrum_distance(energy, true, min(self._grid.cuts) - 1)
        if distance is None:
            raise ValueError(f"--score spectrum_distance: {self._equation.name} has no spectrum here")
        return distance


def _search(
    ranges: Mapping[str, tuple[float, float]], evaluate: Callable[[Mapping[str, float]], float], evaluations: int
) -> None:
    """Minimise over the logarithms: a grid and Brent's method for one option, Nelder and Mead's for several."""
    from scipy.optimize import minimize, minimize_scalar

    names = list(ranges)
    low, high = (np.log([ends[i] for ends in ranges.values()]) for i in (0, 1))

    def at(x: NDArray) -> float:
        inside = np.clip(np.atleast_1d(x), low, high)
        error = evaluate(dict(zip(names, np.exp(inside), strict=True)))
        return error if math.isfinite(error) else 1e12

    if len(names) > 1:
        options = {"maxfev": evaluations, "xatol": 0.02, "fatol": 0.0, "initial_simplex": _simplex(low, high)}
        minimize(at, 0.5 * (low + high), method="Nelder-Mead", options=options)
        return
    points = np.linspace(low[0], high[0], min(GRID, evaluations))
    best = int(np.argmin([at(x) for x in points]))
    if evaluations > len(points):
        ends = points[max(best - 1, 0)], points[min(best + 1, len(points) - 1)]
        minimize_scalar(
            at, bounds=ends, method="bounded", options={"maxiter": evaluations - len(points), "xatol": 0.01}
        )


def _simplex(low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """Corners of the first simplex: the middle of the box, and a quarter of the box farther along each axis."""
    middle = 0.5 * (low + high)
    return np.vstack([middle, middle + 0.25 * np.diag(high - low)])
