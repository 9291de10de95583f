"""Short trainings on stand-ins for the data, and the peak memory of a training that follows from them.

A training of two steps per stage, on few trajectories or runs and with a part of every batch, is carried out in this
process, which should have done nothing else, and the most memory that the process has is read from the system. What
arrays take grows in proportion to the trajectories and to the batch, so that a few such sizes give the memory of the
whole training,

    memory = a + b points + c points trajectories + d points held out + e points share of the batch,

for each stretch between two reports of progress, because the stretches differ in what is in memory; the largest counts.
Libraries, freed memory that the C library keeps, and work arrays of transforms are in the measured numbers.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob
from subgrid.closures.learning.options import batches, brief
from subgrid.ingest import stand_ins
from subgrid.ingest.pieces import case_of
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import training_request
from subgrid.ingest.sweep import request as sweep_request
from subgrid.ingest.training_set import LARGE
from subgrid.solver.backend import keep_freed_memory
from subgrid.solver.case.tables import Case
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.simulation.schedule import Schedule

from .memory import scaled

POINTS = 4096, 16384  # of the grids of stand-ins for larger ones
VALUES, VALUES_OF_RUNS = 2**23, 2**25  # of the states of a stand-in: of a training set, of a sweep
BATCH = 2**18  # values of its batch
LARGE_BLOCK = 2**25  # bytes from which the C library gives memory back when it is freed
NOISE = 0.02  # of the measured memory
RUNS = 10  # of a sweep: enough for polynomials of degree 2 of 3 parameters


@dataclass(frozen=True)
class Size:
    """Points of the grid, states of a trajectory, trajectories for training and for validation, share of every batch.

    The runs of a sweep are all for training.
    """

    points: int
    times: int
    trained: int
    held_out: int
    share: float

    def terms(self) -> list[float]:
        """What memory is a sum of, but for factors: 1 and the sizes of arrays in proportion to them."""
        p, states = float(self.points), float(self.points * self.times)
        return [1.0, p, states * self.trained, states * self.held_out, p * self.share]


@dataclass(frozen=True)
class TrainingMemory:
    """The predicted memory of one process, and what it has in memory of files, which the system can drop, in bytes."""

    needed: int
    mapped: int


class Trial:
    """The training of a closure as `subgrid train` would carry it out, and short trainings of smaller sizes.

    options: the table [train.NAME] with the objective, as `TrainingJob` has it. processes: of torchrun. Raises
    ValueError for options that the training does not have.
    """

    def __init__(self, case: Case, found: type[LearnedClosure], options: dict[str, Any], processes: int = 1) -> None:
        self.case, self.found = with_step(case), found
        self.sweeps = found.learns_from == "sweep"
        table = {k: v for k, v in options.items() if k != "objective"}
        self.options = found.all_options(table) | {k: v for k, v in options.items() if k == "objective"}
        equation, self.grid = case.build_equation(), case.grid.grid()
        self.whole_grid = equation.kind == "particles"
        self.fields, case = len(equation.fields), self.case
        if self.sweeps:
            assert case.sweep is not None
            asked = sweep_request(case)
            times = asked["steps"] // asked["every"] + 1
            trained, held_out = len(case.sweep.points()), 0
            if case.sweep.design == "greedy":
                trained = max(trained, case.sweep.runs or 0)
        else:
            assert case.training is not None
            times = Schedule(*training_request(case).state_steps).count
            held_out = case.training.validation
            trained = case.training.trajectories - held_out
        most = max(self.batches, default=1)
        drawn = most if self.window > 1 else min(most, trained * times)  # a batch is not larger than the training set
        self.full = Size(self.grid.points, times, trained, held_out, drawn / most / processes)

    @property
    def values(self) -> int:
        """The number of values of all states."""
        full = self.full
        return self.fields * full.times * full.points * (full.trained + full.held_out)

    @property
    def batch_values(self) -> int:
        """The number of values of the states of a batch, along the whole window of a training through the solver."""
        return self.fields * self.full.points * max(self.batches, default=0) * self.window

    @property
    def through_solver(self) -> bool:
        """Whether the training goes through the solver, with the options `rollout` alone."""
        return self.options.get("objective") == "rollout" and bool(self.options.get("rollout"))

    @property
    def batches(self) -> list[int]:
        """The sizes of the batches that the training draws."""
        rest = {name: value for name, value in self.options.items() if name != "rollout"}
        return batches(self.options["rollout"] if self.through_solver else rest)

    @property
    def window(self) -> int:
        """The number of steps of the solver that a training goes through."""
        rollout = self.options.get("rollout")
        return rollout["unroll"] * rollout["every"] if rollout and self.through_solver else 1

    def predicted(self) -> TrainingMemory:
        """The memory of the training. Raises ValueError or FloatingPointError if no short training is possible."""
        sizes = self.sizes()
        if len(sizes) > 1:
            self.measured(sizes[0])  # else the first of them alone would load libraries
        found = [self.measured(size) for size in sizes]
        while (
            len(sizes) > 1
            and sizes[0].share < sizes[1].share < self.full.share
            and max(found[1]) < (1 + NOISE) * max(found[0])
        ):  # the batch is not seen yet beside all else
            sizes[1] = replace(sizes[1], share=min(self.full.share, 4 * sizes[1].share))
            found[1] = self.measured(sizes[1])
        if len({len(stretches) for stretches in found}) > 1:
            found = [[max(stretches)] for stretches in found]
        terms = np.array([size.terms() for size in sizes])
        unit = terms.max(0).clip(1e-300)
        whole = np.array(self.full.terms()) / unit
        # no array is smaller where there is more data, so a negative factor is noise
        columns = [np.array(column, dtype=np.float64) for column in zip(*found, strict=True)]
        sums = [float(whole @ nnls(terms / unit, column)[0]) for column in columns]
        needed = max(*sums, *(max(stretches) for stretches in found))
        if self.sweeps:
            return TrainingMemory(int(needed), 0)
        mapped = 12 * self.values  # the states and terms of the cache
        if 4 * self.values > LARGE:  # in files, see `single_precision`
            needed, mapped = needed - 8 * self.values, mapped + 8 * self.values
        return TrainingMemory(int(needed), mapped)

    def sizes(self) -> list[Size]:
        """The sizes of short trainings: the smallest, and one for each respect in which the whole training is larger.

        A training that is small itself has one size: its own.
        """
        grids = [self.grid]
        if not self.whole_grid and self.grid.points > POINTS[-1]:
            grids = [scaled(self.grid, points) for points in POINTS]
        self.shapes = {grid.points: grid.shape for grid in grids}
        points, full, sizes = grids[0].points, self.full, self.batches
        values, times = VALUES_OF_RUNS if self.sweeps else VALUES, full.times
        if len(grids) > 1 and not self.sweeps:
            assert self.case.training is not None
            times = min(times, max(32, 2 + round(self.window * self.case.step / self.case.training.every)))
        fit, longer = values // (self.fields * times * points), full.times // times
        most = min(longer * full.trained, max(fit, RUNS + 6 if self.sweeps else 3))
        held = min(longer * full.held_out, max(2, fit // 4))
        share = full.share
        if sizes:
            part = BATCH / (max(sizes) * self.fields * points)
            share = min(share, max(8 / min(sizes), 2.0 ** round(math.log2(part))))
        small = Size(
            points,
            times,
            most if (most, times) == (full.trained, full.times) else max(RUNS if self.sweeps else 2, most // 2),
            held if (held, times) == (full.held_out, full.times) else max(1, held // 2),
            share if share == full.share else share / 2,
        )
        larger: dict[str, Any] = {"share": share, "trained": most, "held_out": held, "points": grids[-1].points}
        return [small] + [replace(small, **{k: v}) for k, v in larger.items() if v != getattr(small, k)]

    def measured(self, size: Size) -> list[int]:
        """Bytes of this process in memory at most, in each stretch of a short training of this size."""
        peaks: list[int] = []

        def report(done: int = 0, total: int = 0, metrics: dict[str, float] | None = None) -> None:
            peaks.append(_status("VmHWM"))
            _start_again()

        data: Any
        if self.sweeps:
            data = stand_ins.sweep(self.case, self.shapes[size.points], size.trained)
            kept = 0
        else:
            data = stand_ins.training_set(self.case, self.shapes[size.points], size.times, size.trained, size.held_out)
            kept = sum(s.nbytes for s in data.sequences)  # in files, in the training
        whole = self.full.share * self.full.points
        self._return_at_once_from(LARGE_BLOCK * size.share * size.points / whole)
        gc.collect()  # of what came before
        _return_freed_memory()
        _start_again()
        runs = size.trained / self.full.trained if self.sweeps else 1.0
        options = brief(self.options, size.share, runs)
        with tempfile.TemporaryDirectory() as folder:
            target, work = Path(folder) / "weights.safetensors", Path(folder) / "work"
            origin = {"training_case": "", "training_command": ""}
            self.found.train(TrainingJob(options, data, target, work, self.case.folder, origin, report))
        report()
        return [peak - kept for peak in peaks]

    def _return_at_once_from(self, size: float) -> None:
        """Have the C library return freed blocks of this size at once.

        It does so with blocks of 32 MiB and more, and keeps smaller ones, which takes up to half as much memory again.
        The arrays of a batch that has a part of its rows have that part of their sizes.
        """
        if self.through_solver:
            keep_freed_memory()  # now, for it sets the same
        if size < LARGE_BLOCK:
            with suppress(OSError, AttributeError, TypeError):  # not glibc
                mallopt, trim_threshold, mmap_threshold = ctypes.CDLL(None).mallopt, -1, -3
                mallopt(mmap_threshold, max(2**16, int(size)))
                if not self.through_solver:
                    mallopt(trim_threshold, 2 * max(2**16, int(size)))


def _status(name: str) -> int:
    """An entry of /proc/self/status in bytes."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))


def _start_again() -> None:
    """Make VmHWM, the most memory, that of now."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _return_freed_memory() -> None:
    """Give freed memory back to the system, where the C library can."""
    with suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def answer() -> None:
    """Predict the training that standard input describes, as `training_memory` does, and print the numbers."""
    asked = json.load(sys.stdin)
    try:
        case = case_of(tuple(asked["source"]))
        found = CLOSURES.find(asked["closure"], case.folder)
        memory = Trial(case, found, asked["options"], asked["processes"]).predicted()  # type: ignore[arg-type]
        said: dict[str, Any] = {"needed": memory.needed, "mapped": memory.mapped}
    except (ValueError, FloatingPointError) as error:
        said = {"error": " ".join(str(error).split())}
    print("\n" + json.dumps(said))
