"""The closure `lasdi`: a trained reduced-order model that returns the states of the coming steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from subgrid.solver.closure import ClosureError, Leap, Memory, Problem, View

from ..learning.learned_closure import Progress
from ..learning.reduced_order import ReducedOrderModel
from . import error_indicators
from .options import METHOD, TrainingOptions

if TYPE_CHECKING:
    from torch import Tensor

    from subgrid.ingest.sweep import Sweep

    from .interpolated import InterpolatedModel
    from .model import LatentModel


class Lasdi(ReducedOrderModel):
    """dz/dt = [1, z] Xi(mu), u = D(z): latent space dynamics that replaces steps of the solver.

    At the first step it encodes the state, integrates the latents to the end of the time span of the training runs, and
    returns a state every `every` steps of the case, so output.every must be a multiple of `every` steps.

    stages: number of decoders to use, by default all. extrapolate: accept parameters outside the ranges of the training
    runs, and continue beyond their time span from the state at its end. reach: domain-of-validity factor; the dynamics
    counts as unstable if latents leave the range of the training runs by more than this multiple of its width.

    mode: "alone" leaps to the end of the time span at once. "alternating" leaps over `leap` steps, lets the solver
    compute `solve` steps, encodes the state, and leaps again. trust: error indicator of a leap, see
    `error_indicators`. No leap starts at a state whose reconstruction error exceeds `distance`. Of a leap, the states
    are used before the "spread" of any state, or the "residual" of the full equation at `checks` of the states, exceeds
    `tolerance`. The solver computes the remaining steps, which are counted as declined. With an indicator, parameters
    outside the ranges and times beyond the span are accepted too.

    Raises ClosureError if the weights are for another closure, equation, grid, initial state or fixed parameters, or if
    the parameters of the run lie outside the ranges of the training runs.
    """

    method: ClassVar[str] = METHOD
    by_descent: ClassVar[bool] = True
    indicator: ClassVar[str] = "residual"
    stages: int | None = Field(None, ge=1)
    reach: float = Field(3.0, gt=0)
    trust: Literal["none", "spread", "residual"] = "none"
    tolerance: float | None = Field(None, gt=0)
    distance: float = Field(0.005, gt=0)
    checks: int = Field(6, ge=2)
    _model: LatentModel | InterpolatedModel = PrivateAttr()
    _residual: error_indicators.Residual = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Lasdi:
        if (self.trust == "none") != (self.tolerance is None):
            raise ValueError('trust "spread" and "residual" need a tolerance; trust "none" has none')
        return self

    def start(self, problem: Problem) -> Memory:
        from .interpolated import load

        model = load(self.find_weights(problem)).to(problem.device)
        self.require_turns(problem)
        if self.trust == "spread" and model.spread is None:
            raise ClosureError(
                "lasdi: the weights have no Gaussian processes. "
                'Remedy: trust = "residual", or spread = true under [train.lasdi]'
            )
        if self.stages is not None and self.stages > 1 + len(model.stages):
            raise ClosureError(
                f"lasdi: the weights have {1 + len(model.stages)} stages, not {self.stages}. Remedy: fewer stages"
            )
        if not model.autonomous and abs(problem.start - model.about["start"]) > 1e-9 * model.about["span"]:
            raise ClosureError(
                f"lasdi: trained from t = {model.about['start']:g}, the case starts at {problem.start:g}, and the "
                "dynamics depends on time. Remedy: time.start as in training"
            )
        parameters = self.require_parameters(problem, model.names, model.ranges)
        self._model, self._parameters, self._problem = model, parameters, problem
        if self.trust == "residual":
            self._residual = error_indicators.Residual(problem.equation, problem.grid, problem.step)
        return {"solver_until": np.array(0)}

    def __call__(self, view: View, memory: Memory) -> tuple[Leap, Memory]:
        from .dynamics import fastest_growth
        from .model import LatentModel

        problem, model = self._problem, self._model
        shape = (len(problem.members), len(problem.equation.fields), *problem.grid.shape)
        if view.step < memory["solver_until"]:
            return Leap.none(shape), memory
        interval = problem.every * problem.step
        count = self._count(view.time)
        if not count:
            return Leap.none(shape, problem.every), memory
        target = view.step + problem.every * count
        memory = {"solver_until": np.array(target + (self.solve or 0))}
        state = view.torch().reshape(len(problem.members), -1).float()
        parameters = np.repeat(self._parameters, len(state), 0)
        if self.trust != "none" and not error_indicators.distance(model, state, self.stages) <= self.distance:
            return Leap.none(shape, target - view.step), memory
        since = view.time - model.about["start"]
        z = model.latents(state, parameters, interval, count + 1, since)
        if not model.escape(z) <= self.reach:
            if self.trust != "none":
                return Leap.none(shape, target - view.step), memory
            assert isinstance(model, LatentModel)  # the others cannot grow
            growth = fastest_growth(model.coefficients(self._parameters))
            raise ClosureError(
                f"lasdi: the latent dynamics at {dict(zip(model.names, self._parameters[0].tolist(), strict=True))} is "
                f"unstable: eigenvalue {growth:.4g} over a time of {count * interval:g}. Remedy: other weights, or a "
                "larger reach"
            )
        states = model.decode(z, self.stages)
        taken = count if self.trust == "none" else self._accepted(view.time, state, parameters, z)
        steps = view.step + problem.every * np.arange(1, taken + 1)
        found = states[:, 1 : taken + 1].transpose(0, 1).reshape(taken, *shape)
        return Leap(found, problem.start + problem.step * steps, problem.every * (count - taken)), memory

    def _count(self, t: float) -> int:
        """See `ReducedOrderModel._count`. Dynamics that depends on time ends with its span: then 0, or an error."""
        problem, model = self._problem, self._model
        if model.autonomous or (problem.start + model.about["span"] - t) / (problem.every * problem.step) + 1e-6 >= 1:
            return super()._count(t)
        if self.trust == "none":
            raise ClosureError(
                f"lasdi: trained over a time of {model.about['span']:g}, which is over at t = {t:g}. "
                'Remedy: an earlier time.end, or trust = "residual"'
            )
        return 0

    def _accepted(self, t: float, state: Tensor, parameters: NDArray, z: Tensor) -> int:
        """Number of states of a leap from time t that the error indicator accepts.

        state (member, point), parameters (member, parameter), z (member, time, latent).
        """
        assert self.tolerance is not None
        interval, count = self._problem.every * self._problem.step, z.shape[1] - 1
        if self.trust == "spread":
            at = np.arange(count + 1)
            since = t - self._model.about["start"]
            values = error_indicators.spread(self._model, state, parameters, interval, count + 1, since)
        else:
            at = error_indicators.checked_states(count, self.checks)
            values = np.array(
                [self._residual(self._model, z[:, i], parameters, t + i * interval, self.stages) for i in at]
            )
        return error_indicators.accepted_states(values, self.tolerance, at)

    def latent_trajectories(self, states: NDArray, interval: float) -> dict[str, NDArray]:
        """Normalised latent trajectories of states (time, field, *grid) of the problem of `start`."""
        from .latent_trajectories import latent_trajectories

        return latent_trajectories(self._model, self._parameters, states, interval)

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        return TrainingOptions

    @classmethod
    def fit(
        cls, sweep: Sweep, options: Any, directory: Path, progress: Progress, device: str
    ) -> LatentModel | InterpolatedModel:
        from .training import fit

        return fit(sweep, options, directory, progress, device)
