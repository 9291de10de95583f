"""`subgrid train`: the training set or the runs of a sweep, then the training of the closure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import cache, training_request
from subgrid.ingest.sweep import Sweep, runs
from subgrid.ingest.training_set import Dataset, dataset
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import find

from .progress import Bars


def train(
    case: Case, path: Path, closure: str, target: Path, bars: Bars, command: str, objective: str, unroll: int | None
) -> dict[str, float]:
    """Train the closure named `closure`, write its weights to `target`, and return its scores.

    The training data is the training set of the case, or the runs of [sweep], as `learns_from` of the class says. Run
    again after an interruption, it resumes. Raises ValueError if the closure has no training or the case lacks the
    tables that it needs.
    """
    found = find(closure)
    if not issubclass(found, LearnedClosure):
        raise ValueError(f"closure {closure!r} has nothing to train. Remedy: use it as it is")
    options = dict(case.train.get(closure, {}))
    data: Dataset | Sweep
    if found.learns_from == "sweep":
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
        raise ValueError(f"--unroll {unroll}: the one-step objective has no rollout. Remedy: --objective rollout")
    work = cache() / f"training-{key}-{target.stem}"
    origin = {"training_case": path.name, "training_command": command}

    def progress(done: int, total: int, metrics: dict[str, Any]) -> None:
        bars(done, total, "training", ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))

    return found.train(TrainingJob(options, data, target, work, path.parent, origin, progress))
