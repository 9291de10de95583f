"""Finished runs of a comparison on disk: one .npz file for each, with its scores, its diagnostics and what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from subgrid.solver.backend.files import DamagedFile, read_arrays, write_arrays

from .results import RowKind
from .rows import Run

Shapes = Callable[[int], dict[str, tuple[int, ...]]]


class _Facts(BaseModel):
    """What is kept of a row besides arrays."""

    name: str
    kind: RowKind
    seconds_per_time: float
    calls: int
    skips: int
    declined: int
    failed: str | None
    note: str | None
    formula: str | None = None
    alike: bool
    numbers: dict[str, float | None]


def save_run(path: Path, run: Run) -> None:
    """Keep a finished run that has been scored."""
    arrays = {k: v for k, v in run.scores.items() if isinstance(v, np.ndarray)}
    facts = {name: getattr(run, name) for name in _Facts.model_fields if name != "numbers"}
    facts["numbers"] = {k: v for k, v in run.scores.items() if k not in arrays}
    write_arrays(path, {f"score.{k}": v for k, v in arrays.items()} | {"row": np.array(json.dumps(facts))})


def load_run(path: Path, shapes: Shapes, remedy: str) -> Run:
    """A finished run. shapes(count): those of the arrays of a run with `count` outputs.

    Raises DamagedFile, with the remedy, for a file that is damaged or belongs to another case.
    """
    try:
        arrays = read_arrays(path)
        facts = _Facts.model_validate(json.loads(str(arrays.pop("row"))))
    except DamagedFile as error:
        raise DamagedFile(f"{error}. {remedy}") from None
    except (KeyError, ValueError, RecursionError) as error:
        reason = "its facts are malformed" if isinstance(error, ValidationError) else str(error)
        raise DamagedFile(f"{path} is no row of a comparison ({reason}). {remedy}") from None
    scores = {k.removeprefix("score."): v for k, v in arrays.items()}
    if scores and not _fit(scores, shapes):
        raise DamagedFile(f"{path} does not fit the case. {remedy}")
    values = facts.model_dump()
    numbers = values.pop("numbers")
    return Run(**values, scores=scores | numbers if scores else {})


def _fit(scores: dict[str, Any], shapes: Shapes) -> bool:
    series = scores.get("relative_l2", np.empty(0))
    count = len(series) if series.ndim else 0
    found = {name: values.shape for name, values in scores.items()}
    return count > 0 and found == shapes(count) and all(values.dtype.kind == "f" for values in scores.values())
