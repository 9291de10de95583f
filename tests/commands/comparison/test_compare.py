"""A comparison keeps every row with its cost, and measures its speed-up over the frontier."""

import json
import warnings

import numpy as np
import pytest
import xarray as xr

from subgrid.commands.comparison.compare import compare
from subgrid.commands.comparison.scores import Truth
from subgrid.ingest.files import Trajectories
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.simulation.record import RunFolderError

KEYS = {
    "name",
    "kind",
    "times",
    "relative_l2",
    "correlation_time",
    "spectrum_distance",
    "invariants",
    "crps",
    "spread_skill",
    "rank_histogram",
    "skill",
    "means",
    "cpu_seconds_per_time",
    "wall_seconds_per_time",
    "speedup",
    "beyond",
    "intervals",
    "differences",
    "statistics",
    "entities",
    "entity_intervals",
    "closure_calls",
    "guard_skips",
    "steps_declined",
    "failed",
    "note",
    "formula",
}
CLOSURES = '''
import numpy as np

from subgrid.solver.closure import Closure, ClosureError, Correction, Tendency


class Failing(Closure):
    """Answers until t = 0.5, then not a number."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(np.full_like(view.state, np.nan if view.time >= 0.5 else 0.0)), memory


class Resting(Closure):
    """Stops the flow, so that nothing grows."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Correction(np.zeros_like(view.state)), memory


class Refusing(Closure):
    """Is made for nothing."""

    def start(self, problem):
        raise ClosureError("Refusing is made for nothing. Remedy: another")

    def __call__(self, view, memory):
        raise AssertionError
'''
STEPS = 50


