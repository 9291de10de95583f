"""What closures share that are reduced-order models: their parameters, their turns with the solver, their weights."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from subgrid.solver.case.sweep_design import entry, with_entries
from subgrid.solver.closure import ClosureError, Problem

from .learned_closure import LearnedClosure, Progress, TrainingJob
from .options import read_options

if TYPE_CHECKING:
    from subgrid.ingest.sweep import Sweep


class ReducedOrderModel(LearnedClosure):
    """A closure that learned from runs of [sweep] and answers with a leap.

    extrapolate: accept parameters outside the ranges of the training runs, and continue beyond their time span. mode:
    "alone" leaps to the end of the time span at once. "alternating" leaps over `leap` steps, lets the solver compute
    `solve` steps, and leaps again from the state reached.

    A subclass has an option `trust`, "none" or the name of an error indicator, of which `indicator` is the one that
    messages name. `start` sets the model, with `about`, `names` and `ranges`, and the problem.
    """

    indicator: ClassVar[str]

    learns_from: ClassVar[Literal["training", "sweep"]] = "sweep"
    extrapolate: bool = False
    mode: Literal["alone", "alternating"] = "alone"
    leap: int | None = Field(None, ge=1)
    solve: int | None = Field(None, ge=1)

    _model: Any = PrivateAttr()
    _parameters: NDArray = PrivateAttr()
    _problem: Problem = PrivateAttr()

    if TYPE_CHECKING:
        trust: str

    @model_validator(mode="after")
    def _consistent_turns(self) -> ReducedOrderModel:
        if {self.leap is None, self.solve is None} != {self.mode == "alone"}:
            raise ValueError('mode "alternating" needs leap and solve, in steps; mode "alone" has neither')
        return self

    def require_turns(self, problem: Problem) -> None:
        """Raise ClosureError unless `leap` and `solve` are multiples of the steps between calls."""
        for name in ("leap", "solve"):
            if (getattr(self, name) or 0) % problem.every:
                raise ClosureError(
                    f"{self.method}: {name} = {getattr(self, name)} is not a multiple of every = {problem.every}. "
                    "Remedy: a multiple of every"
                )

    @property
    def _extrapolates(self) -> bool:
        """Whether leaps outside the training ranges and the time span are allowed."""
        return self.extrapolate or self.trust != "none"

    def require_parameters(self, problem: Problem, names: list[str], ranges: NDArray) -> NDArray[np.float64]:
        """The parameters of the run, (1, parameter). Raises ClosureError for one outside its training range."""
        tables = tables_of(problem)
        values = np.array([entry(tables[n.partition(".")[0]], n.partition(".")[2]) for n in names], dtype=np.float64)
        for name, value, (low, high) in zip(names, values, ranges, strict=True):
            slack = 1e-9 * (high - low)
            if not self._extrapolates and not low - slack <= value <= high + slack:
                raise ClosureError(
                    f"{self.method}: {name} = {value:g} lies outside the training range [{low:g}, {high:g}]. "
                    f'Remedy: train over a wider sweep, trust = "{self.indicator}", or extrapolate = true'
                )
        return values[None]

    def _count(self, t: float) -> int:
        """Number of states of a leap from time t. Raises ClosureError beyond the time span of the training runs."""
        problem, span = self._problem, self._model.about["span"]
        interval = problem.every * problem.step
        count = int((problem.start + span - t) / interval + 1e-6)
        if count < 1:
            if not self._extrapolates:
                raise ClosureError(
                    f"{self.method}: trained over a time of {span:g}, which is over at t = {t:g}. "
                    f'Remedy: an earlier time.end, trust = "{self.indicator}", or extrapolate = true'
                )
            count = max(1, int(span / interval + 1e-6))
        return count if self.leap is None else min(count, self.leap // problem.every)

    def training_points(self) -> NDArray | None:
        """Parameters of the training runs, those that a greedy design added included."""
        return np.asarray(self._model.about["points"], dtype=np.float64).reshape(-1, len(self._model.names))

    @classmethod
    @abstractmethod
    def fit(cls, sweep: Sweep, options: Any, directory: Path, progress: Progress, device: str) -> Any:
        """The model of finished runs, with `about` and `save`."""

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Fit the model to the runs and write its weights; returns its scores.

        Raises ValueError for options that training does not have.
        """
        options = read_options(cls.method, cls.training_options(), job.options)
        model = cls.fit(cast("Sweep", job.data), options, job.work, job.progress, job.device)
        model.about |= job.origin
        model.save(job.target)
        scores: dict[str, float] = model.about["scores"]
        return scores

    @classmethod
    def mismatch(cls, header: dict[str, Any], problem: Problem, strict: bool) -> str | None:
        if header["equation"]["name"] != problem.equation.name:
            return f"is for the equation {header['equation']['name']}, the case has {problem.equation.name}"
        if list(problem.grid.shape) != header["shape"]:
            return f"is for the shape {header['shape']}, the case has {list(problem.grid.shape)}"
        length, origin = header["grid"]["length"], header["grid"].get("origin", [0.0] * len(problem.grid.shape))
        if not problem.grid.has("length", length):
            return f"is for the length {length}, the case has {list(problem.grid.length)}"
        if not problem.grid.has("origin", origin):
            return f"is for the origin {origin}, the case has {list(problem.grid.origin)}"
        if not problem.initial:
            return "depends on the initial state, which is known only in a run of a case"
        swept = [name for name, _ in header["parameters"]]
        fixed = {"equation": header["equation"], "initial": header["initial"]}
        own = tables_of(problem)
        for name in swept:
            table, _, key = name.partition(".")
            try:
                entry(own[table], key)
            except LookupError:
                return f"varies {name}, which the case does not have"
            fixed[table], own[table] = with_entries(fixed[table], {key: None}), with_entries(own[table], {key: None})
        for table, entries in own.items():
            for key in sorted((entries.keys() | fixed[table].keys()) - {"name"}):
                wanted, found = fixed[table].get(key), entries.get(key)
                if wanted != found:
                    return f"is for {table}.{key} = {wanted!r}, the case has {found!r}"
        return None


def tables_of(problem: Problem) -> dict[str, dict[str, Any]]:
    """The tables [initial] and [equation] of the case as plain data."""
    return {"equation": problem.equation.model_dump(mode="json"), "initial": problem.initial}
