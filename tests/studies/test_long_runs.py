"""Intervals of long runs: they hold the law that the reference was drawn from, and no other."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from subgrid.solver.equations.kolmogorov.equation import Kolmogorov
from subgrid.solver.grid import Grid

STUDY = Path(__file__).parents[2] / "studies" / "long_runs.py"
GRID = Grid((16, 16), (2 * np.pi, 2 * np.pi))


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("long_runs", STUDY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((40, 6, 1, *GRID.shape))


def test_statistics_of_the_same_law_are_within_the_intervals_and_those_of_another_are_not(study):
    equation = Kolmogorov(viscosity=1e-3)
    known = study.Statistics(drawn(0), 4, equation, GRID)
    assert len(known.spectra) == 60
    intervals = known.intervals()
    assert intervals["variance"][0] < 1 < intervals["variance"][1]
    for scale, inside in ((1.0, True), (1.1, False)):
        other = study.Statistics(drawn(1, scale), 40, equation, GRID)
        for name in ("energy", "enstrophy", "variance"):
            low, high = intervals[name]
            width = high - low  # the statistics of the other states have sampling errors, too
            assert (low - width <= other.mean(name) <= high + width) == inside, name
        within = known.distance(other.spectra.mean(0)) <= 2 * intervals["spectrum distance"][1]
        assert within == inside
    with pytest.raises(ValueError, match="smaller --block"):
        study.Statistics(drawn(0), 50, equation, GRID)
