"""Sweeps over parameters: where they run, that a run is the case's own, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from subgrid.commands import cli
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.case.sweep_design import SweepTable
from subgrid.solver.simulation import BlowUp, Simulation

CASE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.05, "discretisation": "finite-volume"},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"start": 0.5, "end": 0.7, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.5, "width": 0.1},
    "output": {"every": 0.05},
    "sweep": {"parameters": {"equation.viscosity": [0.01, 0.1], "initial.width": [0.1, 0.2]}, "counts": [2, 3]},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))


def case(**sweep):
    return check(CASE | {"sweep": CASE["sweep"] | sweep}, "pulse.toml", Path())


def test_designs_cover_the_box_as_they_say():
    grid = case().sweep.points()
    assert grid.tolist() == [[a, b] for a in (0.01, 0.1) for b in (0.1, 0.15, 0.2)]
    assert case(design="corners", counts=[]).sweep.points().tolist() == [
        [a, b] for a in (0.01, 0.1) for b in (0.1, 0.2)
    ]
    cube = case(design="latin-hypercube", counts=[], runs=7, seed=3).sweep.points()
    slices = (cube - [0.01, 0.1]) / [0.09, 0.1] * 7
    assert sorted(slices[:, 0].astype(int)) == sorted(slices[:, 1].astype(int)) == list(range(7))


def values(low, high, n):
    table = {"parameters": {"equation.viscosity": [low, high]}, "counts": [n]}
    return SweepTable.model_validate(table).points()[:, 0].tolist()


def test_points_are_exact_at_the_ends_and_rounded_once_between_at_any_magnitude():
    assert values(1e-13, 4e-13, 4) == [1e-13, 2e-13, 3e-13, 4e-13]
    assert values(-3e-300, 3e-300, 3) == [-3e-300, 0.0, 3e-300]
    for low, high in ((0.1 + 0.2, 0.7 / 3), (5e-324, 1e-310), (1e20, 1e20 + 1e6), (1 / 3, 1e15 / 7)):
        low, high = sorted((low, high))
        points = values(low, high, 7)
        assert (points[0], points[-1]) == (low, high)
        assert len(set(points)) == 7
        np.testing.assert_allclose(points, np.linspace(low, high, 7), rtol=0, atol=1e-15 * high)
    for count in (3, 4, 5, 7):  # equal values of two grids are bitwise equal
        coarse, fine = values(0.9e-7, 1.1e-7, count), values(0.9e-7, 1.1e-7, 3 * (count - 1) + 1)
        assert fine[::3] == coarse
    with pytest.raises(ValueError, match=r"sweep.counts: .* contains no 10 different values of equation.viscosity"):
        values(1.0, 1.0 + 4e-16, 10)
    with pytest.raises(ValueError, match=r"sweep.parameters.equation.viscosity: .* is too wide"):
        values(-1.7e308, 1.7e308, 3)


def test_small_parameters_reach_their_runs(tmp_path):
    """Viscosities of 1e-13 in a domain of a micrometre, as one writes them in SI units."""
    small = CASE | {
        "equation": {"name": "burgers", "viscosity": 1.5e-13},
        "grid": {"shape": [16], "length": [1e-6]},
        "time": {"end": 1e-3, "step": 1e-4, "stepper": "rk4"},
        "initial": {"kind": "sine", "amplitude": 1e-7},
        "output": {"every": 1e-3},
        "sweep": {"parameters": {"equation.viscosity": [1e-13, 4e-13]}, "counts": [4]},
    }
    sweep = runs(check(small, "small", Path()), check(small, "small", Path()).sweep.points())
    assert sweep.parameters[:, 0].tolist() == [1e-13, 2e-13, 3e-13, 4e-13]
    assert len({sweep.state(i)[-1].tobytes() for i in range(4)}) == 4


def test_every_initial_state_of_a_sweep_is_checked_before_anything_is_written(tmp_path):
    """A sine of infinite amplitude in the middle of the box, which its corners do not show."""
    (tmp_path / "start.py").write_text(
        "import numpy as np\n"
        "from subgrid import InitialState\n"
        "class Start(InitialState):\n"
        "    width: float = 0.1\n"
        "    def state(self, equation, grid, members, seed, folder=None):\n"
        "        return np.full((len(members), 1, *grid.shape), np.inf if 0.1 < self.width < 0.2 else self.width)\n"
    )
    case = check(CASE | {"initial": {"path": "start.py:Start", "width": 0.1}}, "case", tmp_path)
    with pytest.raises(ValueError, match=r"initial: member 0: velocity is inf at \(x\) = .*'width': 0.15"):
        runs(case, case.sweep.points())
    assert not (tmp_path / "cache").exists()


def test_a_run_is_the_cases_own_with_the_parameters_put_in():
    """Each run equals, to single precision, the simulation that one would set up by hand."""
    sweep = runs(case(), case().sweep.points())
    assert np.allclose(sweep.times, [0.5, 0.55, 0.6, 0.65, 0.7])
    viscosity, width = sweep.parameters[4]
    alone = check(
        CASE | {"equation": CASE["equation"] | {"viscosity": viscosity}, "initial": CASE["initial"] | {"width": width}},
        "alone",
        Path(),
    )
    equation, grid = alone.build_equation(), alone.grid.grid()
    state = alone.initial.state(equation, grid, (0,), 0)
    simulation = Simulation(equation, grid, "ssp-rk2", 0.01, state, start=0.5)
    simulation.run(20)
    assert np.array_equal(sweep.state(4)[0], state[0].astype(np.float32))
    assert np.array_equal(sweep.state(4)[-1], simulation.state[0].astype(np.float32))
    assert sweep.about["equation"]["name"] == "burgers" and "viscosity" not in sweep.about["equation"]
    assert sweep.about["initial"] == {"kind": "gaussian", "amplitude": 1.0, "centre": 0.5}
    assert case().sweep.nearest(np.array([0.09, 0.16])) == 4
    assert case().parameters().tolist() == [0.05, 0.1]


def test_runs_are_kept_one_by_one():
    """A finer grid makes the runs that a coarser one lacks, and an interrupted sweep those that are missing."""
    coarse = runs(case(), case().sweep.points())
    before = {f: f.stat().st_mtime_ns for f in coarse.files}
    coarse.files[2].unlink()
    made = []
    finer = runs(case(counts=[2, 5]), case(counts=[2, 5]).sweep.points(), lambda *p: made.append(p[:2]))
    assert set(coarse.files) < set(finer.files) and len(finer) == 10
    assert made == [(n, 10) for n in (6, 7, 8, 9, 10)]
    kept = [f for i, f in enumerate(coarse.files) if i != 2]
    assert all(f.stat().st_mtime_ns == before[f] for f in kept)


def test_files_of_existing_runs_are_found():
    """A name recorded before the code was reorganised: runs in a user's cache are not computed again."""
    assert runs(case(), case().sweep.points()[:1]).files[0].name == "6e4d73d154ae46e45ff9.npz"


