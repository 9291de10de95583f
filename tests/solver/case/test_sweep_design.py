"""Sweeps over reciprocals, entries of lists, and closed forms."""

from pathlib import Path

import numpy as np
import pytest

from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.case.sweep_design import among, entry, evenly_spaced, numbers_of, with_entries

BURGERS = {
    "title": "front",
    "equation": {"name": "burgers", "viscosity": 1e-3, "discretisation": "finite-volume", "boundary": "dirichlet"},
    "grid": {"shape": [32], "length": [1.0]},
    "time": {"end": 0.04, "step": 0.01, "stepper": "ssp-rk3"},
    "initial": {"kind": "burgers-dirichlet"},
    "output": {"every": 0.02},
    "sweep": {
        "parameters": {"equation.viscosity": [5e-4, 1e-3]},
        "reciprocal": ["equation.viscosity"],
        "exact": True,
        "counts": [3],
    },
}
WATER = {
    "title": "drops",
    "equation": {"name": "shallow-water"},
    "grid": {"shape": [8, 8], "length": [1.0, 1.0]},
    "time": {"end": 0.01, "step": 0.005, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian-hump", "drops": [{"width": 0.1}, {"width": 0.2, "centre": [0.5, 0.5]}]},
    "output": {"every": 0.005},
    "sweep": {
        "parameters": {"initial.drops.1.centre.0": [0.2, 0.8], "initial.drops.1.width": [0.1, 0.3]},
        "design": "latin-hypercube",
        "runs": 3,
    },
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))


def test_reciprocals_are_evenly_spaced_and_the_ends_exact():
    found = evenly_spaced(5e-4, 1e-3, 3, reciprocal=True)
    assert found[0] == 5e-4 and found[-1] == 1e-3 and 1 / found[1] == pytest.approx(1500)
    points = check(BURGERS, "front.toml", Path()).sweep.points()
    assert 1 / points[:, 0] == pytest.approx([2000, 1500, 1000])
    table = BURGERS["sweep"] | {"design": "latin-hypercube", "runs": 8}
    del table["counts"]
    drawn = np.sort(1 / check(BURGERS | {"sweep": table}, "front.toml", Path()).sweep.points()[:, 0])
    assert ((drawn - 1000) // 125 == np.arange(8)).all()


def test_states_of_the_closed_form_with_the_reynolds_number_of_each_run():
    case = check(BURGERS, "front.toml", Path())
    sweep = runs(case, case.sweep.points())
    for i, value in enumerate(sweep.parameters[:, 0]):
        varied = case.varied({"equation.viscosity": float(value)})
        equation, grid = varied.build_equation(), varied.grid.grid()
        named = type(case.initial)(reynolds=1 / value)
        expected = [named.exact(equation, grid, t, (0,), 0)[0] for t in (0.0, 0.02, 0.04)]
        assert sweep.state(i) == pytest.approx(np.stack(expected), abs=1e-7)
    # the solver's own runs are other files
    own = check(BURGERS | {"sweep": BURGERS["sweep"] | {"exact": False}}, "front.toml", Path())
    assert runs(own, own.sweep.points()).files[0] != sweep.files[0]


def test_a_closed_form_that_is_not_known_is_refused_before_anything_is_written(tmp_path):
    data = BURGERS | {"initial": {"kind": "gaussian", "centre": 0.5, "width": 0.1}}
    case = check(data, "front.toml", Path())
    with pytest.raises(ValueError, match=r"sweep.exact: no closed form is known.*Remedy: sweep.exact = false"):
        runs(case, case.sweep.points())
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_entries_of_lists_vary_and_others_stay():
    case = check(WATER, "drops.toml", Path())
    sweep = runs(case, case.sweep.points())
    for i, (y, width) in enumerate(sweep.parameters):
        drops = case.varied(case.sweep.values((y, width))).initial.drops
        assert drops[0].width == 0.1 and drops[1].centre == (y, 0.5) and drops[1].width == width
        assert np.unravel_index(sweep.state(i)[0, 0].argmax(), (8, 8)) is not None
    assert len({f.name for f in sweep.files}) == 3
    assert case.parameters().tolist() == [0.5, 0.2]


def test_runs_of_the_test_are_a_further_hypercube():
    """Others than the training runs, one in each slice; and a case without them keeps its stored form."""
    sweep = check(WATER | {"sweep": WATER["sweep"] | {"test_runs": 4}}, "drops.toml", Path()).sweep
    points = sweep.test_points()
    assert points.shape == (4, 2) and not among(points, sweep.points()).any()
    assert sorted(((points[:, 0] - 0.2) // 0.15).tolist()) == [0, 1, 2, 3]
    assert "test_runs" not in check(WATER, "drops.toml", Path()).sweep.model_dump()


@pytest.mark.parametrize(
    ("data", "change", "message"),
    [
        (BURGERS, {"test_counts": [3], "test_runs": 2}, "sweep.test_runs: contradicts test_counts. Remedy"),
        (BURGERS, {"reciprocal": ["equation.speed"]}, "sweep.reciprocal: 'equation.speed' is not among"),
        (
            BURGERS,
            {"parameters": {"equation.viscosity": [0.0, 1e-3]}},
            "sweep.reciprocal: equation.viscosity needs a range of positive",
        ),
        (WATER, {"parameters": {"initial.drops.2.width": [0.1, 0.2]}}, "sweep.parameters.initial.drops.2.width"),
        (WATER, {"parameters": {"initial.drops": [0.1, 0.2]}}, "sweep.parameters.initial.drops"),
        (WATER, {"parameters": {"initial.drops.0.width": [-0.1, 0.2]}}, "sweep.parameters: "),
    ],
)
def test_wrong_sweeps_are_refused_by_key(data, change, message):
    with pytest.raises(CaseError, match=message):
        check(data | {"sweep": data["sweep"] | change}, "case.toml", Path())


def test_entries_by_name():
    table = {"a": 1, "b": [{"c": 2.0, "d": [3, 4]}], "e": True}
    assert entry(table, "b.0.d.1") == 4
    assert list(numbers_of(table)) == ["a", "b.0.c", "b.0.d.0", "b.0.d.1"]
    assert with_entries(table, {"b.0.d.1": 7, "a": 5}) == {"a": 5, "b": [{"c": 2.0, "d": [3, 7]}], "e": True}
    for key in ("b.1", "b.x", "a.b", "z"):
        with pytest.raises(LookupError):
            entry(table, key)
