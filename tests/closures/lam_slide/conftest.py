"""Weights of a small model of five charged particles, with untrained networks of a seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CASE: dict[str, Any] = {
    "title": "particles",
    "equation": {"name": "charged-particles", "force": "coulomb", "force_limit": 100.0},
    "grid": {"entities": 5},
    "time": {"end": 1.6, "step": 0.02, "stepper": "velocity-verlet"},
    "initial": {"kind": "charged-particles"},
    "ensemble": {"members": 2, "seed": 7},
    "output": {"every": 0.2},
}
SMALL: dict[str, Any] = {
    "past": 2,
    "future": 4,
    "window": 2,
    "hidden": 8,
    "substeps": 2,
    "spans": [1, 2],
    "span_steps": [3, 2],
    "transformer_width": 8,
    "transformer_depth": 2,
    "transformer_steps": 4,
    "identifiers": 10,
    "dimension": 12,
    "latents": 4,
    "channels": 4,
    "width": 8,
    "heads": 2,
    "flow_width": 8,
    "depth": 1,
    "steps": 4,
    "flow_steps": 4,
    "joint_steps": 3,
    "batch": 6,
    "checkpoint_every": 2,
    "threads": 1,
}


@pytest.fixture(scope="session")
def particles() -> dict[str, Any]:
    """A case of five charged particles."""
    return CASE


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Options of a small training."""
    return SMALL


@pytest.fixture
def small_model() -> Callable[..., Any]:
    """Makes a model of these options, all of its weights drawn at random, also those that are zero before training."""

    def make(path: Path | None = None, **options: Any) -> Any:
        import torch

        from subgrid.closures.lam_slide.model import TrajectoryModel
        from subgrid.closures.lam_slide.options import TrainingOptions
        from subgrid.solver.case.reading import check

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            chosen = TrainingOptions(**SMALL | options).model_dump(mode="json")
            model = TrajectoryModel(chosen, 0.1, [-1.0, 1.0]).eval().requires_grad_(False)
            trained = [model.denoiser] if chosen["predictor"] != "transformer" else [model.denoiser, model.predictor]
            for parameter in (p for part in trained for p in part.parameters()):
                parameter.add_(0.3 * torch.randn(parameter.shape))
        if path is not None:
            equation = check(CASE, "particles.toml", Path()).build_equation()
            about = {"equation": {"name": equation.name} | equation.model_dump(mode="json"), "shape": [5], "length": []}
            about |= {"version": "0", "fields": [f.name for f in equation.fields], "seeds": {}, "scores": {}}
            model.save(path, about | {"training_case": "", "training_command": ""})
        return model

    return make
