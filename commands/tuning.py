"""The command `tune`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .cli import Backend, Json, Out, Scheduler, Set, Workers, _file, _finish, _read
from .terminal import display


def tune(
    case: Path,
    *,
    closure: str,
    score: Literal["relative_l2", "correlation_time", "spectrum_distance", "crps"] = "relative_l2",
    option: Annotated[tuple[str, ...], Parameter(name="--option", negative=())] = (),
    evaluations: int = 24,
    set_: Set = (),
    out: Out = None,
    backend: Backend = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json_: Json = False,
) -> None:
    """Choose options of a closure by rollouts on validation trajectories. --option NAME=LOW:HIGH: what is searched."""
    from .tune import tune as tune_closure
    from .tune import words

    checked, target = _read(case, set_, backend), _file(out)
    how: dict[str, Any] = {"out": target, "progress": not json_, "workers": workers, "scheduler": scheduler}
    found = tune_closure(checked, closure, score, option, evaluations=evaluations, **how)
    _finish(dataclasses.asdict(found), json_, lambda: display(words(found, score)))
