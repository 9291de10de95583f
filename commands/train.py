"""`subgrid.train`: the training set or the runs of a sweep, then the training of the closure."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import cache, training_request
from subgrid.ingest.sweep import Sweep, runs
from subgrid.ingest.training_set import Dataset, dataset
from subgrid.solver.case.tables import Case
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.equations.plugin_errors import plugin_errors

from .progress import Bars, watching


@plugin_errors()
def train(
    case: Case,
    closure: str,
    *,
    out: str | os.PathLike[str] | None = None,
    objective: Literal["one-step", "rollout"] = "one-step",
    unroll: int | None = None,
    progress: bool | Bars = True,
    origin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train a closure and write its weights; returns {"weights": Path, "scores": {name: value}}.

    closure: its name, or "file.py:Class" relative to the folder of the case. The training data is the training set of
    the case, or the runs of [sweep], as `learns_from` of the class says; it is computed unless it is in the cache.
    Options come from [train.CLOSURE]. objective "rollout" continues the training through the solver, over windows of
    `unroll` calls of the closure. out: file for the weights, by default CASE-CLOSURE.safetensors in the working
    directory, with the name of the case file, or "case". origin: training_case and training_command for the header of
    the weights.

    Called again after an interruption, it resumes. Raises ValueError if the closure has no training or the case lacks
    the tables that it needs.
    """
    source = (origin or {}).get("training_case", "case")
    found = CLOSURES.find(closure, case.folder)
    if not issubclass(found, LearnedClosure):
        raise ValueError(f"closure {closure!r} has nothing to train. Remedy: use it as it is")
    named = f"{Path(source).stem}-{short_name(closure)}.safetensors" if out is None else out
    target = Path(os.path.abspath(named))  # a plug-in may change the working directory
    options = _options(case, closure, found, objective, unroll)
    with watching(progress) as bars:
        data, key = _data(case, closure, found, bars)
        work = cache() / f"training-{key}-{target.stem}"
        about = {"training_case": source, "training_command": f"subgrid.train(case, {closure!r})", **(origin or {})}

        def show(done: int, total: int, metrics: dict[str, Any]) -> None:
            bars(done, total, "training", ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))

        scores = found.train(TrainingJob(options, data, target, work, case.folder, about, show))
    return {"weights": target, "scores": scores}


def short_name(closure: str) -> str:
    """The name of a closure, or the class of "file.py:Class"."""
    return closure.rpartition(":")[2]


def _options(
    case: Case, closure: str, found: type[LearnedClosure], objective: str, unroll: int | None
) -> dict[str, Any]:
    """The table [train.CLOSURE], with the objective and the window that were asked for."""
    options = dict(case.train.get(closure, {}))
    if found.learns_from == "sweep" and (objective != "one-step" or unroll is not None):
        raise ValueError(f"--objective and --unroll are not for {closure}. Remedy: leave them out")
    if objective != "one-step":
        options["objective"] = objective
        if unroll is not None and isinstance(options.get("rollout"), dict):
            options["rollout"] = {**options["rollout"], "unroll": unroll}
    elif unroll is not None:
        raise ValueError(f"--unroll {unroll}: the one-step objective has no rollout. Remedy: --objective rollout")
    return options


def _data(case: Case, closure: str, found: type[LearnedClosure], bars: Bars) -> tuple[Dataset | Sweep, str]:
    """The data to learn from, and the key of the cache that stands for its content."""
    if found.learns_from == "sweep":
        if case.sweep is None:
            raise ValueError(f"case: training {closure} needs the table [sweep]")
        points = case.sweep.points()
        sweep = runs(with_step(case), points, bars)
        return sweep, hashlib.sha256("".join(file.stem for file in sweep.files).encode()).hexdigest()[:20]
    if case.training is None or case.reference is None:
        raise ValueError("case: training needs the tables [training] and [reference]")
    case = with_step(case)
    return dataset(case, bars), training_request(case).directory().name
