"""Scores of entities against closed forms, and with members of different numbers of entities."""

import numpy as np
import pytest

from subgrid.commands import rollouts
from subgrid.commands.comparison import entities, metrics
from subgrid.commands.comparison.compare import compare
from subgrid.commands.comparison.row_runs import truth_of
from subgrid.commands.comparison.scores import Truth, score
from subgrid.commands.progress import Bars
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import check
from subgrid.solver.equations import ChargedParticles, Tracers

EQUATION = Tracers(carrier={"name": "kolmogorov", "viscosity": 0.0})
MASK = np.array([[True] * 4, [True, True, False, False]])
CHARGES = {
    "title": "charges",
    "equation": {"name": "charged-particles", "softening": 0.1},
    "grid": {"entities": 5},
    "time": {"end": 1.0, "step": 0.05, "stepper": "velocity-verlet"},
    "initial": {"kind": "charged-particles"},
    "ensemble": {"members": 4, "entities": [5, 3]},
    "output": {"every": 0.25},
    "reference": {"shape": [5], "step": 0.005, "trajectories": 2, "restrict": "subsample"},
}


def truth(times: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((times, 2, 2, 4))


def test_displacement_errors_of_shifted_samples():
    """Two samples that are 3 and 4 off everywhere; what is not real may be anything."""
    y = truth()
    x = np.repeat(y, 2, axis=1)
    x[:, ::2, 0] += 3.0
    x[:, 1::2, 1] += 4.0
    x[:, 2:, :, 2:] = 1e6
    found = entities.score(x, y, EQUATION, MASK)
    for name, value in {"ade": 3.5, "fde": 3.5, "min_ade": 3.0, "min_fde": 3.0}.items():
        np.testing.assert_allclose(found[f"sample_{name}"], value)
    np.testing.assert_allclose(found["fde_quantiles"], [3.0, 3.5, 4.0])


def test_the_best_sample_is_that_of_each_entity():
    """ADE and FDE take their best sample each by itself."""
    y = np.zeros((3, 1, 2, 2))
    x = np.zeros((3, 2, 2, 2))
    x[1, 0, 0], x[2, 0, 0] = 1.0, 5.0  # sample 0: near at first, far at the end
    x[1, 1, 0], x[2, 1, 0] = 9.0, 2.0
    found = entities.score(x, y, EQUATION, MASK[:1, :2])
    assert found["sample_min_ade"][0] == pytest.approx(3.0)
    assert found["sample_min_fde"][0] == pytest.approx(2.0)


def test_the_energy_score_of_pairs_prefers_the_right_law():
    """Samples of the truth's law, in which two entities go together, score better than independent ones."""
    rng = np.random.default_rng(1)
    common = rng.standard_normal((2, 300, 2, 1)) * np.ones(2)
    together = rng.standard_normal((2, 300 * 8, 2, 1)) * np.ones(2)
    apart = rng.standard_normal((2, 300 * 8, 2, 2))
    mask = np.ones((300, 2), dtype=bool)
    scores = [entities.score(x, common, EQUATION, mask)["sample_pair_energy_score"].mean() for x in (together, apart)]
    assert scores[0] < 0.98 * scores[1]


def test_one_sample_has_the_mean_distance_as_its_energy_score():
    y = truth()
    x = y + np.array([3.0, 4.0])[:, None]
    found = entities.score(x, y, EQUATION, np.ones((2, 4), dtype=bool))
    np.testing.assert_allclose(found["sample_pair_energy_score"], np.sqrt(50))


def test_divergence_of_equal_and_of_disjoint_distributions():
    p, q = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.0, 0.0, 0.25, 0.75])
    assert entities.divergence(p, p) == 0.0
    assert entities.divergence(p, q) == pytest.approx(1.0)
    assert entities.divergence(p, 0.5 * (p + q)) == pytest.approx(0.311278, abs=1e-6)


