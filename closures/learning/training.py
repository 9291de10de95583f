"""The training loop of all learned closures: stages of Adam, resumable bit for bit.

A training has stages in a fixed order, each a number of Adam steps on a part of the model under a one-cycle learning
rate. Its state lies in DIRECTORY/last.safetensors and its log in DIRECTORY/training.jsonl, one JSON object per
checkpoint: stage, step, mean loss since the last checkpoint and, with validation, valid_error. If everything that the
losses draw at random is a function of the step, a training that is interrupted at any instant and started again ends
with the same bits, on the same machine and number of threads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.solver.backend.files import remove_temporary, replace

from .learned_closure import Progress
from .optimisation import MOMENTS, descent
from .weights_file import read_header, read_tensors, write_tensors

FORMAT = 2  # of checkpoints; others are refused


def no_progress(done: int, total: int, metrics: dict[str, float]) -> None:
    """Report nothing."""


def checkpoint_header(directory: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Header of the checkpoint in `directory`, None if there is none; its tensors are not read.

    Raises ValueError, with the remedy, for a damaged file and for a training whose identity differs, naming what
    differs. Entries of the stored identity that `identity` lacks are not compared.
    """
    path = directory / "last.safetensors"
    if not path.exists():
        return None
    remedy = f"train in another directory, or delete {path}"
    try:
        header = read_header(path)
    except ValueError as error:
        raise ValueError(f"{error}. Remedy: {remedy}") from error
    stored, asked = {"format": header.get("format")} | dict(header.get("identity", {})), {"format": FORMAT, **identity}
    if differing := [name for name in asked if stored.get(name) != asked[name]]:
        raise ValueError(f"{directory} holds another training ({', '.join(differing)} differ): {remedy}")
    if not isinstance(header.get("extra"), dict):
        raise _damaged(path, "it has no further data")
    return header


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(f"{path} is damaged: {reason}. Remedy: delete it; the training then starts again")


