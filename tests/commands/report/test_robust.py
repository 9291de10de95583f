"""A report depends on no setting of the user, survives a failing picture, and writes in its folder alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from subgrid.commands import cli
from subgrid.commands.comparison.compare import compare
from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.progress import Bars
from subgrid.commands.report import curves, page
from subgrid.commands.report.table import terminal
from subgrid.solver.case.reading import check

HOSTILE = "[bold]a[/bold] <b>&amp;</b> \x1b[31m\u202e | $x_ grün\n"


def compared(folder: Path, title: str, labels: list[str]) -> Path:
    """The folder of a small comparison."""
    case = check(
        {
            "title": title,
            "equation": {"name": "burgers", "viscosity": 0.05},
            "grid": {"shape": [16], "length": [6.25]},
            "time": {"end": 0.4, "step": 0.1, "stepper": "rk4"},
            "initial": {"kind": "sine"},
            "output": {"every": 0.1},
            "reference": {"shape": [32], "step": 0.05},
            "compare": {
                "frontier": False,
                "closures": [{"name": "hyperviscosity", "rate": 0.1 * i, "label": x} for i, x in enumerate(labels)],
            },
        },
        "case",
        folder,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        compare(case, out=folder / "out", progress=False, command=title)
    return folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return compared(tmp_path_factory.mktemp("plain"), "plain", ["one", "two"])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A comparison whose title, command and names hold markup and control characters."""
    return compared(tmp_path_factory.mktemp("hostile"), HOSTILE, [HOSTILE, "_b"])


@pytest.fixture
def folder(plain, tmp_path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "comparison"))


def write(folder: Path) -> Path:
    """Draw the report of the comparison in a folder, as `subgrid report` does."""
    comparison = Comparison.load(folder)
    return page.write(comparison.metrics, comparison.dataset, folder)[0]