def case_of(folder, **changes):
    data = {
        "title": "comparison",
        "equation": {
            "name": "kolmogorov",
            "viscosity": 5e-3,
            "drag": 0.1,
            "forcing": {"kind": "sine", "amplitude": 1.0, "wavenumber": 2},
        },
        "grid": {"shape": [32, 32], "length": [2 * np.pi, 2 * np.pi]},
        "time": {"start": 0.2, "end": 1.2, "step": 0.02, "stepper": "etdrk4"},
        "initial": {"kind": "reference"},
        "ensemble": {"members": 4, "seed": 3},
        "output": {"every": 0.2},
        "reference": {
            "shape": [64, 64],
            "start": 0.0,
            "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 3.0, "scale": 4.0},
            "trajectories": 2,
            "seed": 5,
        },
        "compare": {
            "closures": [
                "none",
                {"name": "smagorinsky", "every": 5, "label": "Smagorinsky, held"},
                [{"name": "smagorinsky", "weight": 0.5}, {"name": "hyperviscosity", "rate": 0.1}],
                {"path": "closures.py:Failing"},
                {"path": "closures.py:Refusing"},
                "oracle",
            ]
        },
    }
    (folder / "closures.py").write_text(CLOSURES)
    return check(data | changes, "case", folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """(folder, comparison, metrics as written, rows by name)."""
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        found = compare(case_of(folder), out=folder / "out", progress=False, command="subgrid compare case.toml")
    text = (folder / "out" / "metrics.json").read_text()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    written = json.loads(text, parse_constant=refuse)
    return folder, found, written, {row["name"]: row for row in written["rows"]}


def test_every_row_is_there_in_order_with_exactly_these_keys(comparison):
    _, found, written, rows = comparison
    assert json.loads(found.metrics.model_dump_json()) == written
    assert all(set(row) == KEYS for row in rows.values())
    kinds = [(row["name"], row["kind"]) for row in written["rows"]]
    assert kinds == [
        ("none", "none"),
        ("Smagorinsky, held", "classical"),
        ("smagorinsky + hyperviscosity", "classical"),
        ("Failing", "classical"),
        ("Refusing", "classical"),
        ("oracle", "oracle"),
    ]
    assert {"case", "reference", "rows", "frontier", "unit", "shared", "command", "versions", "machine", "git"} == set(
        written
    )
    assert all(set(row) == KEYS | {"shape", "stepper", "step", "cfl"} for row in written["frontier"])
    assert written["reference"]["shape"] == [64, 64] and written["command"] == "subgrid compare case.toml"


def test_series_are_over_the_output_times(comparison):
    rows = comparison[3]
    for name in ("none", "Smagorinsky, held", "smagorinsky + hyperviscosity", "oracle"):
        row = rows[name]
        np.testing.assert_allclose(row["times"], [0.2, 0.4, 0.6, 0.8, 1.0, 1.2], atol=1e-12)
        assert len(row["relative_l2"]) == len(row["crps"]) == len(row["spread_skill"]) == 6
        assert row["relative_l2"][0] < 1e-12 < row["relative_l2"][-1]
        assert set(row["invariants"]) == {"energy", "enstrophy"}
        assert row["wall_seconds_per_time"] > 0 and row["guard_skips"] == 0 and row["failed"] is None
    assert rows["none"]["closure_calls"] == 0
    assert rows["Smagorinsky, held"]["closure_calls"] == STEPS / 5
    assert rows["smagorinsky + hyperviscosity"]["closure_calls"] == 2 * STEPS
    assert rows["oracle"]["closure_calls"] == STEPS


def test_skill_is_measured_against_the_uncorrected_model(comparison):
    rows = comparison[3]
    without = np.mean(rows["none"]["relative_l2"][1:])
    assert rows["none"]["skill"] == 0
    for row in rows.values():
        if row["failed"] is None:
            assert row["skill"] == pytest.approx(1 - np.mean(row["relative_l2"][1:]) / without)


def test_the_oracle_is_the_floor_and_the_frontier_beats_none(comparison):
    rows = comparison[3]
    last = {name: row["relative_l2"][-1] for name, row in rows.items() if row["failed"] is None}
    assert last["oracle"] < 0.2 * last["none"]
    best = min(row["relative_l2"][-1] for row in comparison[2]["frontier"])
    assert best < 0.95 * last["none"]
    assert rows["oracle"]["skill"] > 0.8


def test_every_finished_row_has_a_cost_a_speed_up_and_intervals(comparison):
    rows, written = comparison[3], comparison[2]
    costs = {tuple(r["shape"]): r["cpu_seconds_per_time"] for r in written["frontier"]}
    assert all(32 <= n <= 64 / 2 * 1.001 or n == 32 for shape in costs for n in shape)
    for name in ("none", "Smagorinsky, held", "smagorinsky + hyperviscosity", "oracle"):
        row = rows[name]
        assert row["cpu_seconds_per_time"] > 0 and row["wall_seconds_per_time"] > 0
        assert row["means"]["relative_l2"] == pytest.approx(np.mean(row["relative_l2"][1:]))
        low, high = row["intervals"]["relative_l2"]
        assert low <= row["means"]["relative_l2"] <= high
        assert set(row["speedup"]) == {"relative_l2", "correlation_time", "spectrum_distance", "crps"}
    assert rows["oracle"]["differences"]["none"]["relative_l2"][1] < 0
    assert "none" not in rows["none"]["differences"]
    assert rows["none"]["cpu_seconds_per_time"] < rows["oracle"]["cpu_seconds_per_time"]
    for name in ("Failing", "Refusing"):
        assert rows[name]["speedup"] == rows[name]["intervals"] == rows[name]["means"] == {}


def test_a_row_that_fails_is_kept_up_to_its_failure_and_marked(comparison):
    rows = comparison[3]
    failing, refusing = rows["Failing"], rows["Refusing"]
    np.testing.assert_allclose(failing["times"], [0.2, 0.4], atol=1e-12)
    np.testing.assert_allclose(failing["relative_l2"], rows["none"]["relative_l2"][:2], rtol=1e-12)
    assert "Failing" in failing["failed"] and "not finite" in failing["failed"] and failing["skill"] is None
    assert refusing["failed"] == "Refusing is made for nothing. Remedy: another"
    assert refusing["times"] == refusing["relative_l2"] == refusing["crps"] == [] and refusing["skill"] is None
    assert refusing["correlation_time"] is None and refusing["invariants"] == {}


def test_the_dataset_on_disk_holds_the_same_scores(comparison):
    folder, _, written, rows = comparison
    assert {p.name for p in (folder / "out").iterdir()} == {
        "case.toml",
        "comparison.json",
        "comparison.zarr",
        "inputs.json",
        "metrics.json",
        "rows",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        opened = xr.open_zarr(folder / "out" / "comparison.zarr")
    with opened as dataset:
        assert dataset["time"].attrs == {"units": "time", "long_name": "time", "axis": "T"}
        assert dataset.source.values.tolist() == ["reference", *(row["name"] for row in written["rows"])]
        np.testing.assert_allclose(dataset.relative_l2.sel(source="none"), rows["none"]["relative_l2"], rtol=1e-12)
        assert np.isnan(dataset.relative_l2.sel(source="Failing").values[2:]).all()
        energy = dataset.invariant_energy
        drift = (energy.sel(source="none")[-1] - energy.sel(source="reference")[-1]) / energy.sel(source="reference")[
            -1
        ]
        assert rows["none"]["invariants"]["energy"]["drift"] == pytest.approx(float(drift), rel=1e-9)


def test_a_folder_is_used_once(comparison):
    folder, *_ = comparison
    before = (folder / "out" / "metrics.json").read_bytes()
    with pytest.raises(RunFolderError, match=r"not empty.*--out"):
        compare(case_of(folder), out=folder / "out", progress=False)
    assert (folder / "out" / "metrics.json").read_bytes() == before


def test_nothing_to_compare_with_is_refused_before_anything_is_written(tmp_path):
    case = case_of(tmp_path, initial={"kind": "taylor-green"}, compare={})
    with pytest.raises(CaseError, match="reference"):
        compare(case.model_copy(update={"reference": None}), out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_an_exact_reference(tmp_path, monkeypatch):
    """Taylor-Green's closed form: the uncorrected model follows it to round-off, and damping it is an error.

    rate (k / k_cut)^2 t in the exponent, k^2 = 2: the relative error is 1 - exp(-0.5 * 2 / 100 * 0.4), and as the
    damping is held while viscosity acts, it is nu k^2 h / 2 = 1e-3 of that too strong.
    """
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = case_of(
        tmp_path,
        equation={"name": "kolmogorov", "viscosity": 0.05},
        time={"end": 0.4, "step": 0.02, "stepper": "etdrk4"},
        initial={"kind": "taylor-green"},
        reference={"exact": True},
        compare={"closures": [{"name": "hyperviscosity", "order": 1, "rate": 0.5}], "frontier": False},
    )
    metrics = compare(case, progress=False).metrics.model_dump()
    none, damped = metrics["rows"]
    assert max(none["relative_l2"]) < 1e-13
    assert damped["relative_l2"][-1] == pytest.approx(1.001 * (1 - np.exp(-0.5 * 2 / 100 * 0.4)), rel=1e-5)
    assert metrics["reference"] == {"shape": [32, 32], "description": "closed form"}


def test_the_frontier_of_a_closed_form_starts_from_the_closed_form(tmp_path, monkeypatch):
    """An advected pulse on finite volumes: cells between the case's are averaged back, and err less."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = check(
        {
            "title": "pulse",
            "equation": {"name": "advection", "speed": 1.0, "discretisation": "finite-volume"},
            "grid": {"shape": [40], "length": [1.0]},
            "time": {"end": 0.5, "cfl": 0.4, "stepper": "ssp-rk3"},
            "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.08},
            "output": {"every": 0.1},
            "reference": {"exact": True},
        },
        "case",
        tmp_path,
    )
    metrics = compare(case, progress=False).metrics.model_dump()
    (none,) = metrics["rows"]
    shapes = [row["shape"][0] for row in metrics["frontier"]]
    assert shapes[0] == 40 and max(shapes) == 160
    for row in metrics["frontier"]:
        assert row["relative_l2"][0] < 1e-3
    last = metrics["frontier"][-1]
    assert last["relative_l2"][-1] < 0.1 * none["relative_l2"][-1]
    assert none["invariants"]["mass"]["drift"] == pytest.approx(0, abs=1e-12)


def test_no_skill_where_the_uncorrected_model_fails(tmp_path, monkeypatch):
    """An explicit step that viscosity makes unstable blows up; a closure cannot be scored against that."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = case_of(
        tmp_path,
        equation={"name": "kolmogorov", "viscosity": 2.0},
        time={"end": 1.0, "step": 0.02, "stepper": "rk4"},
        output={"every": 0.02},
        initial={"kind": "gaussian-random-field", "exponent": 2.0, "tau": 3.0},
        reference={"shape": [32, 32], "stepper": "etdrk4", "trajectories": 2},
        compare={"closures": [{"path": "closures.py:Resting"}], "frontier": False},
    )
    rows = compare(case, progress=False).metrics.model_dump()["rows"]
    assert "not finite" in rows[0]["failed"] and rows[1]["failed"] is None
    assert len(rows[0]["times"]) > 1
    assert [row["skill"] for row in rows] == [None, None]


def test_a_bottom_from_a_file_is_compared_on_grids_that_divide_it(tmp_path, monkeypatch):
    """The ladder has grids of which the bottom is a multiple; every row finds the file, the oracle too."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    y, x = np.meshgrid(*2 * [(np.arange(24) + 0.5) / 24], indexing="ij")
    np.savez(tmp_path / "bottom.npz", bathymetry=0.5 * np.exp(-20 * ((y - 0.5) ** 2 + (x - 0.4) ** 2)))
    surface = {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 20.0}
    case = case_of(
        tmp_path,
        equation={"name": "shallow-water", "bathymetry": {"kind": "file", "path": "bottom.npz"}},
        grid={"shape": [12, 12], "length": [1.0, 1.0]},
        time={"end": 0.1, "step": 0.01, "cfl": 0.4, "stepper": "ssp-rk2"},
        output={"every": 0.05},
        reference={"shape": [24, 24], "initial": surface, "trajectories": 2},
        compare={"closures": ["smagorinsky", "oracle"]},
    )
    metrics = compare(case, progress=False).metrics.model_dump()
    rows = {row["name"]: row for row in metrics["rows"]}
    assert list(rows) == ["none", "smagorinsky", "oracle"]
    assert not any(row["failed"] for row in rows.values())
    assert {tuple(row["shape"]) for row in metrics["frontier"]} == {(12, 12)}  # half the reference's is the case's
    assert rows["oracle"]["relative_l2"][-1] < rows["none"]["relative_l2"][-1]


def test_the_oracle_gives_entities_their_forces_back(tmp_path, monkeypatch):
    """Without interaction they fly straight on; the true term, called at every step, bends their paths."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    data = {
        "title": "entities",
        "equation": {"name": "charged-particles", "softening": 0.1, "omit": ["interaction"]},
        "grid": {"entities": 5},
        "time": {"end": 0.2, "step": 0.01, "stepper": "velocity-verlet"},
        "initial": {"kind": "charged-particles"},
        "output": {"every": 0.1},
        "reference": {"shape": [5], "step": 0.001},
        "compare": {"closures": ["oracle"]},
    }
    found = compare(check(data, "case", tmp_path), progress=False)
    none, oracle = found.metrics.model_dump()["rows"]
    assert (none["failed"], oracle["failed"]) == (None, None)
    assert 0 < oracle["relative_l2"][-1] < 0.03 * none["relative_l2"][-1]
    first, second, third = found.dataset["frames"].sel(source="none").transpose("frame", "coordinate", "entity").values
    np.testing.assert_allclose(second - first, third - second, rtol=1e-4)


def test_outputs_and_scores_end_at_the_last_step_where_the_interval_does_not_divide_the_span(tmp_path, monkeypatch):
    """The last state of the reference is that of a comparison whose interval divides the span; so is the score."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    changes = {"compare": {"closures": [{"name": "hyperviscosity", "every": 5}, "oracle"]}}
    uneven = compare(case_of(tmp_path, output={"every": 0.32}, **changes), progress=False)
    even = compare(case_of(tmp_path, output={"every": 0.2}, **changes), progress=False)
    for found, expected in zip(uneven.metrics.rows, even.metrics.rows, strict=True):
        np.testing.assert_allclose(found.times, [0.2, 0.52, 0.84, 1.16, 1.2], atol=1e-12)
        assert not found.failed
        assert found.relative_l2[-1] == expected.relative_l2[-1] and found.relative_l2[0] == expected.relative_l2[0]
    assert uneven.metrics.frontier[0].times == uneven.metrics.rows[0].times
    np.testing.assert_allclose(uneven.dataset["time"], [0.2, 0.52, 0.84, 1.16, 1.2], atol=1e-12)


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_a_reference_that_is_not_finite_is_an_error_and_no_score(tmp_path, monkeypatch, entry):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = case_of(tmp_path, compare={"closures": []})
    prepared = prepare(case, tmp_path, with_reference=True)
    states = np.moveaxis(np.array(prepared.trajectories.state), 1, 0)
    assert Truth.of(states, prepared).states is states
    states[2, 1, 0, 3, 4] = entry
    with pytest.raises(ValueError, match=r"not finite: field vorticity of trajectory 1 at t = 0.6. Remedy"):
        Truth.of(states, prepared)
    monkeypatch.setattr(Trajectories, "state", property(lambda self: np.moveaxis(states, 0, 1)))
    with pytest.raises(ValueError, match="reference is not finite"):
        compare(case, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_grids_on_which_the_initial_state_cannot_be_set_up_are_left_out_of_the_frontier(tmp_path, monkeypatch):
    """An initial state from a file has one resolution; with a closed form as reference it starts all grids."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("subgrid.commands.comparison.ladder._unperturbed", _one_resolution)
    metrics = compare(case_of(tmp_path, compare={"closures": []}), progress=False).metrics
    assert metrics.rows[0].failed is None
    assert metrics.frontier and {tuple(row.shape) for row in metrics.frontier} == {(32, 32)}


def _one_resolution(*_):
    raise ValueError("32 points only. Remedy: another")
