"""The closure `lasdi`: a trained reduced-order model that answers with the states of coming steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from subgrid.solver.closure import Closure, ClosureError, Leap, Memory, Problem, View

from ..learning.compatibility import fitting, training_options

if TYPE_CHECKING:
    from torch import Tensor

    from subgrid.ingest.sweep import Sweep

    from .error_indicators import Residual
    from .model import LatentModel


class Lasdi(Closure):
    """dz/dt = [1, z] Xi(mu), u = D(z): latent-space dynamics, in place of the solver's steps.

    Called at the first step, it encodes the state, carries the latents exactly to the end of the span it was trained
    on, and leaps over all of it, with a state every `every` steps of the case (so output.every must be a multiple of
    them).

    weights: a .safetensors file (relative to the case file) or the name of one that ships; without it, the first
    shipped file that fits. stages: decoders to use, all by default. extrapolate: also take parameters outside the
    training box, and go on beyond the trained span, from the state reached there. reach: how far latents may leave the
    box that those of the training runs fill, in units of its widths, before the dynamics counts as unstable.

    mode: "alone" leaps to the end of the trained span at once; "alternating" leaps over `leap` steps, lets the solver
    compute `solve`, encodes the state it has reached, and leaps again. trust: what a leap is checked by first
    (`trust.py`): no leap begins at a state farther than `distance` from its own reconstruction; and of a leap those
    states are taken that come before the "spread", at any of them, or the "residual" of the full equation, at `checks`
    of them, exceeds `tolerance`. The steps beyond are handed back to the solver, which computes them, and counted as
    declined. With a check, parameters outside the training box and times beyond the span are taken too.

    Raises ClosureError if the weights are for another closure, equation, grid, initial state, or fixed parameters, or
    if the run's parameters lie outside the training box.
    """

    kind: ClassVar[str] = "other"
    learns_from: ClassVar[str] = "sweep"
    weights: str | None = None
    stages: int | None = Field(None, ge=1)
    extrapolate: bool = False
    reach: float = Field(3.0, gt=0)
    mode: Literal["alone", "alternating"] = "alone"
    leap: int | None = Field(None, ge=1)
    solve: int | None = Field(None, ge=1)
    trust: Literal["none", "spread", "residual"] = "none"
    tolerance: float | None = Field(None, gt=0)
    distance: float = Field(0.005, gt=0)
    checks: int = Field(6, ge=2)
    _model: LatentModel = PrivateAttr()
    _parameters: np.ndarray = PrivateAttr()
    _problem: Problem = PrivateAttr()
    _residual: Residual = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Lasdi:
        if {self.leap is None, self.solve is None} != {self.mode == "alone"}:
            raise ValueError('mode "alternating" needs leap and solve, in steps; mode "alone" has neither')
        if (self.trust == "none") != (self.tolerance is None):
            raise ValueError('trust "spread" and "residual" need a tolerance; trust "none" has none')
        return self

    def start(self, problem: Problem) -> Memory:
        model = self._find(problem)
        for name in ("leap", "solve"):
            if (getattr(self, name) or 0) % problem.every:
                raise ClosureError(
                    f"lasdi: {name} = {getattr(self, name)} is no multiple of every = {problem.every}. "
                    f"Remedy: whole multiples of it"
                )
        if self.trust == "spread" and model.spread is None:
            raise ClosureError(
                "lasdi: the weights were trained without their spread. "
                'Remedy: trust = "residual", or spread = true under [train.lasdi]'
            )
        if self.stages is not None and self.stages > 1 + len(model.stages):
            raise ClosureError(f"lasdi: the weights have {1 + len(model.stages)} stages, not {self.stages}")
        found = parameters_of(problem)
        parameters = np.array([found[name] for name in model.names])
        for name, value, (low, high) in zip(model.names, parameters, model.ranges, strict=True):
            slack = 1e-9 * (high - low)
            if not self._beyond and not low - slack <= value <= high + slack:
                raise ClosureError(
                    f"lasdi: {name} = {value:g} lies outside [{low:g}, {high:g}], where it was trained. "
                    'Remedy: train over a wider sweep, trust = "residual", or extrapolate = true'
                )
        self._model, self._parameters, self._problem = model, parameters[None], problem
        if self.trust == "residual":
            from .error_indicators import Residual

            self._residual = Residual(problem)
        return {"solver_until": np.array(0)}

    @property
    def _beyond(self) -> bool:
        """Whether to leap where the model was not trained."""
        return self.extrapolate or self.trust != "none"

    def __call__(self, view: View, memory: Memory) -> tuple[Leap, Memory]:
        from . import error_indicators
        from .dynamics import fastest_growth

        problem, model = self._problem, self._model
        shape = (len(problem.members), len(problem.equation.fields), *problem.grid.shape)
        if view.step < memory["solver_until"]:
            return Leap.none(shape), memory
        interval = problem.every * problem.step
        span = model.about["span"]
        count = int((problem.start + span - view.time) / interval + 1e-6)
        if count < 1:
            if not self._beyond:
                raise ClosureError(
                    f"lasdi: trained over a time of {span:g}, which is over at t = {view.time:g}. "
                    'Remedy: an earlier time.end, trust = "residual", or extrapolate = true'
                )
            count = max(1, int(span / interval + 1e-6))
        if self.leap is not None:
            count = min(count, self.leap // problem.every)
        target = view.step + problem.every * count
        memory = {"solver_until": np.array(target + (self.solve or 0))}
        state = view.torch().cpu().reshape(len(problem.members), -1).float()
        parameters = np.repeat(self._parameters, len(state), 0)
        if self.trust != "none" and not error_indicators.distance(model, state, self.stages) <= self.distance:
            return Leap.none(shape, target - view.step), memory
        z = model.latents(state, parameters, interval, count + 1)
        if not model.escape(z) <= self.reach:
            if self.trust != "none":
                return Leap.none(shape, target - view.step), memory
            growth = fastest_growth(model.coefficients(self._parameters))
            raise ClosureError(
                f"lasdi: the latent dynamics at {dict(zip(model.names, self._parameters[0].tolist(), strict=True))} is "
                f"unstable: eigenvalue {growth:.4g} over a time of {count * interval:g}. Remedy: other weights"
            )
        states = model.decode(z, self.stages)
        taken = count if self.trust == "none" else self._trusted(view.time, state, parameters, z)
        steps = view.step + problem.every * np.arange(1, taken + 1)
        found = states[:, 1 : taken + 1].transpose(0, 1).reshape(taken, *shape)
        return Leap(found.numpy(), problem.start + problem.step * steps, problem.every * (count - taken)), memory

    def _trusted(self, t: float, state: Tensor, parameters: np.ndarray, z: Tensor) -> int:
        """How many states of a leap from time t stand up to the check; state (member, point), z
        (member, time, latent)."""
        from . import error_indicators

        assert self.tolerance is not None
        interval, count = self._problem.every * self._problem.step, z.shape[1] - 1
        if self.trust == "spread":
            at = np.arange(count + 1)
            values = error_indicators.spread(self._model, state, parameters, interval, count + 1)
        else:
            at = error_indicators.checked(count, self.checks)
            values = np.array(
                [self._residual(self._model, z[:, i], parameters, t + i * interval, self.stages) for i in at]
            )
        return error_indicators.trusted(values, self.tolerance, at)

    def portrait(self, states: np.ndarray, interval: float) -> dict[str, np.ndarray]:
        """The latents of a run (time, field, *grid) of the problem; see `portrait.portrait`."""
        from .latent_trajectories import portrait

        return portrait(self._model, self._parameters, states, interval)

    def _find(self, problem: Problem) -> LatentModel:
        from .model import LatentModel

        return fitting(
            "lasdi",
            self.weights,
            problem,
            LatentModel.load,
            lambda model, strict: _mismatch(model.about, problem),
            "*-lasdi.safetensors",
        )

    @staticmethod
    def train(
        options: dict[str, Any],
        sweep: Sweep,
        target: Path,
        work: Path,
        folder: Path,
        origin: dict[str, str],
        progress: Callable[[int, int, dict[str, float]], None],
    ) -> dict[str, float]:
        """Fit the model to the runs and write its weights; returns its scores. See `training.fit`.

        Raises ValueError for options that training does not have.
        """
        from .options import TrainingOptions
        from .training import fit

        chosen = training_options("lasdi", TrainingOptions, options)
        model = fit(sweep, chosen, work, progress)
        model.about |= origin
        model.save(target)
        return model.about["scores"]


def parameters_of(problem: Problem) -> dict[str, Any]:
    """All that is set in [initial] and [equation], by the names that [sweep] uses."""
    equation = problem.equation.model_dump(mode="json")
    return {f"initial.{k}": v for k, v in problem.initial.items()} | {f"equation.{k}": v for k, v in equation.items()}


def _mismatch(about: dict[str, Any], problem: Problem) -> str | None:
    """How the weights and the problem differ, by name."""
    if about["equation"]["name"] != problem.equation.name:
        return f"is for the equation {about['equation']['name']}, the case has {problem.equation.name}"
    if list(problem.grid.shape) != about["shape"]:
        return f"is for the shape {about['shape']}, the case has {list(problem.grid.shape)}"
    for name, default in (("length", None), ("origin", [0.0] * len(problem.grid.shape))):
        made, has = about["grid"].get(name, default), list(getattr(problem.grid, name))
        if not np.allclose(made, has):
            return f"is for the {name} {made}, the case has {has}"
    if not problem.initial:
        return "needs to know how the run began, which only a run of a case says"
    found = parameters_of(problem)
    fixed = {f"initial.{k}": v for k, v in about["initial"].items()}
    fixed |= {f"equation.{k}": v for k, v in about["equation"].items() if k != "name"}
    swept = {name for name, _ in about["parameters"]}
    if missing := swept - set(found):
        return f"varies {', '.join(sorted(missing))}, which the case does not have"
    for name in sorted(fixed.keys() | (found.keys() - swept)):
        if name not in swept and fixed.get(name) != found.get(name):
            return f"is for {name} = {fixed.get(name)!r}, the case has {found.get(name)!r}"
    return None
