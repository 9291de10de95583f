"""The closure `mi2a`: predicts waves from a window of past states and returns the states of the coming steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PrivateAttr

from subgrid.solver.closure import ClosureError, FileOrName, Leap, Memory, Problem, View

from ..learning.learned_closure import Progress
from ..learning.reduced_order import ReducedOrderModel
from . import history
from .options import METHOD, TrainingOptions

if TYPE_CHECKING:
    from subgrid.ingest.sweep import Sweep

    from .model import WaveModel


class MI2A(ReducedOrderModel):
    """z(n+1) = G(z(n), ..., z(n-w+1)), u ~ D(z): replaces steps of the solver once a window of w states is known.

    The states of the window are `every` steps apart, which must be the interval of the training runs. history: "solver"
    lets the solver compute the window, w - 1 intervals at the start of the run; "exact" takes it from the closed form
    of the initial state; else a .npz file with `state` (time, field, *grid) and `time`. A correction or a leap of
    another closure invalidates the window, and the solver computes a new one.

    trust: "none", or "distance": no leap starts at a window with a relative reconstruction error above `distance`, or
    whose latents leave the range of the training runs by more than `reach` times its width, and the solver computes the
    steps, which are counted as declined. Then parameters outside the ranges and times beyond the span are accepted.

    Raises ClosureError if the weights are for another closure, equation, grid, interval, initial state or fixed
    parameters, if the parameters of the run lie outside the ranges of the training runs, or if no history is known.
    """

    method: ClassVar[str] = METHOD
    by_descent: ClassVar[bool] = True
    indicator: ClassVar[str] = "distance"
    history: Annotated[str, FileOrName()] = "solver"
    trust: Literal["none", "distance"] = "none"
    distance: float = Field(0.05, gt=0)
    reach: float = Field(1.0, gt=0)
    _model: WaveModel = PrivateAttr()
    _given: NDArray | None = PrivateAttr(default=None)

    def start(self, problem: Problem) -> Memory:
        from .model import WaveModel

        path = self.find_weights(problem)
        model = WaveModel.load(path)
        self.require_turns(problem)
        interval = problem.every * problem.step
        if abs(interval - model.about["interval"]) > 1e-9 * interval:
            raise ClosureError(
                f"{METHOD}: {path.name} predicts at intervals of {model.about['interval']:g}, every = {problem.every} "
                f"steps are {interval:g}. Remedy: every = {model.about['interval'] / problem.step:g}"
            )
        parameters = self.require_parameters(problem, model.names, model.ranges)
        self._model, self._parameters, self._problem = model, parameters, problem
        times = problem.start + interval * np.arange(model.window)
        self._given = history.given(self.history, problem, times)
        members, latent = len(problem.members), model.compression.latent
        return {
            "z": np.zeros((members, 0, latent)),
            "step": np.array(0),
            "replaced": np.array(0),
            "solver_until": np.array(0),
        }

    def __call__(self, view: View, memory: Memory) -> tuple[Leap, Memory]:
        import torch

        problem, model = self._problem, self._model
        shape = (len(problem.members), len(problem.equation.fields), *problem.grid.shape)
        state = view.torch().cpu().reshape(shape[0], -1).float()
        if self._given is not None and view.step == 0 and view.replaced == 0:
            states = torch.from_numpy(self._given).flatten(2).float()
        else:
            states = state[:, None]
        z = model.encode(states)
        known = memory["replaced"] == view.replaced and memory["step"] == view.step - problem.every
        if known and memory["z"].shape[1]:
            z = model.compression.joined(torch.cat([torch.from_numpy(memory["z"]), z.double()], 1))[:, -model.window :]
        ahead = states.shape[1] - 1  # states of the window that a given history knows before the solver
        reached = view.step + problem.every * ahead
        memory = {
            "z": z.double().numpy().copy(),
            "step": np.array(view.step),
            "replaced": np.array(view.replaced),
            "solver_until": memory["solver_until"],
        }
        if z.shape[1] < model.window or view.step < memory["solver_until"]:
            return Leap.none(shape), memory
        count = self._count(problem.start + reached * problem.step)
        target = reached + problem.every * count
        memory["solver_until"] = np.array(target + (self.solve or 0))
        path = model.evolve(z, np.repeat(self._parameters, shape[0], 0), count)
        if self.trust != "none":
            trusted = model.distance(states) <= self.distance and model.escape(path) <= self.reach
            if not trusted:
                return Leap.none(shape, target - view.step), memory
        if not torch.isfinite(path).all():
            raise ClosureError(
                f"{METHOD}: the roll-out of {count} states from t = {view.time:g} is not finite: the latent evolution "
                'is unstable. Remedy: other weights, mode = "alternating", or trust = "distance"'
            )
        predicted = model.decode(path)
        found = torch.cat([states[:, 1:], predicted], 1).transpose(0, 1).reshape(ahead + count, *shape)
        times = problem.start + problem.step * (view.step + problem.every * np.arange(1, ahead + count + 1))
        # without the last state of the leap, which the next call encodes again
        memory["z"] = torch.cat([z, path], 1)[:, -model.window : -1].double().numpy().copy()
        memory["step"] = np.array(target - problem.every)
        return Leap(found.double().numpy(), times), memory

    def latent_trajectories(self, states: NDArray, interval: float) -> dict[str, NDArray] | None:
        """Latents of states (time, field, *grid), and their prediction; None at other intervals."""
        import torch

        model = self._model
        if abs(interval - model.about["interval"]) > 1e-9 * interval or len(states) <= model.window:
            return None
        flat = torch.from_numpy(np.asarray(states, dtype=np.float32).reshape(1, len(states), -1))
        encoded = model.encode(flat)
        path = model.evolve(encoded[:, : model.window], self._parameters, len(states) - model.window)
        predicted = torch.cat([encoded[:, : model.window], path.float()], 1)[0]
        return {
            "encoded": encoded[0].numpy(),
            "predicted": predicted.numpy(),
            "deviation": np.full(predicted.shape, np.nan),
        }

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        return TrainingOptions

    @classmethod
    def fit(cls, sweep: Sweep, options: Any, directory: Path, progress: Progress, device: str) -> WaveModel:
        from .training import fit

        return fit(sweep, options, directory, progress, device)
