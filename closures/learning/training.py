"""Training in phases: Adam on one part of a model after another, resumable to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .optimisation import descent
from .weights_file import read_checkpoint, write_tensors

Progress = Callable[[int, int, dict[str, float]], None]


class Phases:
    """Phases in a fixed order, each a number of steps of Adam under a one-cycle learning rate.

    The state of the model, Adam's moments and the log lie in directory/last.safetensors. What the loss draws must be a
    function of the step: then a training that is cut off goes on from there, and ends with the same weights.

    Raises ValueError for a directory that holds a training with another identity, FloatingPointError for a loss that is
    not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: dict[str, int],
        directory: Path,
        identity: dict[str, Any],
        checkpoint_every: int,
        progress: Progress,
    ) -> None:
        self.model, self.steps, self.identity = model, steps, identity
        self.checkpoint, self.every, self.progress = directory / "last.safetensors", checkpoint_every, progress
        self.order = list(steps)
        self.under_way: tuple[str, int] = (self.order[0], 0)
        self.moments: dict[str, Tensor] = {}
        self.log: list[dict[str, Any]] = []
        directory.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()

    def begun(self, phase: str) -> bool:
        """Whether a phase, or one after it, is under way or done: what is prepared before it is in the checkpoint."""
        here, there = self.order.index(self.under_way[0]), self.order.index(phase)
        return here > there or (here == there and self.under_way[1] > 0)

    def run(self, phase: str, parameters: Iterable[nn.Parameter], peak: float, loss: Callable[[int], Tensor]) -> None:
        """The steps of a phase that have not been taken yet."""
        here, there = self.order.index(self.under_way[0]), self.order.index(phase)
        steps = self.steps[phase]
        begin = self.under_way[1] if here == there else 0
        if here > there or begin >= steps:
            return
        trained = set(parameters)
        named = {name: p for name, p in self.model.named_parameters() if p in trained}
        before, total = sum(self.steps[p] for p in self.order[:there]), sum(self.steps.values())
        losses: list[float] = []
        for step, value, moments in descent(named, self.moments, begin, steps, peak, loss):
            losses.append(value)
            self.progress(before + step, total, {"loss": value})
            if step % self.every == 0 or step == steps:
                self.log.append({"phase": phase, "step": step, "loss": float(np.mean(losses))})
                losses.clear()
                self.under_way, self.moments = (phase, step), moments()
                self._save()

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"moments.{name}": value for name, value in self.moments.items()}
        header = {"identity": self.identity, "under_way": self.under_way, "log": self.log}
        write_tensors(self.checkpoint, {name: value.detach().numpy() for name, value in tensors.items()}, header)
        lines = "".join(json.dumps(entry) + "\n" for entry in self.log)
        self.checkpoint.with_name("training.jsonl").write_text(lines, encoding="utf-8")

    def _resume(self) -> None:
        arrays, header = read_checkpoint(self.checkpoint, self.identity)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.model.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
        self.moments = {n.removeprefix("moments."): v for n, v in tensors.items() if n.startswith("moments.")}
        self.under_way, self.log = (header["under_way"][0], header["under_way"][1]), header["log"]
