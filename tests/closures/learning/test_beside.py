"""Closures beside a trained one: their linear parts join the model, and the pairs are what they leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subgrid.closures.learning.beside import linear_beside, remainder
from subgrid.ingest.training_set import Dataset, Model
from subgrid.solver.case.tables import ClosureTable
from subgrid.solver.equations import Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.simulation.rollout import rollout
from subgrid.solver.spectral import Operators

GRID = Grid((16, 16), (6.0, 6.0))


def data() -> Dataset:
    states, terms = np.random.default_rng(0).standard_normal((2, 6, 1, 16, 16)).astype(np.float32)
    model = Model(Kolmogorov(viscosity=1e-2), GRID, "etdrk2", 0.02, 1, None)
    return Dataset((states, terms), (states[:2], terms[:2]), {}, (states[None], states[None]), model)


def tables(*options: dict) -> list[ClosureTable]:
    return [ClosureTable.model_validate({"name": "hyperviscosity"} | o) for o in options]


def test_the_pairs_are_what_the_linear_closures_leave():
    """Two closures, one of them with a weight, are one part of the linear operator."""
    parts = tables({"order": 2, "rate": 1.5, "linear": True}, {"order": 4, "rate": 1.0, "linear": True, "weight": 0.5})
    found = linear_beside(parts, data(), Path(), "beside")
    alone = [linear_beside([p], data(), Path(), "beside") for p in parts]
    np.testing.assert_allclose(found, alone[0] + alone[1])
    assert found.min() < -1.0
    (states, left), (_, terms) = remainder(data(), found).train, data().train
    operators = Operators(GRID)
    linear = operators.inverse(found * operators.forward(states.astype(float)))
    np.testing.assert_allclose(left + linear, terms, atol=1e-4)
    assert np.abs(linear).max() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 2, "rate": 1.5, "linear": False}, r"beside\.0: hyperviscosity is not a part of the linear operator"),
        ({"name": "nope"}, r"beside\.0: no closure is named 'nope'"),
        ({"order": 2, "rate": "fast"}, r"beside\.0\.rate: Input should be a valid number.*Remedy"),
    ],
)
def test_a_closure_that_a_training_cannot_go_through_is_refused_with_its_place(options, message):
    with pytest.raises(ValueError, match=message):
        linear_beside(tables(options), data(), Path(), "beside")
    assert linear_beside([], data(), Path(), "beside") is None


def test_a_rollout_goes_through_the_joined_operator():
    import torch

    found = linear_beside(tables({"order": 2, "rate": 5.0, "linear": True}), data(), Path(), "beside")
    state = torch.from_numpy(data().train[0].astype(float))
    model = data().model
    runs = [
        rollout(model.equation, GRID, model.stepper, model.step, state, 5, added=added).numpy()
        for added in (None, found)
    ]
    assert np.square(runs[1]).mean() < 0.9 * np.square(runs[0]).mean()
