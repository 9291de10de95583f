"""The source distribution, and the wheel that is built from it, run the demo from another folder, by its name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("api", "solver", "closures", "ingest", "commands", "cases", "docs", "studies", "tests")
FILES = ("pyproject.toml", "MANIFEST.in", "Makefile", "constraints.txt", "mkdocs.yml", "LICENSE")
PAGES = ("README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md")


def build(source: Path, out: Path, what: str) -> Path:
    """Build offline, with the setuptools at hand."""
    out.mkdir()
    code = f"import sys\nfrom setuptools import build_meta\nprint(build_meta.build_{what}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("distribution")
    copy = folder / "source"
    copy.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, *PAGES):
        shutil.copy(ROOT / name, copy / name)
    with tarfile.open(build(copy, folder / "sdist", "sdist")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_sdist_holds_all_files_of_the_project(sdist):
    for name in FOLDERS:
        expected = {
            p.relative_to(ROOT) for p in (ROOT / name).rglob("*") if p.is_file() and "__pycache__" not in p.parts
        }
        found = {p.relative_to(sdist) for p in (sdist / name).rglob("*") if p.is_file()}
        assert found == expected
    for name in (*FILES, *PAGES):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.fixture(scope="module")
def installed(sdist, tmp_path_factory):
    """Runs commands of the wheel from the sdist, in a folder of its own; no module comes from this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    site, elsewhere = folder / "site", folder / "elsewhere"
    elsewhere.mkdir()
    shutil.unpack_archive(build(sdist, folder / "wheel", "wheel"), site, "zip")
    code = (
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from subgrid.commands.cli import execute\n"
        "code = execute(sys.argv[1:])\n"
        "print({m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'subgrid'})\n"
        "sys.exit(code)"
    )

    def run(*arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(site), "SUBGRID_CACHE": str(folder / "cache")},
            capture_output=True,
            text=True,
        )
        loaded = done.stdout.splitlines()[-1]
        assert str(site) in loaded and str(ROOT) + "/" not in loaded
        return done, elsewhere

    return run


def test_the_wheel_from_the_sdist_runs_the_demo_from_another_folder(installed):
    """The case by its name, its data and its closures with their weights, for a shorter time."""
    short = ("time.end=0.2", "reference.trajectories=1", "ensemble.members=1", "compare.frontier=false")
    options = [word for value in short for word in ("--set", value)]
    done, elsewhere = installed("compare", "kolmogorov-demo", *options, "--out", "demo")
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "demo" / "report.html").stat().st_size > 1000
    assert "diffusion" in done.stdout and "failed" not in done.stdout


def test_the_wheel_holds_every_case_that_the_readme_names(installed):
    """Each is valid by its name, the file in the working directory goes first, and a wrong name is answered."""
    named = set(re.findall(r"subgrid (?:run|compare|tune|train) ([\w-]+)", (ROOT / "README.md").read_text("utf-8")))
    assert {"kolmogorov-demo", "kolmogorov-les", "shallow-water-coarse"} <= named
    for name in sorted(named):
        done, elsewhere = installed("check", name)
        assert done.returncode == 0, done.stderr
    (elsewhere / "kolmogorov-les").write_text("title = 1", encoding="utf-8")
    done, _ = installed("check", "kolmogorov-les")
    assert done.returncode == 2 and "title: expected a string" in done.stderr
    for wrong in ("kolmogorow-demo", "cases/kolmogorov-demo.toml"):
        done, _ = installed("check", wrong)
        assert done.returncode == 2 and "or name a case that ships: kolmogorov-demo" in done.stderr
    listed = installed("list")[0].stdout
    assert "  kolmogorov-demo" in listed and "Kolmogorov flow, a short large-eddy simulation" in listed
