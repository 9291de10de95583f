"""What the parts of `make gpu` share: rows, sizes, a device that can be waited for, and times on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from subgrid.solver.backend import Backend


class Row(NamedTuple):
    """One measured value, and what is required of it: at least, or at most; None for no requirement."""

    what: str
    value: float
    unit: str
    detail: str = ""
    required: float | None = None
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.required is None:
            return None
        return bool(self.value >= self.required if self.at_least else self.value <= self.required)

    def __str__(self) -> str:
        verdict = {None: "", True: "  ok", False: "  MISSED"}[self.met]
        return f"{self.what:52}{self.value:12.4g} {self.unit:24}{self.detail}{verdict}"


@dataclass(frozen=True)
class Sizes:
    """How much a part does. The defaults are those of a device; TINY is for tests of the measuring code."""

    steps: int = 20  # of parity
    problems: int | None = None  # of TABLES and of CLOSURES; None for all
    grids: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    members: int = 64
    values: int = 2**26  # of a state, at most
    seconds: float = 0.05  # of one turn of a timing
    turns: int = 5
    cells: tuple[int, ...] = (256, 1024, 4096)
    copied: int = 2**28  # bytes
    batches: tuple[int, ...] = (16, 64, 256, 1000)
    evaluations: int = 10
    training_batches: tuple[int, ...] = (16, 1024)
    training_seconds: float = 3.0
    width: int | None = None  # of the networks, by default the published one
    ladder: tuple[int, ...] = (64, 80, 96, 128, 160)
    reference: int = 320
    span: float = 2.0
    trajectories: int = 4


TINY = Sizes(
    steps=3,
    problems=2,
    grids=(16,),
    members=3,
    seconds=0.0,
    turns=1,
    cells=(16,),
    copied=2**12,
    batches=(2,),
    evaluations=2,
    training_batches=(2,),
    training_seconds=0.0,
    width=4,
    ladder=(64,),
    reference=64,
    span=0.04,
    trajectories=1,
)


@dataclass
class Place:
    """A backend on a device, or on the host where the measuring code is tested."""

    backend: Backend
    names: dict[str, str] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.backend.device.startswith("cuda")

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if not self.cuda:
            return
        if self.backend.name == "cupy":
            import cupy

            cupy.cuda.get_current_stream().synchronize()
        else:
            import torch

            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], sizes: Sizes) -> float:
        """Of one call: the median over turns, after two calls that compile, plan and record."""
        work()
        work()
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        once = max(1e-7, time.perf_counter() - began)
        count, found = max(1, min(1000, int(sizes.seconds / once))), []
        for _ in range(sizes.turns):
            began = time.perf_counter()
            for _ in range(count):
                work()
            self.wait()
            found.append((time.perf_counter() - began) / count)
        return float(np.median(found))


def unmeasured(what: str, reason: object) -> Row:
    """A row for what could not be measured here."""
    return Row(what, float("nan"), "not measured", " ".join(str(reason).split())[:200])
