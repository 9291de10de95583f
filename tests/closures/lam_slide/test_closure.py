"""`lam-slide` in the solver loop: past frames, samples, other closures, resume, and problems that it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from subgrid.commands.comparison.compare import compare
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import check
from subgrid.solver.closure import Closure, ClosureError, Correction, Coupled

EVERY = 5


@pytest.fixture
def simulate(small_model, particles, tmp_path):
    small_model(tmp_path / "w.safetensors")

    def start(options=None, **tables):
        table = {"name": "lam-slide", "weights": "w.safetensors", "every": EVERY, "evaluations": 2} | (options or {})
        table = {key: value for key, value in table.items() if value is not None}
        data = {k: v | tables.pop(k, {}) if isinstance(v, dict) else v for k, v in particles.items()}
        data |= {"closure": [table]} | tables
        prepared = prepare(check(data, "particles.toml", tmp_path), tmp_path, with_reference=False)
        return prepared.simulation(prepared.case.closure)

    return start


def followed(run, steps=80):
    """States at the outputs, and the steps that the solver has taken."""
    seen, solved = {}, []
    advance = run.advance
    run.advance = lambda count: (solved.extend(range(run.step_number, run.step_number + count)), advance(count))
    run.run(steps, lambda n: 10 - n % 10, lambda n: seen.setdefault(n, run.state), output_every=10)
    return seen, solved


def test_the_solver_computes_the_frames_given_and_samples_the_rest(simulate):
    run = simulate()
    seen, solved = followed(run)
    assert solved == list(range(EVERY))  # two frames, then leaps of four
    assert set(range(0, 81, 10)) <= set(seen) and all(np.isfinite(u).all() for u in seen.values())
    assert all((u[:, 6] == seen[0][:, 6]).all() for u in seen.values())


def test_members_have_their_own_samples_which_do_not_depend_on_the_batch(simulate):
    same = {"initial": {"kind": "charged-particles"}, "ensemble": {"members": 3}}
    seen, _ = followed(simulate(**same))
    alone, _ = followed(simulate(ensemble={"members": 1}))
    np.testing.assert_allclose(seen[80][0], alone[80][0], rtol=1e-4, atol=1e-5)
    one, other = (followed(simulate({"answer": a}))[0] for a in ("sample", "predictor"))
    assert not np.allclose(one[80], other[80], atol=1e-3)


def test_continued_from_any_step_equals_uninterrupted(simulate):
    """Also between the frames given, and between leaps."""
    whole = simulate()
    saved = {}

    def keep(n):
        if not whole.leaping:
            saved[n] = {k: v.copy() for k, v in whole.checkpoint().items()}

    whole.run(80, lambda n: 1, keep, output_every=5)
    assert len(saved) >= 8
    for arrays in saved.values():
        again = simulate()
        again.restore(arrays)
        again.run(80, lambda n: 1, lambda n: None, output_every=5)
        np.testing.assert_array_equal(again.state, whole.state)


class Nudge(Closure):
    """Moves all entities at step 25."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return (Correction(view.state + 1.0), memory) if view.step == 25 else (None, memory)


def test_a_correction_by_another_closure_discards_the_past(simulate):
    run = simulate()
    nudge = Coupled("nudge", Nudge(), EVERY)
    run = type(run)(
        run.equation, run.grid, "velocity-verlet", 0.02, run.state, closures=[nudge, *run.closures],
        initial={"kind": "charged-particles"}, folder=None,
    )  # fmt: skip
    _, solved = followed(run)
    assert set(range(25, 30)) <= set(solved)


def test_a_comparison_runs_all_samples_of_a_trajectory(small_model, particles, tmp_path, monkeypatch):
    """They begin alike, and differ when the first frames are over."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    small_model(tmp_path / "w.safetensors")
    row = {"name": "lam-slide", "weights": str(tmp_path / "w.safetensors"), "every": EVERY}
    tables = {
        "time": particles["time"] | {"end": 0.8},
        "ensemble": {"members": 4},
        "reference": {"shape": [5], "trajectories": 2, "restrict": "subsample"},
        "compare": {"closures": [row], "metrics": ["spread_skill"], "frontier": False},
    }
    found = compare(check(particles | tables, "particles.toml", tmp_path), progress=False).metrics.rows
    spread = {row.name: row.spread_skill for row in found}
    assert spread["lam-slide"][-1] > 0.01


@pytest.fixture(autouse=True)
def in_the_folder_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("entities", [8, 10])
def test_more_entities_than_in_training_are_sampled(entities, simulate):
    seen, _ = followed(simulate(grid={"entities": entities}))
    assert seen[80].shape == (2, 7, entities) and np.isfinite(seen[80]).all()


def test_members_with_fewer_entities_have_the_samples_of_these_alone(simulate):
    fewer, _ = followed(simulate(ensemble={"members": 2, "entities": [3, 5]}))
    alone, _ = followed(simulate(ensemble={"members": 1, "entities": [3]}))
    whole, _ = followed(simulate(ensemble={"members": 2}))
    np.testing.assert_allclose(fewer[80][0, :, :3], alone[80][0, :, :3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fewer[80][1], whole[80][1], rtol=1e-4, atol=1e-5)
    # placeholders rest, after the frames that the solver computes
    np.testing.assert_array_equal(fewer[80][0, :, 3:], fewer[20][0, :, 3:])
    assert not np.allclose(fewer[80][0, :, :3], whole[80][0, :, :3], atol=1e-3)


def test_the_pool_bounds_the_entities_that_are_real(simulate):
    seen, _ = followed(simulate(grid={"entities": 12}, ensemble={"entities": [10, 4]}))
    assert np.isfinite(seen[80]).all()
    with pytest.raises(ClosureError, match="has 10 identifiers, the case has 11 entities"):
        simulate(grid={"entities": 12}, ensemble={"entities": [4, 11]})


@pytest.mark.parametrize(
    ("options", "tables", "message"),
    [
        (
            {},
            {"grid": {"entities": 11}},
            "has 10 identifiers, the case has 11 entities. Remedy: fewer entities",
        ),
        ({"weights": None}, {"grid": {"entities": 17}}, "has 16 identifiers, the case has 17 entities"),
        ({"every": 10}, {}, "predicts at intervals of 0.1, every = 10 steps are 0.2. Remedy: every = 5"),
        ({}, {"equation": {"force": "gravity"}}, "is for equation.force = 'coulomb', the case has 'gravity'"),
        ({}, {"equation": {"strength": 2.0}}, "is for equation.strength = 1.0, the case has 2.0"),
        ({"weights": "mi2a-burgers-mi2a"}, {}, "is for the closure mi2a, not for lam-slide"),
    ],
)
def test_wrong_problems_are_refused_by_name(options, tables, message, simulate):
    with pytest.raises(ClosureError, match="lam-slide: ") as found:
        simulate(options, **tables)
    assert message in str(found.value)
