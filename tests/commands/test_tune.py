"""`subgrid tune` finds the best options by rollouts on validation trajectories, and never looks at the test ones."""

import json
import math
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from subgrid.commands import tune as tuning
from subgrid.commands.cli import execute
from subgrid.commands.option_search import ahead, search
from subgrid.commands.rollouts import Rollouts
from subgrid.commands.tune import tune
from subgrid.ingest.cluster import Cluster, WorkersLost
from subgrid.solver.case.reading import check, read, read_case
from subgrid.solver.closure.discovery import CLOSURES

CASE = {
    "title": "tiny",
    "equation": {"name": "burgers", "viscosity": 0.02, "omit": []},
    "grid": {"shape": [32], "length": [1.0]},
    "time": {"end": 0.2, "step": 0.01, "stepper": "etdrk4"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.1},
    "reference": {
        "shape": [96],
        "step": 0.005,
        "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 5.0},
    },
    "training": {"trajectories": 3, "start": 0.0, "end": 0.2, "every": 0.05},
}
DAMPED = '''
"""A closure du/dt = -rate u."""

from typing import ClassVar

from subgrid import Closure, Tendency


class Damped(Closure):
    """du/dt = -rate u."""

    tunable: ClassVar = {"rate": (1e-3, 1e3)}
    rate: float = 1.0

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(-self.rate * view.state), memory
'''


@pytest.fixture
def case(tmp_path):
    (tmp_path / "damped.py").write_text(DAMPED)
    return read_case(CASE).located(tmp_path)


