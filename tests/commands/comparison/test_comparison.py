"""A comparison from Python: rows given as names, tables, instances and sums; table, figures, report, files."""

from __future__ import annotations

import json

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from subgrid.closures.classical.hyperviscosity import Hyperviscosity
from subgrid.closures.oracle import Oracle
from subgrid.commands.comparison import row_runs
from subgrid.commands.comparison.compare import compare, resume_comparison
from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.report import page
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.closure import Closure, Coupled, Tendency
from subgrid.solver.simulation.record import RunFolderError

PLUGINS = '''
from typing import ClassVar

import numpy as np

from subgrid.closures.learning.learned_closure import LearnedClosure
from subgrid.ingest.trajectories import Trajectories
from subgrid.solver.closure import Closure, Tendency


class Damping(Closure):
    """du/dt += -rate u."""

    rate: float = 0.1

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(-self.rate * view.state), memory


class Learned(Damping, LearnedClosure):
    """A learned closure without weights."""


class Nothing(Damping):
    """Is of no kind, and is never called."""

    kind: ClassVar = "none"

    def __call__(self, view, memory):
        raise AssertionError


class Truth(Closure):
    """Reads the term of the reference by itself."""

    needs_reference: ClassVar[bool] = True

    def start(self, problem):
        trajectories = Trajectories(problem.reference)
        self._times, self._term = trajectories.times("term"), trajectories.term.astype(np.float64)
        return {}

    def __call__(self, view, memory):
        return Tendency(self._term[:, np.abs(self._times - view.time).argmin()]), memory

    _times: object = None
    _term: object = None
'''


class Twice(Closure):
    """du/dt += -0.2 u, an instance without a file."""

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return Tendency(-0.2 * view.state), memory