def test_dispersion_and_separations_leave_out_what_is_not_real():
    x = np.zeros((2, 2, 2, 4))
    x[:, :, 0, 1] = x[:, :, 0, 3] = 3.0  # separations of both pairs
    x[1] += np.array([0.6, 0.8])[:, None]  # everything moves by 1
    x[1, 1, :, 2:] = 1e6
    found = entities.diagnostics(x, EQUATION, MASK, np.array([1.0, 2.0, 4.0]), 2)
    np.testing.assert_allclose(found["dispersion_absolute"], [0.0, 1.0])
    np.testing.assert_allclose(found["dispersion_relative"], [3.0, 3.0])
    assert found["sample_separation"].shape == (2, 2, entities.BINS + 2)
    np.testing.assert_allclose(found["sample_separation"][:, :, 2], 1.0)


def test_particles_have_these_scores_too(monkeypatch, tmp_path):
    """Charged particles, 5 and 3 of them: the scores are those of a comparison of the real entities alone."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = CHARGES | {"compare": {"frontier": False}}
    result = compare(check(case, "case", tmp_path), progress=False)
    row = result.metrics.rows[0]
    assert 0 < row.entities["ade"] < row.entities["fde"] < 1
    assert row.entities["min_fde"] == row.entities["fde"]  # the members of a trajectory do not differ
    assert 0 <= row.entities["separation_jsd"] < 0.5
    low, high = row.entity_intervals["fde"]
    assert low <= row.entities["fde"] <= high
    assert "ADE" in repr(result) or "average displacement error" in result.table.columns
    assert {"entities", "paths"} <= set(result.figures)
    assert ChargedParticles.having("constant") == [6]
    result.figure("entities")


def test_scores_of_fields_are_over_real_entities_alone(monkeypatch, tmp_path):
    """A placeholder has no error: as a point it would lower the CRPS and raise the correlation."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    changes = {"time": {"end": 0.1, "step": 0.05, "stepper": "velocity-verlet"}, "output": {"every": 0.05}}
    case = CHARGES | changes
    prepared = prepare(check(case, "case", tmp_path), tmp_path, with_reference=True, progress=lambda *_: None)
    found = truth_of(prepared)
    true = found.states + 10.0
    states = np.repeat(true, 2, axis=1) + [[[[0.0]]], [[[1.0]]], [[[3.0]]]] * np.random.default_rng(0).normal(
        size=(3, 4, *true.shape[2:])
    )
    scores = score(states, Truth(np.where(true == 10.0, 0.0, true), found.diagnostics, found.sampling), prepared)
    ensemble = states.reshape(3, 2, 2, *true.shape[2:])
    for trajectory, count in enumerate((5, 3)):
        ours, theirs = ensemble[:, trajectory, None, ..., :count], true[:, trajectory, None, :, :count]
        for name, expected in (
            ("crps", metrics.crps(ours, theirs)),
            ("energy_score", metrics.energy_score(ours, theirs)),
        ):
            assert scores[f"sample_{name}"][trajectory] == pytest.approx(expected[1:].mean()), name
        expected = metrics.correlation(ours.mean(axis=2), theirs)[:, 0]
        threshold = prepared.case.compare.correlation_threshold
        spans = metrics.correlation_time(expected[:, None], np.array([0.0, 0.05, 0.1]), threshold)
        assert scores["sample_correlation_time"][trajectory] == pytest.approx(spans[0])


@pytest.mark.parametrize("name", ["relative_l2", "correlation_time", "crps"])
def test_a_tuning_leaves_out_what_is_not_real_and_closures_know_it(name, monkeypatch, tmp_path):
    training = {"trajectories": 4, "start": 0.0, "end": 0.2, "every": 0.05, "validation": 2}
    changes = {"training": training}
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    scored, seen, errors = rollouts.Rollouts(check(CHARGES | changes, "case", tmp_path), name, Bars(quiet=True)), [], []
    build = rollouts.build_simulation
    for shift in (0.0, 100.0):

        def shifted(case, equation, grid, state, *, mask=None, **options):
            seen.append(mask)
            state = state.copy()
            state[len(state) // 2 :, :3, 3:] += shift  # noqa: B023
            return build(case, equation, grid, state, mask=mask, **options)

        monkeypatch.setattr(rollouts, "build_simulation", shifted)
        errors.append(scored((), 0.0))
    assert seen[0].sum(axis=1).tolist() == ([5, 5, 3, 3] if name == "crps" else [5, 3])
    assert np.isfinite(errors[0]) and errors[1] == pytest.approx(errors[0], rel=1e-9)