def test_the_search_finds_the_minimum_of_one_and_of_two_options():
    for ranges in ({"a": (0.01, 100.0)}, {"a": (0.01, 100.0), "b": (0.1, 10.0)}):
        tried = []

        def error(values, tried=tried):
            tried.append((sum(np.log(v / 3) ** 2 for v in values.values()), values))
            return tried[-1][0]

        search(ranges, error, 40)
        best = min(tried, key=lambda entry: entry[0])[1]
        assert len(tried) <= 42
        assert all(abs(v / 3 - 1) < 0.1 for v in best.values()), best


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_the_candidates_ahead_are_those_that_the_search_asks_for(names):
    """Every candidate that the search asks for is the first of those ahead of it, and many are among the others."""
    ranges = dict.fromkeys(names, (0.01, 100.0))
    known, asked, foreseen, hits = {}, [], set(), 0

    def options(values):
        return tuple((k, float(f"{v:.4g}")) for k, v in values.items())

    def error(values):
        nonlocal foreseen, hits
        if (found := options(values)) not in known:
            hits += found in foreseen
            first, *others = ahead(ranges, options, known, 30, 4)
            assert first == found and found not in others and len(others) <= 3
            foreseen = set(others)
            known[found] = sum((i + 1) * np.log(v / 3) ** 2 for i, v in enumerate(values.values()))
            asked.append(found)
        return known[found]

    search(ranges, error, 30)
    assert len(asked) >= 15 and hits >= (8 if len(names) == 1 else len(asked) // 2)


class Three(Cluster):
    """Three workers, which carry out their tasks in this process, the last first, up to `lost_after` tasks."""

    slots = 3

    def __init__(self, lost_after=math.inf):
        self.left, self.carried = lost_after, 0

    def require_shared(self, folder):
        folder.mkdir(parents=True, exist_ok=True)

    def carry_out(self, function, tasks, waiting=lambda: None):
        for i, task in reversed(list(enumerate(tasks))):
            if self.carried >= self.left and function.__name__ == "_candidate":
                raise WorkersLost("the scheduler is gone")
            self.carried += function.__name__ == "_candidate"
            yield i, function(*task)


def test_candidates_of_workers_give_the_tuning_of_one_process_also_after_a_lost_scheduler(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    options = {"ranges": {"rate": (1.0, 1e5), "weight": (0.1, 2.0)}, "evaluations": 14, "progress": False}
    one = tune(case, "damped.py:Damped", **options)
    assert any(math.isinf(error) for _, error in one.tried)
    for workers in (lost := Three(7)), (last := Three()):
        monkeypatch.setattr(tuning, "cluster", lambda number, scheduler, pool=workers: nullcontext(pool))
        with pytest.raises(WorkersLost) if workers is lost else nullcontext():
            found = tune(case, "damped.py:Damped", workers=3, **options)
    assert found == one
    assert 7 < lost.carried + last.carried < 3 * len(one.tried)
    assert not list((tmp_path / "cache").glob("tune-*"))


def test_a_tuning_goes_on_without_workers_and_beside_one_that_deletes_its_files(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    options = {"ranges": {"rate": (1.0, 1e5)}, "evaluations": 6, "progress": False}
    one = tune(case, "damped.py:Damped", **options)
    scored, score = [], Rollouts.__call__
    monkeypatch.setattr(Rollouts, "__call__", lambda *given: scored.append(given) or score(*given))

    class Deleted(Three):
        def carry_out(self, function, tasks, waiting=lambda: None):
            yield from super().carry_out(function, tasks, waiting)
            for folder in (tmp_path / "cache").glob("tune-*"):
                shutil.rmtree(folder)

    pools = {1: Three(3), None: None, 2: Deleted()}
    monkeypatch.setattr(tuning, "cluster", lambda number, scheduler: nullcontext(pools[number]))
    with pytest.raises(WorkersLost):
        tune(case, "damped.py:Damped", workers=1, **options)
    assert tune(case, "damped.py:Damped", **options) == one
    assert len(scored) == 1 + len(one.tried)  # the uncorrected run too, none twice
    assert tune(case, "damped.py:Damped", workers=2, **options) == one
    assert not list((tmp_path / "cache").glob("tune-*"))


def test_an_interrupted_tuning_goes_on(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    options = {"ranges": {"rate": (1.0, 1e5)}, "evaluations": 6, "progress": False}
    one = tune(case, "damped.py:Damped", **options)
    scored, score = [], Rollouts.__call__

    def interrupted(*given):
        scored.append(given)
        if len(scored) == 4:
            raise KeyboardInterrupt
        return score(*given)

    monkeypatch.setattr(Rollouts, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(case, "damped.py:Damped", **options)
    assert tune(case, "damped.py:Damped", **options) == one
    assert len(scored) == 1 + len(one.tried) + 1  # the uncorrected run, and one that was interrupted
    assert not list((tmp_path / "cache").glob("tune-*"))


def test_two_processes_give_the_tuning_of_one(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    options = {"evaluations": 5, "progress": False}
    assert tune(case, "damped.py:Damped", workers=2, **options) == tune(case, "damped.py:Damped", **options)


def test_the_best_rate_of_a_known_damping_is_found(case, monkeypatch):
    """The validation trajectory is replaced by one that the model with a damping of 2 reproduces."""
    first = Rollouts.__init__

    def damped_truth(self, *arguments):
        first(self, *arguments)
        assert self._truth.shape[1] == 1  # the validation trajectory alone
        (table,) = [tuning.ClosureTable(path="damped.py:Damped", rate=2.0)]
        states = []
        monkeypatch.setattr(self, "_error", lambda u: states.append(u) or 0.0)
        self((table,), 0.0)
        monkeypatch.undo()
        self._truth = states[0]

    monkeypatch.setattr(Rollouts, "__init__", damped_truth)
    found = tune(case, "damped.py:Damped", evaluations=24, progress=False)
    assert abs(found.table["rate"] / 2 - 1) < 0.02
    assert found.score < 0.05 * found.uncorrected
    assert found.at_end == []


def test_runs_that_fail_lose_and_an_end_of_the_range_is_reported(case):
    found = tune(case, "damped.py:Damped", ranges={"rate": (1e-6, 1e5)}, evaluations=9, progress=False)
    assert max(error for _, error in found.tried) == np.inf
    assert np.isfinite(found.score)
    found = tune(case, "damped.py:Damped", ranges={"rate": (50.0, 60.0)}, evaluations=3, progress=False)
    assert found.at_end == ["rate"]


def test_a_perturbation_is_tuned_by_the_crps_of_the_ensemble_that_it_makes():
    """The truth is the member without perturbation: the least perturbation is the best one by CRPS."""
    case = read_case(CASE | {"ensemble": {"members": 3, "seed": 5}, "reference": CASE["reference"] | {"shape": [32]}})
    ranges = {"perturbation": (0.01, 0.3)}
    found = tune(case, "none", "crps", ranges, evaluations=5, progress=False)
    assert found.table == {"perturbation": 0.01, "closures": [{"name": "none"}]}
    errors = [error for _, error in sorted(found.tried, key=lambda entry: entry[0]["perturbation"])]
    assert len(errors) == 5 and errors == sorted(errors)


def test_the_last_closure_of_a_row_is_tuned_beside_the_others(case, monkeypatch):
    """du/dt = -(2 + weight) u, with a truth of weight 0.5."""
    first = Rollouts.__init__
    path = f"{case.folder}/damped.py:Damped"
    tables = [{"path": path, "rate": 2.0}, {"path": path, "rate": 1.0, "every": 2}]

    def damped_truth(self, *arguments):
        first(self, *arguments)
        states = []
        monkeypatch.setattr(self, "_error", lambda u: states.append(u) or 0.0)
        self(tuple(tuning.ClosureTable(**table) for table in (tables[0], tables[1] | {"weight": 0.5})), 0.0)
        monkeypatch.undo()
        self._truth = states[0]

    monkeypatch.setattr(Rollouts, "__init__", damped_truth)
    compare = {"closures": [{"label": "sum", "closures": tables}]}
    found = tune(read_case(CASE | {"compare": compare}), "sum", ranges={"weight": (0.01, 10)}, progress=False)
    kept, tuned = found.table["closures"]
    assert kept == tables[0]
    assert tuned.pop("weight") == pytest.approx(0.5, rel=0.02)
    assert tuned == tables[1]


def test_every_classical_row_of_the_shipped_cases_can_be_tuned():
    """There are ranges for what is to be chosen.

    dynamic-smagorinsky finds its coefficient itself, and the numbers of corrected-flow are those of its closures.
    """
    found = set()
    for path in (Path(tuning.__file__).parents[1] / "cases").glob("*.toml"):
        case = read(path)
        if case.training is not None:
            rows = [row for row in case.compare.closures if len(row.closures) == 1]
            found |= {row.closures[0].name for row in rows if row.closures[0].find(case.folder).kind == "classical"}
    without = {name for name in found if not CLOSURES.find(name, Path()).tunable}
    assert without <= {"dynamic-smagorinsky", "corrected-flow"}
    assert {"smagorinsky", "hyperviscosity", "spectral-viscosity", "biharmonic", "hyperdiffusion"} <= found


def test_validation_trajectories_are_stirred_by_their_own_noise(case):
    """On the grid of the reference, with its steps, the uncorrected model repeats them."""
    noise = {"kind": "q-wiener", "amplitude": 0.5, "correlation": 0.1}
    same = {"shape": [32], "step": 0.01, "initial": CASE["reference"]["initial"], "restrict": "subsample"}
    stirred = read_case(CASE | {"equation": CASE["equation"] | {"noise": noise}, "reference": same})
    found = tune(stirred, "hyperviscosity", evaluations=2, progress=False)
    assert found.uncorrected < 1e-12 < found.score


@pytest.mark.parametrize(
    ("closure", "ranges", "message"),
    [
        ("oracle", (), "no options to tune"),
        ("damped.py:Damped", {"speed": (1.0, 2.0)}, "no such option"),
        ("damped.py:Damped", {"rate": (2.0, 1.0)}, "the smaller one first"),
        ("hyperviscosity", {"order": (1, 40)}, "order=1:40: Input should be less than or equal to 16"),
        ("hyperviscosity", {"linear": (0.5, 1)}, "linear: it is true or false"),
        ("smagorinsky", {"weight": (1e5, 1e6)}, "every run failed.*The last failure: .*takes the state outside"),
        ("leith", (), "every run failed.*The last failure: .*made for kolmogorov"),
    ],
)
def test_what_cannot_be_tuned_is_refused(case, closure, ranges, message):
    with pytest.raises(ValueError, match=message):
        tune(case, closure, ranges=ranges, progress=False)


def test_whole_numbers_are_tuned_as_such(case):
    found = tune(case, "hyperviscosity", ranges={"order": (1, 8), "rate": (0.1, 10)}, evaluations=8, progress=False)
    orders = {options["order"] for options, _ in found.tried}
    assert len(orders) > 1 and all(isinstance(order, int) for order in orders)


def test_the_command_prints_the_table_of_the_closure(tmp_path, capsys):
    import tomli_w

    (tmp_path / "case.toml").write_text(tomli_w.dumps(CASE))
    arguments = ["tune", str(tmp_path / "case.toml"), "--closure", "hyperviscosity", "--evaluations", "3", "--json"]
    assert execute([*arguments, "--out", str(tmp_path / "found.toml")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["table"]["name"] == "hyperviscosity"
    assert f"rate = {found['table']['rate']}" in (tmp_path / "found.toml").read_text()
    assert execute([*arguments, "--option", "rate=1"]) == 2
    assert "NAME=LOW:HIGH" in capsys.readouterr().err
    assert execute(["0" if word == "3" else word for word in arguments]) == 2
    assert "--evaluations 0: expected 1 or more" in capsys.readouterr().err


TRACERS = {
    "title": "tracers",
    "equation": {"name": "tracers", "carrier": {"name": "kolmogorov", "viscosity": 1e-2}, "spin_up": 0.4},
    "grid": {"entities": 4, "shape": [16, 16], "length": [6.283185307179586, 6.283185307179586]},
    "time": {"end": 0.4, "step": 0.1, "stepper": "rk4"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.1},
    "reference": {
        "shape": [16, 16],
        "step": 0.1,
        "initial": {
            "kind": "tracer-clusters",
            "separation": 0.1,
            "flow": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 5.0},
        },
        "restrict": "subsample",
    },
    "training": {"trajectories": 3, "validation": 2, "start": 0.0, "end": 0.4, "every": 0.1},
}


def test_tracers_are_tuned_in_the_flow_of_the_validation_trajectories(tmp_path, monkeypatch):
    """On the grid of the reference a rollout is the reference itself, so each closure makes it worse."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pull.py").write_text(PULL, encoding="utf-8")
    found = tune(check(TRACERS, "tracers.toml", tmp_path), "pull.py:Pull", evaluations=3, progress=False)
    assert found.uncorrected < 1e-12 < found.score
    assert found.table["rate"] == pytest.approx(0.01, rel=0.05)
    late = TRACERS | {"training": TRACERS["training"] | {"start": 0.2}}
    with pytest.raises(ValueError, match=r"the flow of the tracers is known at t = 0 alone, found 0.2. Remedy"):
        tune(check(late, "tracers.toml", tmp_path), "pull.py:Pull", evaluations=3, progress=False)


PULL = DAMPED.replace("1e-3, 1e3", "1e-2, 1e1").replace("Damped", "Pull")
