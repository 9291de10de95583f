"""`subgrid train`: the training set, then the closure's own training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from subgrid.ingest.dataset import dataset
from subgrid.ingest.trajectories import cache, training_request
from subgrid.solver.case import Case
from subgrid.solver.closure import find

from .prepare import with_step
from .progress import Bars


def train(
    case: Case, path: Path, closure: str, target: Path, bars: Bars, command: str, objective: str, unroll: int | None
) -> dict[str, float]:
    """Train the closure named `closure` on the case's training set and write its weights to `target`.

    Interrupted, it goes on where it was when called again. Raises ValueError if the closure has nothing to train or the
    case has no [training] table.
    """
    found = find(closure)
    if not hasattr(found, "train"):
        raise ValueError(f"closure {closure!r} has nothing to train. Remedy: use it as it is")
    if case.training is None or case.reference is None:
        raise ValueError(f"{path}: training needs the tables [training] and [reference]")
    case = with_step(case)
    pairs = dataset(case, bars)
    options = dict(case.train.get(closure, {}))
    if objective != "one-step":
        options["objective"] = objective
        if unroll is not None and isinstance(options.get("rollout"), dict):
            options["rollout"] = {**options["rollout"], "unroll": unroll}
    elif unroll is not None:
        raise ValueError(f"--unroll {unroll}: the one-step objective unrolls nothing. Remedy: --objective rollout")
    work = cache() / f"training-{training_request(case).directory().name}-{target.stem}"
    origin = {
        "training_case": path.name,
        "training_command": command,
    }

    def progress(done: int, total: int, metrics: dict[str, Any]) -> None:
        bars(done, total, "training", ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))

    return found.train(options, pairs, target, work, path.parent, origin, progress)