def case_of(folder, **changes):
    data = {
        "title": "small & quick",
        "equation": {"name": "kolmogorov", "viscosity": 5e-3, "drag": 0.1},
        "grid": {"shape": [16, 16], "length": [2 * np.pi, 2 * np.pi]},
        "time": {"start": 0.2, "end": 0.6, "step": 0.02, "stepper": "etdrk4"},
        "initial": {"kind": "reference"},
        "output": {"every": 0.2},
        "reference": {
            "shape": [32, 32],
            "start": 0.0,
            "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 3.0, "scale": 4.0},
        },
        "compare": {"closures": ["hyperviscosity"], "frontier": False},
    }
    (folder / "plugins.py").write_text(PLUGINS)
    return check(data | changes, "case", folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path_factory.getbasetemp() / "comparison-cache"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The comparison of a failing and two finished closures, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        rows = ["hyperviscosity", {"name": "regression", "label": "<failing>"}, "oracle"]
        yield compare(case_of(folder), closures=rows, out=folder / "out", progress=False), folder / "out"


def rows_of(comparison):
    return {row.name: row for row in comparison.metrics.rows}


def test_instances_give_the_numbers_that_tables_give(tmp_path, monkeypatch):
    """Names, tables, instances, sums with weights and coupled closures, in one list; nothing is written."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    a, b = Hyperviscosity(rate=0.1), Hyperviscosity(rate=0.2, order=2)
    found = compare(
        case_of(tmp_path),
        closures=[
            {"name": "hyperviscosity", "rate": 0.1, "label": "table"},
            a,
            {
                "label": "tables",
                "closures": [
                    {"name": "hyperviscosity", "rate": 0.1, "weight": 0.5},
                    {"name": "hyperviscosity", "rate": 0.2, "order": 2},
                ],
            },
            0.5 * a + b,
            [Coupled("half", a, weight=0.5), {"name": "hyperviscosity", "rate": 0.2, "order": 2}],
            {"label": "held", "closures": Coupled("damped", a, every=5)},
            Twice() + 2 * Twice(),
            {"path": "plugins.py:Damping", "label": "from a file"},
        ],
        progress=False,
    )
    rows = rows_of(found)
    assert list(rows) == [
        "none",
        "table",
        "Hyperviscosity",
        "tables",
        "0.5 Hyperviscosity + Hyperviscosity",
        "0.5 half + hyperviscosity",
        "held",
        "Twice + 2 Twice",
        "from a file",
    ]
    assert {row.kind for row in found.metrics.rows[1:]} == {"classical"}
    assert rows["Hyperviscosity"].relative_l2 == rows["table"].relative_l2 != rows["none"].relative_l2
    for name in ("0.5 Hyperviscosity + Hyperviscosity", "0.5 half + hyperviscosity"):
        assert rows[name].relative_l2 == rows["tables"].relative_l2
    assert (rows["held"].closure_calls, rows["Hyperviscosity"].closure_calls) == (4, 20)
    assert not any(row.failed for row in rows.values())
    assert list(work.iterdir()) == []


def test_an_instance_of_the_oracle_is_given_the_reference(tmp_path):
    found = compare(case_of(tmp_path), closures=["oracle", Oracle()], progress=False)
    rows = rows_of(found)
    assert rows["Oracle"].kind == "oracle" and rows["Oracle"].relative_l2 == rows["oracle"].relative_l2
    assert rows["oracle"].relative_l2[-1] < 0.5 * rows["none"].relative_l2[-1]


def test_kinds_follow_from_what_the_classes_declare(tmp_path):
    """A plug-in of a user is classical unless it subclasses LearnedClosure; no name means anything."""
    plugin = {name: {"path": f"plugins.py:{name}"} for name in ("Damping", "Learned", "Nothing", "Truth")}
    found = compare(
        case_of(tmp_path),
        closures=[
            plugin["Nothing"] | {"label": "bare"},
            plugin["Damping"],
            plugin["Learned"],
            [plugin["Learned"], plugin["Nothing"]],
            [plugin["Learned"], plugin["Damping"]],
            ["oracle", plugin["Learned"]],
            plugin["Truth"] | {"every": 2},
        ],
        progress=False,
    )
    assert [(row.name, row.kind) for row in found.metrics.rows] == [
        ("bare", "none"),
        ("Damping", "classical"),
        ("Learned", "learned"),
        ("Learned + Nothing", "learned"),
        ("Learned + Damping", "sum"),
        ("oracle + Learned", "oracle"),
        ("Truth", "classical"),
    ]
    assert not any(row.failed for row in found.metrics.rows)
    rows = rows_of(found)
    assert rows["Truth"].relative_l2[-1] < 0.5 * rows["bare"].relative_l2[-1]
    assert rows["Learned + Nothing"].closure_calls == 20


@pytest.mark.parametrize("again", [Hyperviscosity(rate=0.2), {"path": "plugins.py:Hyperviscosity"}])
def test_two_rows_of_one_name_are_refused(tmp_path, again):
    case = case_of(tmp_path)
    (tmp_path / "plugins.py").write_text(PLUGINS.replace("Damping", "Hyperviscosity"))
    with pytest.raises(CaseError, match=r"two rows are named 'Hyperviscosity'. Remedy: give them labels"):
        compare(case, closures=[Hyperviscosity(), again], out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_every_wrong_row_is_reported(tmp_path):
    wrong = ["hyperviscosty", {"name": "hyperviscosity", "rat": 1.0}, 3, [], {"label": 1, "closures": ["oracle"]}]
    with pytest.raises(CaseError) as caught:
        compare(case_of(tmp_path), closures=wrong, progress=False)
    assert [m.split(":")[0] for m in caught.value.mistakes] == [
        "closures.0",
        "closures.1.rat",
        "closures.2",
        "closures.3",
        "closures.4.label",
    ]
    with pytest.raises(CaseError, match=r"expected a list, found 'oracle'"):
        compare(case_of(tmp_path), closures="oracle", progress=False)


def test_the_table_has_a_line_for_each_run(comparison):
    table = comparison[0].table
    assert list(table.index) == ["none", "hyperviscosity", "<failing>", "oracle"]
    assert table["kind"].tolist() == ["none", "classical", "learned", "oracle"]
    rows = rows_of(comparison[0])
    assert table["relative L2 error at t = 0.6"]["oracle"] == rows["oracle"].relative_l2[-1]
    assert table["closure calls"].tolist() == [0, 20, 0, 20]
    assert np.isnan(table["mean relative L2 error"]["<failing>"]) and "weights" in table["failed"]["<failing>"]
    assert table["failed"]["none"] == "" and {"skill", "spectrum distance", "correlation time"} <= set(table)


def test_figures_by_name(comparison):
    found = comparison[0]
    assert {"error", "snapshots", "spectra", "correlation", "invariants"} <= set(found.figures)
    backend = matplotlib.get_backend()
    for name in found.figures:
        assert isinstance(found.figure(name), Figure)
    assert matplotlib.get_backend() == backend
    with pytest.raises(ValueError, match=r"no figure 'profiles'. Expected one of: frontier, error, snapshots, "):
        found.figure("profiles")


def test_the_report_is_one_file(comparison, tmp_path):
    path = comparison[0].report(tmp_path / "page.html")
    assert path == tmp_path / "page.html" and list(tmp_path.iterdir()) == [path]
    text = path.read_text(encoding="utf-8")
    assert text.count('src="data:image/') == text.count("<img ") == len(comparison[0].figures) + 1
    assert "run from Python" in text


def test_what_is_saved_is_loaded_again(comparison, tmp_path):
    found, folder = comparison
    assert {p.name for p in folder.iterdir()} >= {"metrics.json", "comparison.zarr"}
    for again in (Comparison.load(folder), Comparison.load(found.save(tmp_path / "copy"))):
        assert again.metrics == found.metrics
        assert again.dataset.equals(found.dataset) and again.dataset.attrs == found.dataset.attrs
    with pytest.raises(RunFolderError, match="not empty"):
        found.save(tmp_path / "copy")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\x28\xb5\x2f\xfd" + bytes(20)])
def test_a_damaged_chunk_of_the_scores_is_named(content, comparison, tmp_path):
    """The codecs of zarr raise RuntimeError for such bytes."""
    found, _ = comparison
    folder = found.save(tmp_path / "copy")
    for chunk in [p for p in (folder / "comparison.zarr" / "relative_l2" / "c").rglob("*") if p.is_file()]:
        chunk.write_bytes(content)
    with pytest.raises(ValueError, match=r"comparison\.zarr cannot be read"):
        Comparison.load(folder)


@pytest.mark.parametrize("name", ["pictures/error.png", "pictures/animation.gif", "report.html"])
def test_a_folder_in_the_place_of_a_file_of_the_report_is_refused_first(name, comparison, tmp_path):
    found, _ = comparison
    folder = found.save(tmp_path / "copy")
    (folder / name).mkdir(parents=True)
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=f"{name} is a folder, expected a file. Remedy"):
        page.write(found.metrics, found.dataset, folder)
    assert sorted(folder.rglob("*")) == before


def test_an_interrupted_comparison_keeps_its_rows(tmp_path, monkeypatch):
    """Interrupted while the second row is run: the first is on disk, can be loaded, and is not run again."""
    from subgrid.commands import progress

    class Interrupting(progress.Bars):
        def __call__(self, done, total, what, note=""):
            if what == "hyperviscosity":
                raise KeyboardInterrupt

    with pytest.raises(progress.Interrupted, match="subgrid resume"):
        compare(case_of(tmp_path), out=tmp_path / "out", progress=Interrupting(quiet=True))
    (first,) = Comparison.load(tmp_path / "out").metrics.rows
    assert first.name == "none"
    with pytest.raises(KeyboardInterrupt):
        compare(case_of(tmp_path), progress=Interrupting(quiet=True))
    ran = []
    run = row_runs._run
    monkeypatch.setattr(row_runs, "_run", lambda p, row, bars: ran.append(row.name) or run(p, row, bars))
    found = resume_comparison(tmp_path / "out", progress=False)
    assert ran and "none" not in ran
    assert [row.name for row in found.metrics.rows] == [
        row.name for row in compare(case_of(tmp_path), progress=False).metrics.rows
    ]


def test_representations(comparison):
    found = comparison[0]
    text, html = repr(found), found._repr_html_()
    assert "small & quick" in text and "hyperviscosity" in text and "oracle" in text
    assert "small &amp; quick" in html and "&lt;failing&gt;" in html and "<failing>" not in html
    best = min((row for row in found.metrics.rows if row.kind != "oracle" and not row.failed), key=lambda r: r.error())
    assert f"<b>{best.error():.3g}</b>" in html and "not ranked" in html
    json.dumps(found.metrics.model_dump())


def test_there_is_no_skill_over_a_model_that_is_exact_up_to_round_off(tmp_path):
    time = {"end": 0.4, "step": 0.02, "stepper": "etdrk4"}
    exact = {"initial": {"kind": "taylor-green"}, "reference": {"exact": True}, "time": time}
    rows = compare(case_of(tmp_path, **exact), progress=False).metrics.rows
    none, other = rows[0], rows[1]
    assert 0 < none.means["relative_l2"] < 1e-12 < other.means["relative_l2"]
    assert none.skill is None and other.skill is None
