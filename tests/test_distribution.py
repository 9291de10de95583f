"""The source distribution, and the wheel that is built from it, run the demo from another folder."""

from __future__ import annotations

import os
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


def test_the_wheel_from_the_sdist_runs_the_demo_from_another_folder(sdist, tmp_path):
    """The demo's closures with their weights, for a shorter time; no module comes from this checkout."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.unpack_archive(build(sdist, tmp_path / "wheel", "wheel"), site, "zip")
    code = (
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from subgrid.commands.cli import execute\n"
        "code = execute(sys.argv[1:])\n"
        "print({m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'subgrid'})\n"
        "sys.exit(code)"
    )
    short = ("time.end=0.2", "reference.trajectories=1", "ensemble.members=1", "compare.frontier=false")
    options = [word for value in short for word in ("--set", value)]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "compare",
            str(sdist / "cases" / "kolmogorov-demo.toml"),
            *options,
            "--out",
            "demo",
        ],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site), "SUBGRID_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "demo" / "report.html").stat().st_size > 1000
    assert "latent-diff" in done.stdout and "failed" not in done.stdout
    loaded = done.stdout.splitlines()[-1]
    assert str(site) in loaded and str(ROOT) + "/" not in loaded
