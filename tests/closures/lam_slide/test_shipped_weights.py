"""The shipped weights of `lam-slide`, on charged particles that no training has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from subgrid.closures.lam_slide.model import TrajectoryModel, draw_identifiers
from subgrid.closures.lam_slide.predictor import constant_velocity
from subgrid.closures.learning.compatibility import SHIPPED
from subgrid.solver.case.reading import read
from subgrid.solver.initial.checked import checked_state
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

CASE = Path(__file__).parents[3] / "cases" / "lam-slide-charged.toml"
COUNT, FRAMES = 40, 30


@pytest.fixture(scope="module")
def model():
    return TrajectoryModel.load(SHIPPED / "lam-slide-charged-lam-slide.safetensors")[0]


def trajectories(entities, path=CASE):
    """Positions (trajectory, frame, entity, 3) and couplings, by the solver."""
    case = read(path, [f"grid.entities={entities}", f"reference.shape=[{entities}]"])
    equation, grid, members = case.build_equation(), case.grid.grid(), tuple(range(COUNT))
    state = checked_state(case.initial, equation, grid, members, 77)
    simulation = build_simulation(case, equation, grid, state, members=members)
    found = np.stack(Collector(simulation, 100 * (FRAMES - 1), 100, np.array).run(), 1).astype(np.float32)
    u = torch.from_numpy(found).transpose(2, 3)
    return u[..., :3], u[:, 0, :, 6]


def sampled(model, x, c, evaluations, seed, white_seed=0):
    pool = len(model.pool)
    drawn = [draw_identifiers(np.random.default_rng([seed, i]), pool, x.shape[2]) for i in range(len(x))]
    white = np.random.default_rng(white_seed).standard_normal((len(x), *model.latent_shape()), dtype=np.float32)
    known = model.pool[torch.from_numpy(np.stack(drawn))]
    return model.sampled(x[:, : model.past], c, known, torch.from_numpy(white), evaluations)[0]


def distance(a, b):
    return float((a - b).norm(dim=-1).mean())


def test_weights_from_before_an_option_are_read_bit_for_bit(model, tmp_path):
    """Their headers lack the options of later predictors."""
    path = SHIPPED / "lam-slide-charged-lam-slide.safetensors"
    read, header = TrajectoryModel.load(path)
    assert "baseline" not in header["options"] and not read.at_rest
    read.save(tmp_path / "again.safetensors", header)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("entities", [5, 8, 10])
def test_samples_are_better_than_constant_velocity_for_more_entities_too(entities, model):
    x, c = trajectories(entities)
    true = x[:, model.past :]
    free = distance(constant_velocity(x[:, : model.past], model.future), true)
    for evaluations in (1, 10):
        assert distance(sampled(model, x, c, evaluations, 0), true) < 0.6 * free


@pytest.mark.parametrize(("force", "entities"), [("gravity", 10), ("springs", 5)])
def test_other_forces_have_weights_whose_samples_are_better_than_constant_velocity(force, entities):
    model, header = TrajectoryModel.load(SHIPPED / f"lam-slide-{force}-lam-slide.safetensors")
    assert header["equation"]["force"] == force
    x, c = trajectories(entities, CASE.with_stem(f"lam-slide-{force}"))
    true = x[:, model.past :]
    free = distance(constant_velocity(x[:, : model.past], model.future), true)
    assert distance(sampled(model, x, c, 1, 0), true) < 0.6 * free


def test_other_identifiers_change_samples_by_less_than_their_spread(model):
    x, c = trajectories(5)
    first = sampled(model, x, c, 10, 0)
    assert 0 < distance(first, sampled(model, x, c, 10, 1)) < distance(first, sampled(model, x, c, 10, 0, 1))