def of_reference(**tables):
    sweep = CASE["sweep"] | {"reference": True}
    table = {"shape": [48], "step": 0.0025, "stepper": "ssp-rk3"}
    return check(CASE | {"sweep": sweep, "reference": table} | tables, "fine.toml", Path())


def test_runs_of_the_reference_are_restricted_to_the_grid_of_the_case():
    """A run equals, to single precision, the cell averages of a simulation on the grid of the reference."""
    fine = of_reference()
    sweep = runs(fine, fine.sweep.points()[:5])
    viscosity, width = sweep.parameters[4]
    varied = fine.varied({"equation.viscosity": viscosity, "initial.width": width})
    equation, grid = varied.build_equation(), varied.grid.grid().refined((48,))
    start = varied.initial.state(equation, grid, (0,), 0)
    simulation = Simulation(equation, grid, "ssp-rk3", 0.0025, start, start=0.5)
    simulation.run(80)
    means = [state[0].reshape(1, 16, 3).mean(-1).astype(np.float32) for state in (start, simulation.state)]
    assert np.array_equal(sweep.state(4)[0], means[0]) and np.array_equal(sweep.state(4)[-1], means[1])
    assert np.array_equal(sweep.starts(sweep.parameters[4:5])[0], means[0])
    assert np.allclose(sweep.times, [0.5, 0.55, 0.6, 0.65, 0.7])
    assert not set(sweep.files) & set(runs(case(), case().sweep.points()[:5]).files)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"reference": {"exact": True}}, "sweep.reference: needs a .reference. with a shape"),
        ({"reference": {"shape": [48], "step": 0.03}}, r"output.every .in steps of the reference."),
        ({"reference": {"shape": [48], "start": 0.0}}, "sweep.reference: its runs start as the case does"),
        ({"sweep": CASE["sweep"] | {"reference": True, "exact": True}}, "sweep.exact: contradicts sweep.reference"),
    ],
)
def test_a_sweep_of_a_reference_that_has_no_runs_is_refused(tables, message):
    with pytest.raises(CaseError, match=message):
        of_reference(**tables)


