"""`subgrid train`: the training set, then the closure's own training."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import cache, training_request
from subgrid.ingest.sweep import runs
from subgrid.ingest.training_set import dataset
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import find

from .progress import Bars


def train(
    case: Case, path: Path, closure: str, target: Path, bars: Bars, command: str, objective: str, unroll: int | None
) -> dict[str, float]:
    """Train the closure named `closure` and write its weights to `target`.

    It learns from the case's training set, or, if its class says `learns_from` = "sweep", from the runs of [sweep].
    Interrupted, it goes on where it was when called again. Raises ValueError if the closure has nothing to train or the
    case does not have the tables that it learns from.
    """
    found = find(closure)
    if not hasattr(found, "train"):
        raise ValueError(f"closure {closure!r} has nothing to train. Remedy: use it as it is")
    options = dict(case.train.get(closure, {}))
    data: Any
    if getattr(found, "learns_from", "training") == "sweep":
        if case.sweep is None:
            raise ValueError(f"{path}: training {closure} needs the table [sweep]")
        if objective != "one-step" or unroll is not None:
            raise ValueError(f"--objective and --unroll are not for {closure}. Remedy: leave them out")
        points = case.sweep.points()
        case = with_step(case)
        data = runs(case, points, bars)
        key = hashlib.sha256("".join(file.stem for file in data.files).encode()).hexdigest()[:20]
    else:
        if case.training is None or case.reference is None:
            raise ValueError(f"{path}: training needs the tables [training] and [reference]")
        case = with_step(case)
        data = dataset(case, bars)
        key = training_request(case).directory().name
    if objective != "one-step":
        options["objective"] = objective
        if unroll is not None and isinstance(options.get("rollout"), dict):
            options["rollout"] = {**options["rollout"], "unroll": unroll}
    elif unroll is not None:
        raise ValueError(f"--unroll {unroll}: the one-step objective unrolls nothing. Remedy: --objective rollout")
    work = cache() / f"training-{key}-{target.stem}"
    origin = {
        "training_case": path.name,
        "training_command": command,
    }

    def progress(done: int, total: int, metrics: dict[str, Any]) -> None:
        bars(done, total, "training", ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))

    return found.train(options, data, target, work, path.parent, origin, progress)
