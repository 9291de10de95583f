"""The closure `lam-slide`: samples the trajectories of all entities after a window of past frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from pydantic import BaseModel, Field, PrivateAttr

from subgrid.solver.closure import ClosureError, Leap, Memory, Problem, View
from subgrid.solver.random import Stream

from ..learning.learned_closure import LearnedClosure, TrainingJob
from ..learning.options import read_options
from .options import METHOD, TrainingOptions

if TYPE_CHECKING:
    from subgrid.ingest.training_set import Dataset

    from .model import TrajectoryModel

PARAMETERS = ("force", "strength", "softening", "rest_length", "force_limit", "omit")


class LamSlide(LearnedClosure):
    """x(t_1), ..., x(t_n) ~ p(. | x(t_{1-m}), ..., x(t_0)): positions and velocities of the coming frames, at once.

    The solver computes the first m frames, `every` steps apart, which must be the interval of the training. From their
    positions the closure samples the next n frames in a latent space of fixed size, and again from the last m frames
    reached, to the end of the run. Each entity has an identifier, drawn at the start of the run from a pool, which
    traces it through the latent space; a member keeps its identifiers.

    evaluations: of the network of the second stage, per sample; with one it is the mean of the latents given the past.
    answer: "sample", or "predictor", the deterministic prediction that the sample is the residual of. A correction or a
    leap of another closure discards the past frames.

    Members may have different numbers of entities.

    Raises ClosureError if the weights are for another closure, equation, force or interval, and if there are more
    entities than identifiers.
    """

    method: ClassVar[str] = METHOD
    by_descent: ClassVar[bool] = True
    draws_later: ClassVar[bool] = True
    evaluations: int = Field(10, ge=1, le=1000)
    answer: Literal["sample", "predictor"] = "sample"
    _model: TrajectoryModel = PrivateAttr()
    _problem: Problem = PrivateAttr()
    _mask: Any = PrivateAttr(None)

    def start(self, problem: Problem) -> Memory:
        import torch

        from .model import TrajectoryModel, draw_identifiers

        path = self.find_weights(problem)
        model, _ = TrajectoryModel.load(path)
        interval = problem.every * problem.step
        if abs(interval - model.interval) > 1e-9 * interval:
            raise ClosureError(
                f"{METHOD}: {path.name} predicts at intervals of {model.interval:g}, every = {problem.every} steps are "
                f"{interval:g}. Remedy: every = {model.interval / problem.step:g}"
            )
        real = np.ones((len(problem.members), problem.grid.points), bool) if problem.mask is None else problem.mask
        if (entities := int(real.sum(1).max())) > len(model.pool):
            raise ClosureError(
                f"{METHOD}: {path.name} has {len(model.pool)} identifiers, the case has {entities} entities. "
                f"Remedy: fewer entities, or a training with identifiers = {entities}"
            )
        self._model, self._problem = model, problem
        self._mask = None if real.all() else torch.from_numpy(real)
        stream = Stream(problem.seed, "identifiers", 0, problem.members)
        identifiers = np.zeros(real.shape, np.int64)
        for row, here, m in zip(identifiers, real, problem.members, strict=True):
            row[here] = draw_identifiers(stream.generator(m), len(model.pool), int(here.sum()))
        return {
            "identifiers": identifiers,
            "past": np.zeros((len(problem.members), 0, problem.grid.points, 3)),
            "step": np.array(0),
            "replaced": np.array(0),
        }

    def __call__(self, view: View, memory: Memory) -> tuple[Leap, Memory]:
        import torch

        problem, model = self._problem, self._model
        state = view.state
        members, entities = len(state), state.shape[-1]
        past = np.swapaxes(state[:, None, :3], 2, 3).astype(np.float64)
        if memory["replaced"] == view.replaced and memory["step"] == view.step - problem.every:
            past = np.concatenate([memory["past"], past], 1)[:, -model.past :]
        memory = memory | {"past": past, "step": np.array(view.step), "replaced": np.array(view.replaced)}
        shape = (members, len(problem.equation.fields), entities)
        if past.shape[1] < model.past:
            return Leap.none(shape), memory
        given = torch.from_numpy(past).float()
        coupling = torch.from_numpy(state[:, 6].astype(np.float32))
        with torch.inference_mode():
            if self.answer == "predictor":
                x, v = model.predict(given, coupling, mask=self._mask)
            else:
                white = view.random.normal(model.latent_shape()).astype(np.float32)
                identifiers = model.pool[torch.from_numpy(memory["identifiers"])]
                x, v = model.sampled(
                    given, coupling, identifiers, torch.from_numpy(white), self.evaluations, self._mask
                )
        if not (torch.isfinite(x).all() and torch.isfinite(v).all()):
            raise ClosureError(
                f"{METHOD}: the prediction from t = {view.time:g} is not finite. Remedy: other weights, or states like "
                "those of the training"
            )
        if self._mask is not None:  # entities that are not real stay where they are
            here = self._mask[:, None, :, None]
            x, v = torch.where(here, x, given[:, -1:]), torch.where(here, v, 0.0)
        constant = coupling[:, None, :, None].expand(*x.shape[:3], 1)
        found = torch.cat([x, v, constant], -1).permute(1, 0, 3, 2).double().numpy()
        count = len(found)
        times = problem.start + problem.step * (view.step + problem.every * np.arange(1, count + 1))
        # without the last frame, which the next call sees as the state
        memory["past"] = np.concatenate([past, x.double().numpy()], 1)[:, -model.past : -1].copy()
        memory["step"] = np.array(view.step + problem.every * (count - 1))
        return Leap(found, times), memory

    @classmethod
    def mismatch(cls, header: dict[str, Any], problem: Problem, strict: bool) -> str | None:
        made, equation = header["equation"], problem.equation
        if made["name"] != equation.name:
            return f"is for the equation {made['name']}, the case has {equation.name}"
        own = equation.model_dump(mode="json")
        for name in PARAMETERS:
            if made.get(name) != own.get(name):
                return f"is for equation.{name} = {made.get(name)!r}, the case has {own.get(name)!r}"
        return None

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        return TrainingOptions

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Fit the model to the trajectories and write its weights; returns its scores. See `training.fit`.

        Raises ValueError for options that training does not have.
        """
        from .training import fit

        options = read_options(cls.method, TrainingOptions, job.options)
        model, header = fit(cast("Dataset", job.data), options, job.work, job.progress, job.device)
        model.save(job.target, {**header, **job.origin})
        scores: dict[str, float] = header["scores"]
        return scores