class StagedTraining:
    """One training: the model, Adam's moments, the best weights, the log, and how far it has come.

    model: all that is trained; named parameters identify what a checkpoint holds. stages: steps of each stage, in
    order. identity: JSON data that a resumed training must share. extra: further JSON data to keep in the checkpoint;
    the owner changes it and `save` writes it. every: steps between checkpoints. clip, weight_decay: see `descent`.
    validate: the validation error, computed at every checkpoint; the weights with the least one are kept in `best`.

    Raises ValueError for a directory that holds another training, FloatingPointError for a loss or a validation error
    that is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: dict[str, int],
        directory: Path,
        identity: dict[str, Any],
        *,
        every: int,
        progress: Progress = no_progress,
        clip: float | None = 1.0,
        weight_decay: float = 0.0,
        validate: Callable[[], float] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.stages, self.directory = model, stages, directory
        self.identity, self.extra = identity, extra or {}
        self.every, self.progress = every, progress
        self.clip, self.weight_decay, self.validate = clip, weight_decay, validate
        self.position = (0, 0)  # number of the current stage, steps taken in it
        self.moments: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.log: list[dict[str, Any]] = []
        directory.mkdir(parents=True, exist_ok=True)
        remove_temporary(directory)
        if header := checkpoint_header(directory, identity):
            self._resume(header)

    @property
    def checkpoint(self) -> Path:
        return self.directory / "last.safetensors"

    def started(self, stage: str) -> bool:
        """Whether this stage, or a later one, has taken a step: then the checkpoint holds what precedes it."""
        return self.position > (list(self.stages).index(stage), 0)

    def run(self, stage: str, parameters: Iterable[nn.Parameter], peak: float, loss: Callable[[int], Tensor]) -> None:
        """Take the remaining steps of a stage. A stage that is complete, or precedes the current one, is skipped."""
        number, steps = list(self.stages).index(stage), self.stages[stage]
        current, taken = self.position
        begin = taken if number == current else 0
        if number < current or begin >= steps:
            return
        chosen = set(parameters)
        trained = {name: p for name, p in self.model.named_parameters() if p in chosen}
        if begin:
            self._check_moments(trained)
        before, total = sum(list(self.stages.values())[:number]), sum(self.stages.values())
        losses: list[float] = []
        loop = descent(trained, self.moments, begin, steps, peak, loss, clip=self.clip, weight_decay=self.weight_decay)
        for step, value, moments in loop:
            losses.append(value)
            if step % self.every == 0 or step == steps:
                entry = {"stage": stage, "step": step, "loss": float(np.mean(losses))}
                self.log.append(entry | self._validated(step, peak))
                losses.clear()
                self.position, self.moments = (number, step), moments()
                self.save()
            metrics = {"loss": value} if len(self.stages) == 1 else {"stage": number + 1, "loss": value}
            if self.log and "valid_error" in self.log[-1]:
                metrics["valid_error"] = self.log[-1]["valid_error"]
            self.progress(before + step, total, metrics)

    def restart(self, stage: str, model: nn.Module) -> None:
        """Go to the beginning of a stage with another model, whose parameters may have other shapes."""
        self.model, self.moments = model, {}
        self.position = (list(self.stages).index(stage), 0)
        self.save()

    def save(self) -> None:
        """Write the checkpoint and the log."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"moments.{name}": value for name, value in self.moments.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        header = {"format": FORMAT, "identity": self.identity, "position": self.position, "log": self.log}
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        # the log first: if the process is killed between the two, the log is written again with the next checkpoint
        lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in self.log)
        replace(self.directory / "training.jsonl", lines.encode())
        write_tensors(self.checkpoint, arrays, header | {"extra": self.extra})

    def _validated(self, step: int, peak: float) -> dict[str, float]:
        """The validation error as an entry of the log; the weights are kept if they are the best so far."""
        if self.validate is None:
            return {}
        error = self.validate()
        if not math.isfinite(error):
            raise FloatingPointError(f"the validation error is {error} at step {step}: lower learning_rate ({peak})")
        if all(error < entry["valid_error"] for entry in self.log):
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        return {"valid_error": error}

    def _resume(self, header: dict[str, Any]) -> None:
        try:
            arrays, _ = read_tensors(self.checkpoint)

            def part(prefix: str) -> dict[str, Tensor]:
                return {n.removeprefix(prefix): torch.from_numpy(a) for n, a in arrays.items() if n.startswith(prefix)}

            known = self.model.state_dict()
            # a training that is asked for more stages than it was has parameters that the checkpoint lacks, and the
            # other way round
            self.model.load_state_dict(known | {n: v for n, v in part("model.").items() if n in known})
            self.moments, self.best = part("moments."), part("best.")
            stage, step = header["position"]
            steps = dict(enumerate(self.stages.values())).get(stage, step)
            if not (stage >= 0 and 0 <= step <= steps):
                raise ValueError(f"it holds step {step} of stage {stage}, which this training does not have")
            self.position, self.log, self.extra = (stage, step), list(header["log"]), header["extra"]
            if self.validate and not all(math.isfinite(entry["valid_error"]) for entry in self.log):
                raise ValueError("a validation error is not finite")
            if self.validate and self.log and self.best.keys() != known.keys():
                raise ValueError("the best weights are missing")
        except (LookupError, TypeError, RuntimeError, ValueError) as error:
            raise _damaged(self.checkpoint, " ".join(str(error).split())) from error

    def _check_moments(self, trained: Mapping[str, nn.Parameter]) -> None:
        """Refuse a checkpoint without Adam's moments for these parameters."""
        for name, parameter in trained.items():
            for key in MOMENTS:
                found = self.moments.get(f"{key}.{name}")
                if found is None or found.shape != parameter.shape:
                    raise _damaged(self.checkpoint, f"the moments of {name} are missing or have another shape")