def test_training_may_keep_more_than_the_case_asks_for():
    """Every state, in runs of their own; the default is the interval of the outputs, and the same file."""
    often, seldom = (runs(c, c.sweep.points()[:1]) for c in (case(every=0.01), case()))
    assert np.allclose(often.times, np.linspace(0.5, 0.7, 21)) and often.files != seldom.files
    assert np.array_equal(often.state(0)[::5], seldom.state(0))
    assert runs(case(every=0.05), case().sweep.points()[:1]).files == seldom.files


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_run_that_fails_says_which_it_was():
    wild = check(
        CASE | {"time": CASE["time"] | {"step": 0.05}, "sweep": CASE["sweep"] | {"counts": [2, 2]}}, "", Path()
    )
    wild = wild.model_copy(
        update={"equation": wild.equation, "initial": wild.initial.model_copy(update={"amplitude": 1e5})}
    )
    with pytest.raises(BlowUp, match="'width'"):
        runs(wild, wild.sweep.points())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"parameters": {"initial.widht": [1, 2]}, "counts": [2]}, "'widht' is not known; did you mean 'width'?"),
        ({"parameters": {"grid.shape": [1, 2]}, "counts": [2]}, "expected initial.KEY or equation.KEY"),
        ({"parameters": {"initial.width": [2, 1]}, "counts": [2]}, "the first number must be the smaller one"),
        ({"parameters": {"initial.width": [-1, 1]}, "counts": [2]}, "sweep.parameters: width: "),
        ({"parameters": {"initial.kind": [1, 2]}, "counts": [2]}, "sweep.parameters.initial.kind: 'kind'"),
        ({"parameters": {}, "counts": [2]}, "sweep.parameters: "),
        ({"parameters": {"initial.width": "wide"}, "counts": [2]}, "sweep.parameters.initial.width: "),
        ({"counts": []}, "sweep.counts: missing"),
        ({"counts": [2]}, "sweep.counts: needs one number for each of 2 parameters, found 1"),
        ({"counts": [1, 2]}, "sweep.counts.0: "),
        ({"counts": [10**9, 10**9]}, "sweep: more than 10000 runs"),
        ({"design": "latin-hypercube"}, "sweep.runs: missing"),
        ({"design": "sobol"}, "sweep.design: "),
        ({"every": 0.015}, "sweep.every: 0.015 is not a whole number of steps of 0.01"),
        ({"every": 0.02}, "output.every (in steps of sweep.every): 0.05 is not a whole number"),
        ({"test_cuonts": [2, 2]}, "did you mean 'test_counts'?"),
    ],
)
def test_a_bad_sweep_is_named(change, expected, tmp_path, capsys):
    """Exit code 2, and the mistake by its key."""
    file = tmp_path / "case.toml"
    file.write_text(tomli_w.dumps(CASE | {"sweep": CASE["sweep"] | change}))
    assert cli.execute(["data", str(file)]) == cli.MISTAKE
    assert expected in capsys.readouterr().err


def test_all_mistakes_of_a_sweep_at_once():
    with pytest.raises(CaseError) as caught:
        case(parameters={"initial.widht": [1, 2], "equation.nu": [3, 4]}, seed=-1)
    assert len(caught.value.mistakes) == 1  # the seed
    with pytest.raises(CaseError) as caught:
        case(parameters={"initial.widht": [1, 2], "equation.nu": [3, 4]})
    assert len(caught.value.mistakes) == 2