def outside(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """`subgrid report` in a process of its own with other settings of the user."""
    source = "import sys; from subgrid.commands.cli import main; main(['report', sys.argv[1]])"
    return subprocess.run(
        [sys.executable, "-c", source, str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_the_backend_of_the_user_does_not_matter(folder, backend):
    expected = write(folder).read_bytes()
    found = outside(folder, MPLBACKEND=backend)
    assert found.returncode == 0, found.stderr
    assert (folder / "report.html").read_bytes() == expected


def test_the_settings_of_the_user_do_not_matter(folder, tmp_path):
    """Neither those of the process, which are there again afterwards, nor those of a matplotlibrc."""
    expected = write(folder).read_bytes()
    changes = {
        "text.usetex": True,
        "font.size": 3,
        "axes.facecolor": "red",
        "lines.linewidth": 9,
        "savefig.format": "svg",
    }
    with matplotlib.rc_context(changes):
        assert write(folder).read_bytes() == expected
        assert all(matplotlib.rcParams[key] == value for key, value in changes.items())
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.facecolor: red\nfont.size: 3\n")
    found = outside(folder, MATPLOTLIBRC=str(tmp_path / "matplotlibrc"))
    assert found.returncode == 0, found.stderr
    assert (folder / "report.html").read_bytes() == expected


@pytest.mark.parametrize("picture", ["frontier", "animation", "spacetime"])
def test_a_picture_that_fails_does_not_cost_the_report(folder, monkeypatch, capsys, picture):
    """The page has the others and the table, and names the one that failed; so does the command."""

    def fail(*_):
        raise RuntimeError("no font")

    write(folder)
    if picture == "frontier":
        monkeypatch.setitem(curves.CURVES, "frontier", (curves.CURVES["frontier"][0], fail, "Cost"))
    else:
        monkeypatch.setattr(page.fields, {"animation": "_film", "spacetime": "_maps"}[picture], fail)
    assert cli.execute(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" in text and "RuntimeError: no font" in text and f"<dt>{picture}</dt>" in text
    assert text.count("<figure") == text.count("data:image/") >= 5 and 'id="metrics"' in text
    assert f"picture {picture} could not be drawn: RuntimeError: no font" in capsys.readouterr().err
    assert not list((folder / "pictures").glob(f"{picture}.*"))


def test_a_report_writes_in_its_folder_and_follows_no_link(folder, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("report.html", "frontier.png"):
        (elsewhere / name).write_text("untouched")
    (folder / "report.html").symlink_to(elsewhere / "report.html")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "frontier.png").symlink_to(elsewhere / "frontier.png")
    (folder / "pictures" / "error.png").symlink_to(elsewhere / "error.png")
    assert cli.execute(["report", str(folder)]) == 0
    assert not (folder / "report.html").is_symlink() and not (folder / "pictures" / "error.png").is_symlink()
    assert {p.name: p.read_text() for p in elsewhere.iterdir()} == {
        "report.html": "untouched",
        "frontier.png": "untouched",
    }
    for picture in (folder / "pictures").iterdir():
        picture.unlink()
    (folder / "pictures").rmdir()
    (folder / "pictures").symlink_to(elsewhere)
    assert cli.execute(["report", str(folder)]) == 2
    assert "is a symbolic link" in capsys.readouterr().err
    assert sorted(p.name for p in elsewhere.iterdir()) == ["frontier.png", "report.html"]


def test_control_characters_and_markup_of_names_are_shown_literally(hostile, capsys):
    found = Comparison.load(hostile)
    assert cli.execute(["report", str(hostile)]) == 0
    text = (hostile / "report.html").read_text(encoding="utf-8")
    shown = {"page": text, "notebook": found._repr_html_(), "terminal": printed(found), "text": repr(found)}
    for where, what in shown.items():
        assert "\x1b" not in what and "\u202e" not in what, where
        assert r"\x1b[31m\u202e" in what and "[bold]a[/bold]" in what, where
    assert "<b>&amp;</b>" not in text and "&lt;b&gt;&amp;amp;" in text
    assert "could not be drawn" not in text


def printed(comparison: Comparison) -> str:
    from rich.console import Console

    console = Console(width=400, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(terminal(comparison.metrics))
    return console.export_text()


def test_a_name_with_a_leading_underscore_is_in_the_legend(hostile):
    labels = [text.get_text() for text in Comparison.load(hostile).figure("error").legends[0].get_texts()]
    assert [label.strip() for label in labels][1:] == [
        r"[bold]a[/bold] <b>&amp;</b> \x1b[31m\u202e | \$x_ grün\n",
        "_b",
    ]


def test_markup_in_the_name_of_a_row_is_no_markup_of_the_progress_bar():
    from rich.console import Console

    bars = Bars()
    bars(1, 1, "[bold]name[/bold]", "[red]note")
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(bars._progress.get_renderable())
    text = console.export_text()
    assert "[bold]name[/bold]" in text and "[red]note" in text


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_without_the_characters_shows_escapes(tmp_path, environment):
    """compare, run and resume with a title and a label that ASCII does not hold."""
    case = tmp_path / "fall.toml"
    case.write_text(
        """
title = "grün ∇ 64²"
equation = { name = "burgers", viscosity = 0.05 }
grid = { shape = [16], length = [6.283185307179586] }
time = { end = 0.4, step = 0.1, stepper = "rk4" }
initial = { kind = "sine" }
output = { every = 0.2 }
reference = { shape = [32], step = 0.05 }
compare = { frontier = false, closures = [{ name = "hyperviscosity", label = "zäh ν" }] }
""",
        encoding="utf-8",
    )
    source = """
import sys
from subgrid.commands.cli import execute
case, compared, ran, absent = sys.argv[1:]
codes = [execute(["compare", case, "--out", compared]), execute(["resume", compared])]
codes += [execute(["run", case, "--out", ran]), execute(["resume", ran]), execute(["resume", absent])]
sys.exit(codes != [0, 0, 0, 0, 2])
"""
    found = subprocess.run(
        [sys.executable, "-c", source, str(case), *(str(tmp_path / name) for name in "abc")],
        env={**os.environ, **environment, "SUBGRID_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr.decode("latin-1")
    assert b"Traceback" not in found.stderr and b"hyperviscosity" not in found.stdout and b"none" in found.stdout
    assert "zäh ν" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
