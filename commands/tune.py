"""`subgrid tune`: options of a closure that give the best rollouts on the validation trajectories of a case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from subgrid.ingest.cluster import cluster
from subgrid.ingest.prepare import with_step
from subgrid.solver.case.tables import Case, ClosureTable
from subgrid.solver.closure import Closure

from .candidates import Candidate, Candidates, plain
from .option_search import Options, ahead, search
from .progress import Bars, watching
from .rollouts import Score

PERTURBATION = "perturbation"  # the option that is not of a closure, but of its row
WEIGHT = "weight"  # the option that every closure of a case has


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
    workers: int | None = None,
    scheduler: str | None = None,
) -> Tuning:
    """Choose options of a closure by rollouts over the validation trajectories of the case.

    closure: its name, or "file.py:Class" relative to the folder of the case. If a row of [compare] or an entry of
    [[closure]] consists of this closure alone, its other options are kept. It may also be the label of a row: the last
    closure of the row is tuned, and the others stay as they are. score: what is best on average over the
    trajectories. ranges: option -> (low, high), both positive, searched in the logarithm, or a list of "NAME=LOW:HIGH";
    by default `tunable` of the class. The option "perturbation" is that of the initial states of the row, with as many
    members per trajectory as the case has; the score "crps" is of this ensemble. out: a file for the table of the
    closure with the best options. The test trajectories, those of [reference], are not used. workers, scheduler: so
    many processes on this machine, or those of the Dask scheduler at an address, run the candidates, and such that the
    search may ask for next; the result does not depend on it. The cache must be a folder that all of them see.

    Raises ClusterError, WorkersLost, and ValueError for a case without [training] and a closure with nothing to tune.
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
    perturbation = case.ensemble.perturbation

    def as_options(values: Mapping[str, float]) -> Options:
        return tuple((k, round(value) if k in whole else float(f"{value:.4g}")) for k, value in values.items())

    def candidate(options: Options) -> Candidate:
        own = {name: value for name, value in options if name != PERTURBATION}
        corrected = () if found.kind == "none" else (*others, table.model_copy(update=own))
        return corrected, dict(options).get(PERTURBATION, perturbation)

    with cluster(workers, scheduler) as pool, watching(progress) as bars:
        case = with_step(case)
        scored = Candidates(pool, case, (*others, table), score, bars)
        (uncorrected,) = scored.errors([((), perturbation)])
        result = Tuning({}, math.inf, uncorrected)
        errors: dict[Options, float] = {}

        def evaluate(values: Mapping[str, float]) -> float:
            options = as_options(values)
            if options not in errors:
                asked = [options] if pool is None else ahead(searched, as_options, errors, evaluations, pool.slots)
                errors.update(zip(asked, scored.errors([candidate(o) for o in asked]), strict=True))
            if all(other != dict(options) for other, _ in result.tried):
                result.tried.append((dict(options), errors[options]))
                note = f"{dict(options)}: {errors[options]:.4g}"
                bars(min(len(result.tried), evaluations), evaluations, f"tune {closure}", note)
            return errors[options]

        search(searched, evaluate, evaluations)
        scored.delete()
    best, error = min(result.tried, key=lambda entry: entry[1])
    if not math.isfinite(error):
        raise ValueError(
            f"closure {closure!r}: every run failed. Remedy: other ranges, or a smaller time.step. The last failure: "
            f"{scored.failure}"
        )
    result.score = 1 / error if score == "correlation_time" else error
    result.uncorrected = 1 / result.uncorrected if score == "correlation_time" else result.uncorrected
    result.table = {**plain(table), **best}
    if PERTURBATION in best or others:
        row = {PERTURBATION: result.table.pop(PERTURBATION)} if PERTURBATION in best else {}
        result.table = row | {"closures": [*map(plain, others), result.table]}
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
