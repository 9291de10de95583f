"""Baselines of `lam-slide` on particles: extrapolation, the solver, a transformer, and a flow in physical space.

Positions are (trajectory, frame, entity, 3). Trained baselines take the same batches as `lam-slide`, which turns and
reflects them, for a given number of CPU seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from subgrid.closures.lam_slide.networks import Block, perceptron
from subgrid.closures.lam_slide.predictor import constant_velocity
from subgrid.closures.lam_slide.training import ENCODER, Training, seeded
from subgrid.closures.learning.denoiser import HARMONICS, Denoiser, ScoreNetwork, angle_features
from subgrid.closures.learning.samplers import sample
from subgrid.solver.case.tables import Case
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

WIDTH, DEPTH, HEADS = 64, 3, 4
BLOCK = 500  # trajectories at a time


def linear_fit(past: Tensor, count: int) -> Tensor:
    """The least-squares line through the frames given, from where it ends."""
    t = torch.arange(past.shape[1], dtype=past.dtype)
    t = t - t.mean()
    slope = (t[:, None, None] * past).sum(1, keepdim=True) / t.square().sum()
    ahead = torch.arange(1, count + 1, dtype=past.dtype)[:, None, None] + t[-1]
    return past.mean(1, keepdim=True) + ahead * slope


def solved(case: Case, x: Tensor, v: Tensor, c: Tensor, every: int, count: int) -> tuple[Tensor, Tensor]:
    """Positions and velocities of the next `count` frames by the solver of the case; x and v are (batch, entity, 3)."""
    state = torch.cat([x, v, c[..., None]], -1).mT.double().numpy().copy()
    simulation = build_simulation(
        case, case.build_equation(), case.grid.grid(), state, members=tuple(range(len(state)))
    )
    found = np.stack(Collector(simulation, every * count, every, np.array).run()[1:], 1)
    found = torch.from_numpy(np.swapaxes(found, 2, 3)).float()
    return found[..., :3], found[..., 3:6]


def from_differences(case: Case, past: Tensor, c: Tensor, every: int, count: int) -> Tensor:
    """The solver, started with v = difference + (dt / 2) a."""
    dt = every * case.step
    difference = (past[:, -1] - past[:, -2]) / dt
    small = 1e-6
    simulation_start = solved(_with_step(case, small), past[:, -1], 0 * difference, c, 1, 1)[1][:, 0] / small
    return solved(case, past[:, -1], difference + 0.5 * dt * simulation_start, c, every, count)[0]


def from_fitted(case: Case, past: Tensor, c: Tensor, every: int, count: int, iterations: int = 10) -> Tensor:
    """The solver, started with the velocity with which it meets the last frame given from the one before it."""
    dt = every * case.step
    v = (past[:, -1] - past[:, -2]) / dt
    best, least, reached = v, torch.full(v.shape[:2], torch.inf), v
    for _ in range(iterations):
        x, speed = solved(case, past[:, -2], v, c, every, 1)
        miss = past[:, -1] - x[:, 0]
        error = miss.norm(dim=-1)
        closer = error.amax(1) < least.amax(1)
        least = torch.where(closer[:, None], error, least)
        best = torch.where(closer[:, None, None], v, best)
        reached = torch.where(closer[:, None, None], speed[:, 0], reached)
        v = v + miss / dt
    return solved(case, past[:, -1], reached, c, every, count)[0]


def _with_step(case: Case, step: float) -> Case:
    return case.model_copy(update={"time": case.time.model_copy(update={"step": step})})


class EntityTransformer(ScoreNetwork):
    """Attention between entities: (batch, frame, entity, 3) from the past, and for a flow from noise as well."""

    def __init__(self, past: int, future: int, noisy: bool) -> None:
        super().__init__()
        self.future = future
        self.embed = nn.Linear(3 * (past + future * 2) + 1, WIDTH)
        self.turn = perceptron(2 * HARMONICS, WIDTH, WIDTH) if noisy else None
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(DEPTH))
        self.out = nn.Linear(WIDTH, 3 * future)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def prepare(self, condition: Tensor) -> Tensor:
        return condition

    def forward(self, v: Tensor, angle: Tensor, prepared: Tensor) -> Tensor:
        x = self.embed(torch.cat([prepared, _flat(v)], -1))
        if self.turn is not None:
            x = x + self.turn(angle_features(angle))[:, None]
        for block in self.blocks:
            x = block(x)
        return self.out(x).unflatten(-1, (self.future, 3)).transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    """(batch, entity, frame and coordinate)."""
    return x.transpose(1, 2).flatten(2)


def condition(past: Tensor, base: Tensor, c: Tensor) -> Tensor:
    """Positions given and those of a deterministic prediction, about their centre, and couplings."""
    centre = past[:, -1:].mean(2, keepdim=True)
    return torch.cat([_flat(past - centre), _flat(base - centre), c[..., None]], -1)


def descend(network: nn.Module, loss: Callable[[int], Tensor], seconds: float, rate: float = 1e-3) -> int:
    """Adam with a rate that falls as a cosine over so many CPU seconds; the number of steps."""
    adam = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0)
    begin, step = time.process_time(), 0
    while (spent := (time.process_time() - begin) / seconds) < 1:
        for group in adam.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * spent))
        adam.zero_grad()
        loss(step).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        step += 1
    return step


def transformer(
    training: Training, seconds: float, base_of: Callable[[Tensor, int], Tensor] = constant_velocity, rate: float = 1e-3
) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """The transformer, as the residual of a prediction: (prediction of past and couplings, steps taken)."""
    past, future = training.options.past, training.options.future
    torch.manual_seed(training.options.seed)
    network = EntityTransformer(past, future, False)

    def predict(x: Tensor, c: Tensor) -> Tensor:
        base = base_of(x, future)
        return base + network(torch.zeros_like(base), torch.zeros(len(x)), condition(x, base, c))

    def loss(step: int) -> Tensor:
        batch, _, _ = training.batch(step, 1)
        return (predict(batch.x[:, :past], batch.c) - batch.x[:, past:]).norm(dim=-1).mean()

    return predict, descend(network, loss, seconds, rate)


def pair_network(training: Training, seconds: float) -> int:
    """Train the pair network of the model alone; the number of steps."""
    assert training.model.predictor is not None
    o = training.options
    loss = partial(training.predictor_loss, span=o.spans[-1])
    return descend(training.model.predictor, loss, seconds, o.span_learning_rate)


def staged(training: Training, seconds: float) -> list[int]:
    """Train all stages of `lam-slide`: half of the time for a predictor that learns; the steps of each stage.

    The answers of the predictor from all frames, which the later stages need, are part of the time.
    """
    model, o = training.model, training.options
    begin, steps = time.process_time(), []
    if model.predictor is not None:
        steps.append(pair_network(training, 0.5 * seconds))
    training.normalise()
    left = seconds - (time.process_time() - begin)
    if left <= 0:
        raise SystemExit(f"--seconds {seconds:g}: the predictor alone took {seconds - left:.0f}. Remedy: more seconds")
    steps.append(descend(model.autoencoder, seeded(training.first_loss), 0.45 * left, o.learning_rate))
    steps.append(descend(model.denoiser, seeded(training.second_loss), 0.45 * left, o.flow_learning_rate))
    decoder = [p for n, p in model.autoencoder.named_parameters() if not n.startswith(ENCODER)]
    both = nn.ParameterList([*model.denoiser.parameters(), *decoder])
    steps.append(descend(both, seeded(training.joint_loss), 0.1 * left, 0.5 * o.flow_learning_rate))
    model.eval()
    return steps


def physical_flow(
    training: Training, seconds: float, predicted: bool
) -> tuple[Callable[[Tensor, Tensor, Tensor, int], Tensor], int]:
    """A flow of positions, as the residual of the model's predictor, or of constant velocity.

    Returns (sample of past, couplings, noise and evaluations, steps taken).
    """
    past, future, model = training.options.past, training.options.future, training.model
    torch.manual_seed(training.options.seed)
    denoiser = Denoiser("data", EntityTransformer(past, future, True))
    base_of = (lambda x, c: model.predict(x, c)[0]) if predicted else (lambda x, c: constant_velocity(x, future))
    with torch.no_grad():
        u = training.states[:1000, : past + future].transpose(2, 3)
        off = u[:, past:, :, :3] - base_of(u[:, :past, :, :3], u[:, 0, :, 6])
        scale = off.square().mean((0, 2, 3)).sqrt()[:, None, None]

    def loss(step: int) -> Tensor:
        batch, generator, _ = training.batch(step, 2)
        with torch.no_grad():
            base = base_of(batch.x[:, :past], batch.c)
        z = (batch.x[:, past:] - base) / scale
        xi = torch.from_numpy(generator.standard_normal(z.shape, dtype=np.float32))
        angle = denoiser.angles(torch.from_numpy(generator.random(len(z), dtype=np.float32)))
        angle[: len(z) // 2] = denoiser.first_angle
        return denoiser.loss(z, xi, angle, condition(batch.x[:, :past], base, batch.c))

    def draw(x: Tensor, c: Tensor, xi: Tensor, evaluations: int) -> Tensor:
        base = base_of(x, c)
        return base + scale * sample(denoiser, xi, condition(x, base, c), "euler", evaluations, lambda: xi, 1.0)

    return draw, descend(denoiser, loss, seconds)
