"""`subgrid.train`: the training set or the runs of a sweep, then the training of the closure."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob
from subgrid.closures.learning.weights_file import read_header
from subgrid.ingest.cache import cache, locked, say_waiting
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import training_request
from subgrid.ingest.sweep import Sweep, runs
from subgrid.ingest.training_set import Dataset, dataset
from subgrid.solver.backend import BackendError, select
from subgrid.solver.backend.files import remove_temporary
from subgrid.solver.case.tables import Case
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.equations.plugin_errors import plugin_errors

from .exit_codes import PROCESS
from .progress import Bars, watching
from .training_memory import needs_of_training
from .training_memory import require as require_memory


@plugin_errors()
def train(
    case: Case,
    closure: str,
    *,
    out: str | os.PathLike[str] | None = None,
    objective: Literal["one-step", "rollout"] = "one-step",
    unroll: int | None = None,
    device: str = "cpu",
    progress: bool | Bars = True,
    origin: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train a closure and write its weights; returns {"weights": Path, "scores": {name: value}}.

    For weights whose header states a formula, it is returned under "formula".

    closure: its name, or "file.py:Class" relative to the folder of the case. The training data is the training set of
    the case, or the runs of [sweep], as `learns_from` of the class says; it is computed unless it is in the cache.
    Options come from [train.CLOSURE]. objective "rollout" continues the training through the solver, over windows of
    `unroll` calls of the closure. device: of torch, where networks are trained. out: file for the weights, by default
    CASE-CLOSURE.safetensors in the working directory, with the name of the case file, or "case". origin: training_case
    and training_command for the header of the weights.

    The processes of torchrun share every batch, and the first of them writes the results.

    Called again after an interruption, it resumes. A process waits for another one with the same target, or the same
    folder of checkpoints in the cache, and the logger "subgrid" says so. Raises ValueError if the closure has no
    training, the case lacks the tables that it needs, or the target cannot be written.
    """
    Case.require(case)
    source = (origin or {}).get("training_case", "case")
    found = _learned(case, closure)
    named = f"{Path(source).stem}-{short_name(closure)}.safetensors" if out is None else out
    target = Path(os.path.abspath(named))  # a plug-in may change the working directory
    options = _options(case, closure, found, objective, unroll)
    _check_device(device)
    _check_tables(case, closure, found)
    if PROCESS == 0:
        _check_target(target)
    if device == "cpu" and PROCESS == 0:
        with watching(progress) as bars:
            require_memory(case, closure, found, options, bars)
    about = {"training_case": source, "training_command": f"subgrid.train(case, {closure!r})", **(origin or {})}
    from subgrid.closures.learning import parallel

    with parallel.joined(), watching(progress if PROCESS == 0 else False) as bars:
        device = parallel.local_device(device)
        with parallel.first_before_others():
            data, key = _data(case, closure, found, bars)
        work = cache() / f"training-{key}-{target.stem}"

        def show(done: int, total: int, metrics: dict[str, Any]) -> None:
            bars(done, total, "training", ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))

        with _locks(target, work), parallel.own_folder(work) as folder:
            file = target if PROCESS == 0 else folder / target.name
            scores = found.train(TrainingJob(options, data, file, folder, case.folder, about, show, device))
            return {"weights": target, "scores": scores} | _formula(file)


@plugin_errors()
def memory_of(case: Case, closure: str, objective: str = "one-step", unroll: int | None = None) -> str:
    """The peak memory of the same training on one process and the processor, in words; see `needs_of_training`."""
    found = _learned(case, closure)
    options = _options(case, closure, found, objective, unroll)
    _check_tables(case, closure, found)
    return needs_of_training(case, closure, found, options)


def _learned(case: Case, closure: str) -> type[LearnedClosure]:
    """The class of a closure that can be trained. Raises ValueError for another one."""
    found = CLOSURES.find(closure, case.folder)
    if not issubclass(found, LearnedClosure):
        raise ValueError(f"closure {closure!r} has nothing to train. Remedy: use it as it is")
    return found


@contextmanager
def _locks(target: Path, work: Path) -> Iterator[None]:
    """The locks of the weights and of the folder of checkpoints, which the first process of torchrun holds for all."""
    if PROCESS > 0:
        yield
        return
    with (
        locked(cache() / f"target-{_hash(str(target))}", say_waiting(str(target)), temporary=True),
        locked(work, say_waiting(f"a training in {work}")),
    ):
        remove_temporary(target.parent, of=target.name)
        yield


def _formula(weights: Path) -> dict[str, str]:
    """The formula that the header of the weights states, if it is one of subgrid's and does."""
    try:
        header = read_header(weights)
    except (ValueError, FileNotFoundError):  # the training of a plug-in may write what it likes
        return {}
    return {"formula": header["formula"]} if isinstance(header.get("formula"), str) else {}


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
        if unroll is not None and isinstance(options.get("rollout", {}), dict):
            options["rollout"] = {**options.get("rollout", {}), "unroll": unroll}
    elif unroll is not None:
        raise ValueError(f"--unroll {unroll}: the one-step objective has no rollout. Remedy: --objective rollout")
    return options


def _check_tables(case: Case, closure: str, found: type[LearnedClosure]) -> None:
    if found.learns_from == "sweep":
        if case.sweep is None:
            raise ValueError(f"case: training {closure} needs the table [sweep]")
    elif case.training is None or (case.reference is None and case.training.file is None):
        raise ValueError("case: training needs the tables [training] and [reference], or [training] with a file")


def _check_device(device: str) -> None:
    """Raise ValueError, with remedy, for a device that torch does not have here."""
    try:
        select(f"torch:{device}")
    except BackendError as error:
        reason = str(error).partition("(")[2].rpartition(")")[0] or "unknown"
        raise ValueError(f"--device {device}: not available here ({reason}). Remedy: --device cpu") from None


def _check_target(target: Path) -> None:
    """Refuse a target that could not be written at the end of the training."""
    folder = target.parent
    if target.is_dir():
        raise ValueError(f"{target} is a folder. Remedy: --out FILE.safetensors")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} for {target.name}. Remedy: make it, or another --out")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"the folder {folder} cannot be written. Remedy: another --out")


def _data(case: Case, closure: str, found: type[LearnedClosure], bars: Bars) -> tuple[Dataset | Sweep, str]:
    """The data to learn from, and the key of the cache that stands for its content."""
    if found.learns_from == "sweep":
        case = with_step(case)
        assert case.sweep is not None
        sweep = runs(case, case.sweep.points(), bars)
        return sweep, _hash("".join(file.stem for file in sweep.files))
    case = with_step(case)
    return dataset(case, bars), training_request(case).directory().name


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
