"""`make results`: one page of speed-ups, closure by case, from comparisons that are resumed and not repeated."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tomli_w
from PIL import Image

from subgrid.commands.comparison.compare import compare
from subgrid.commands.comparison.results import Metrics
from subgrid.solver.backend.files import FolderLock
from subgrid.solver.case.reading import check

ROOT = Path(__file__).parents[2]
WAVE = {
    "title": "A steepening wave",
    "equation": {"name": "burgers", "viscosity": 0.02},
    "grid": {"shape": [16], "length": [6.283185307179586]},
    "time": {"end": 1.0, "step": 0.01, "stepper": "rk4"},
    "initial": {"kind": "reference"},
    "ensemble": {"members": 3},
    "output": {"every": 0.1},
    "reference": {
        "shape": [48],
        "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
        "trajectories": 3,
    },
    "compare": {"closures": [{"name": "hyperviscosity", "every": 2}]},
    "expected": {"set": ["time.end=0.5"], "none": {"relative_l2": [0.0, 1.0]}},
}
SHOCK = {
    "title": "A shock",
    "equation": {"name": "burgers", "viscosity": 0.0, "discretisation": "finite-volume", "boundary": "dirichlet"},
    "grid": {"shape": [20], "length": [1.0]},
    "time": {"end": 0.5, "cfl": 0.4, "stepper": "ssp-rk3"},
    "initial": {"kind": "riemann", "left": 1.0, "right": 0.0, "position": 0.25},
    "output": {"every": 0.1},
    "reference": {"exact": True},
}
SHOCK["equation"] |= {"left": 1.0, "right": 0.0}
BARE = SHOCK | {"compare": {"frontier": False}}
PLUGIN = '''
from pathlib import Path

from subgrid.solver.closure import Closure, Tendency


class Damping(Closure):
    """-0.01 u, on Fourier grids. Interrupts once if a file `interrupt` lies beside it."""

    def start(self, problem):
        self.require_fourier(problem)
        return {}

    def __call__(self, view, memory):
        mark = Path(__file__).with_name("interrupt")
        if view.step >= 20 and mark.exists():
            mark.unlink()
            raise KeyboardInterrupt
        return Tendency(-0.01 * view.state), memory
'''


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    return importlib.import_module("results")


@pytest.fixture
def page_module(results):
    return importlib.import_module("results_page")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder with cases: one with closures, one that fits none of them, and one without rows and frontier."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases").mkdir()
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for name, case in {"wave": WAVE, "shock": SHOCK, "bare": BARE}.items():
        (tmp_path / "cases" / f"{name}.toml").write_text(tomli_w.dumps(case))
    (tmp_path / "my.py").write_text(PLUGIN)
    return tmp_path


@pytest.fixture
def made(results, monkeypatch) -> list[str]:
    """The titles of the comparisons that are made, not those that are resumed."""
    titles: list[str] = []

    def counted(case, **options):
        titles.append(f"{case.title}, to {case.time.end:g}")
        return compare(case, **options)

    monkeypatch.setattr(results, "compare", counted)
    return titles


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(page: str, heading: str) -> dict[str, list[str]]:
    """The cells of the table under a heading, by the first of its line."""
    part = page.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in cells}


def test_the_full_form_writes_the_page_once_and_repeats_no_comparison(root, results, made):
    pictures = root / "docs" / "pictures" / "results"
    pictures.mkdir(parents=True)
    (pictures / "gone.png").write_bytes(b"of a case that is no more")
    assert results.main([], root) == 0
    assert made == ["A shock, to 0.5", "A steepening wave, to 1"]
    target = root / "docs" / "results" / "scoreboard.md"
    page = target.read_text()
    assert page.startswith("# Scoreboard\n\n    make results\n\n- **Speed-up.**")
    assert "x86" in page or "arm" in page
    assert "**Trajectories.** shock 1, wave 3." in page and "numpy " in page
    assert "- [shock](#shock): no closure that is installed is made for it." in page
    board = lines(page, "## Speed-up at equal relative L2 error")
    assert board["closure"] == ["[wave](#wave)"]  # the shock has only the uncorrected run
    assert list(board) == ["closure", "---", "none", "hyperviscosity", "smagorinsky"]
    number = r"(&[lg]t; )?[0-9.e-]+ ?(\[[0-9.e–-]+, [0-9.e–-]+\])?"
    assert re.fullmatch(number, board["none"][0].strip("*"))
    assert board["smagorinsky"][0].endswith("\\*") and not board["hyperviscosity"][0].endswith("\\*")
    assert "    python studies/results.py --case wave\n" in page
    assert list(lines(page, "### wave"))[2:] == ["none", "hyperviscosity", "smagorinsky"]
    assert sorted(path.name for path in pictures.iterdir()) == ["shock.png", "wave.png"]
    for name in ("shock", "wave"):
        data = (pictures / f"{name}.png").read_bytes()
        assert len(data) <= 60_000 and Image.open(io.BytesIO(data)).width > 400
        assert f"(../pictures/results/{name}.png)" in page
    before = contents(root / "docs")
    assert results.main([], root) == 0
    assert len(made) == 2 and contents(root / "docs") == before


def test_a_changed_case_is_run_again_and_another_expectation_is_no_change(root, results, made, capsys):
    (root / "cases" / "shock.toml").unlink()
    assert results.main(["--short"], root) == 0
    assert made == ["A steepening wave, to 0.5"]
    (root / "cases" / "wave.toml").write_text(tomli_w.dumps(WAVE | {"expected": {"set": ["time.end=0.5"]}}))
    assert results.main(["--short"], root) == 0
    assert len(made) == 1
    (root / "cases" / "wave.toml").write_text(tomli_w.dumps(WAVE | {"expected": {"set": ["time.end=0.4"]}}))
    capsys.readouterr()
    assert results.main(["--short"], root) == 0
    assert made[1:] == ["A steepening wave, to 0.4"]
    assert "is run again: case.time.end: is 0.4, was 0.5" in capsys.readouterr().out
    assert not (root / "docs" / "results" / "scoreboard.md").exists()
    page = (root / "runs" / "results-short" / "scoreboard.md").read_text()
    assert "    make results SHORT=1\n" in page and "(scoreboard/wave.png)" in page
    assert (root / "runs" / "results-short" / "scoreboard" / "wave.png").is_file()


def test_a_plug_in_joins_the_cases_that_accept_it_and_the_others_say_why(root, results, made, monkeypatch):
    assert results.main(["--short", "--case", "shock"], root) == 0
    assert results.main(["--short", "--closure", "my.py:Damping"], root) == 0
    assert made == ["A shock, to 0.5", "A steepening wave, to 0.5"]  # the shock refuses it: nothing is new there
    page = (root / "runs" / "results-short" / "scoreboard.md").read_text()
    assert "Damping" in lines(page, "### wave") and "Damping" not in lines(page, "### shock")
    assert re.search(r"- Damping is refused: .*Fourier grids, not for burgers", page)
    assert "python studies/results.py --short --case wave --closure my.py:Damping\n" in page
    assert not (root / "docs" / "results" / "scoreboard.md").exists()
    (root / "my.py").write_text(PLUGIN.replace("0.01", "0.02"))
    assert results.main(["--short", "--closure", "my.py:Damping"], root) == 0
    assert made[2:] == ["A steepening wave, to 0.5"]


def test_an_interrupted_command_goes_on_with_the_rows_that_are_missing(root, results, made, capsys):
    (root / "interrupt").touch()
    command = ["--short", "--closure", "my.py:Damping"]
    assert results.main(command, root) == 130
    assert "Run the same command again" in capsys.readouterr().err
    kept = contents(root / "runs" / "results-short" / "wave+Damping" / "rows")
    assert len(kept) == 3  # none, hyperviscosity and smagorinsky were finished
    assert results.main(command, root) == 0
    assert made == ["A shock, to 0.5", "A steepening wave, to 0.5"]
    assert kept.items() <= contents(root / "runs" / "results-short" / "wave+Damping" / "rows").items()
    assert "Damping" in lines((root / "runs" / "results-short" / "scoreboard.md").read_text(), "### wave")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--case", "wav"], r"--case wav: .*did you mean 'wave'"),
        (["--case", "bare"], r"--case bare: it has no speed-ups. Remedy"),
        (["--closure", "absent.py:X"], r"--closure absent.py:X: .*no file .*Remedy"),
        (["--closure", "my.py:Dampin"], r"--closure my.py:Dampin: .*Remedy"),
        (["--closure", "my.py"], r"--closure my.py: .*Remedy: FILE.py:CLASS"),
    ],
)
def test_wrong_input_is_one_message_and_writes_nothing(root, results, capsys, arguments, message):
    before = contents(root)
    assert results.main(arguments, root) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed) and len(printed.splitlines()) == 1
    assert contents(root) == before and not (root / "runs").exists()


def test_a_wrong_case_file_is_found_before_any_comparison(root, results, made, capsys):
    (root / "cases" / "wave.toml").write_text(tomli_w.dumps(WAVE | {"time": {"end": 1.0}}))
    assert results.main([], root) == 2
    assert not made and "time.step" in capsys.readouterr().err


def test_two_commands_do_not_time_costs_at_once(root, results, made, capsys):
    (root / "runs").mkdir()
    with FolderLock(root / "runs"):
        assert results.main(["--short"], root) == 2
    assert "in use by another process" in capsys.readouterr().err and not made


def test_a_case_that_fails_stops_no_other_and_leaves_the_page_of_before(root, results, monkeypatch, capsys):
    target = root / "docs" / "results" / "scoreboard.md"
    target.write_text("the page of before")

    def failing(case, **options):
        if case.title == "A shock":
            raise ValueError("the reference is not finite. Remedy: a smaller step")
        return compare(case, **options)

    monkeypatch.setattr(results, "compare", failing)
    assert results.main([], root) == 3
    assert "failed: shock" in capsys.readouterr().err
    assert target.read_text() == "the page of before"
    page = (root / "runs" / "results" / "scoreboard.md").read_text()
    assert "[shock](#shock): the comparison failed (the reference is not finite." in page
    assert "hyperviscosity" in lines(page, "### wave")


def test_a_folder_that_holds_no_comparison_is_not_replaced(root, results, capsys):
    mine = root / "runs" / "results" / "wave" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert results.main(["--case", "wave"], root) == 3
    assert "holds no comparison. Remedy: move it elsewhere" in capsys.readouterr().out
    assert mine.read_text() == "mine"


ROW = {"times": [0.0, 1.0], "relative_l2": [0.0, 0.1]}
ENDS = {"intervals": {"relative_l2": [0.1, 0.2]}}
BOUND = {"speedup": {"crps": [None, None, None]}, "beyond": {"crps": [">", 0.2]}}


def judged(*rows: dict) -> Metrics:
    base = {"case": "x", "reference": {"shape": [1], "description": ""}, "command": "c", "versions": {}, "machine": "m"}
    return Metrics.model_validate(base | {"rows": [ROW | {"name": "none", "kind": "none"}, *(ROW | r for r in rows)]})


@pytest.mark.parametrize(
    "rows, sentence",
    [
        ([], "no closure that is installed is made for it."),
        (
            [
                {"name": "a", "kind": "learned", "speedup": {"crps": [3, 1.1, 9], "relative_l2": [0.5, 0.4, 0.6]}},
                {"name": "b", "kind": "sum", "speedup": {"crps": [2, 1.5, 3], "relative_l2": [1.5, 0.9, 2]}},
                {"name": "best", "kind": "oracle", "speedup": {"crps": [20, 15, 30], "relative_l2": [15, 9, 20]}},
            ],
            "worth using: **b** for CRPS (2 [1.5, 3]).",
        ),
        (
            [{"name": "a", "kind": "classical", "speedup": {"crps": [1.2, 0.9, 2], "relative_l2": [0.5, 0.4, 0.6]}}],
            "a tie, not shown to be worth using: **a** for CRPS (1.2 [0.9, 2]).",
        ),
        (
            [
                {"name": "a", "kind": "classical", "speedup": {"crps": [0.5, 0.4, 0.6]}},
                {
                    "name": "b",
                    "kind": "learned",
                    "speedup": {"crps": [None, None, None]},
                    "beyond": {"crps": ["<", 0.9]},
                },
            ],
            "no closure is worth using; the speed-ups nearest to 1 are those of **a** for CRPS (0.5 [0.4, 0.6]).",
        ),
        (
            [{"name": "a", "kind": "learned", "speedup": {"crps": [None, 2, None]}, "beyond": {"crps": [">", 2.5]}}],
            "worth using: **a** for CRPS (&gt; 2.5 [2, –]).",
        ),
        (
            [
                BOUND | {"name": "a", "kind": "classical", "means": {"crps": 0.8}},
                BOUND | {"name": "b", "kind": "learned", "means": {"crps": 0.1}},
            ],
            "more accurate than every classical run of the ladder: **b** for CRPS (&gt; 0.2).",
        ),
        ([{"name": "a", "kind": "learned", "failed": "not finite"}], "every closure failed."),
    ],
)
def test_a_closure_is_worth_using_if_all_of_the_interval_is_above_1(page_module, rows, sentence):
    found = page_module.Result("x", check(SHOCK, "case", Path()), "c", [], {}, Path())
    metrics = judged(*(row if row.get("failed") else ENDS | row for row in rows))
    found.comparison = type("Held", (), {"metrics": metrics})()
    assert page_module.recommendation(found) == f"[x](#x): {sentence}"


def test_failed_and_refused_runs_are_marked(page_module):
    found = page_module.Result("x", check(SHOCK, "case", Path()), "c", ["b"], {"C|": "why"}, Path())
    rows = [
        {"name": "a", "kind": "learned", "failed": "not finite at t = 1 | <b>"},
        ENDS | {"name": "b", "kind": "learned", "speedup": {"crps": [3, 1.1, 9]}},
    ]
    found.comparison = type("Held", (), {"metrics": judged(*rows)})()
    assert page_module.speedups([found], "crps").splitlines()[2:] == [
        "| a | *failed* |",
        "| b | **3 [1.1, 9]**\\* |",
        "| C\\| | *refused* |",
    ]
    part = page_module.section(found, None)
    assert "- a failed: not finite at t = 1 \\| \\<b\\>" in part[-1] and "- C\\| is refused: why" in part[-1]
    assert "| a (failed) | learned |" in part[3]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_hands_its_options_on():
    command = ["make", "-n", "results", "SHORT=1", "PLUGIN=my closures.py:X", "CASE=a b"]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    shown = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True, timeout=60).stdout
    last = " ".join(shown.replace("\\\n", " ").splitlines()[-1].split())
    assert last.endswith("studies/results.py --short --case 'a' --case 'b' --closure 'my closures.py:X'")


def test_a_finished_comparison_names_the_weights_that_it_used(results):
    """New weights of a closure are a change, also where the case names none."""
    case = ROOT / "cases" / "kolmogorov-demo.toml"
    found = results.inputs(results.read(case))["weights"]
    assert list(found) == ["regression", "latent-diffusion"]
    assert json.dumps(found).count("sha256") == 2
