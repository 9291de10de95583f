"""The documentation: its blocks run, its links resolve, and every page is in the site."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import subgrid
from subgrid.commands.cli import execute

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# file: (\S+)\n")


def run_blocks(page: Path) -> int:
    """Run the blocks of a page in order, in the working directory; returns how many there are.

    A block that starts with `# file: NAME` is written to that file. Shell blocks are lines of `subgrid ...`.
    """
    scope: dict = {"__name__": "tutorial"}
    blocks = list(BLOCK.finditer(page.read_text(encoding="utf-8")))
    for block in blocks:
        language, text = block.groups()
        line = page.read_text(encoding="utf-8")[: block.start()].count("\n") + 1
        if named := FILE.match(text):
            Path(named[1]).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile("\n" * line + text, str(page), "exec"), scope)
        else:
            assert language == "sh", f"{page.name}, line {line}: {language} blocks must name a file"
            for command in text.splitlines():
                program, *arguments = shlex.split(command)
                assert program == "subgrid"
                assert execute(arguments) == 0, command
    return len(blocks)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """A working directory, importable as that of an interactive session is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_every_block_of_the_tutorial_runs(empty_folder):
    assert run_blocks(DOCS / "tutorial.md") > 20
    for made in ("report.html", "error.png", "vorticity.png", "runs/comparison/report.html"):
        assert (empty_folder / made).stat().st_size > 1000, made


def test_the_python_lines_of_the_readme_run(empty_folder):
    """As they stand but for a shorter run of fewer trajectories."""
    (empty_folder / "cases").symlink_to(ROOT / "cases")
    (text,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    short = '{"time.end": 0.4, "reference.trajectories": 2, "ensemble.members": 2}'
    assert text.count('{"time.end": 2.0}') == 1
    scope: dict = {}
    exec(compile(text.replace('{"time.end": 2.0}', short), "README.md", "exec"), scope)
    assert dict(scope["ds"].sizes) == {"time": 3, "member": 2, "y": 64, "x": 64}
    assert list(scope["result"].table.index[:3]) == ["none", "smagorinsky", "0.5 Smagorinsky"]
    assert (empty_folder / "report.html").stat().st_size > 1000


def anchors(page: Path) -> set[str]:
    """Anchors of a Markdown page: explicit ones, and those that headings get."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = [re.sub(r"[^\w\- ]", "", h.lower()).strip() for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {h.replace(" ", "-") for h in headings} | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_pages_outside_the_site_resolve(page):
    """Those of the site are checked by `mkdocs build --strict`."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links
    for target, anchor in links:
        file = ROOT / target if target else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page} links to {target}#{anchor}"


def test_every_page_is_in_the_navigation_of_the_site():
    pages = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")}
    navigation = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(navigation) == sorted(pages)


def test_every_name_of_the_api_pages_exists():
    """The blocks `::: MODULE` with their members; every public function of `subgrid` is among them."""
    documented = set()
    for page in (DOCS / "api").glob("*.md"):
        for block in page.read_text(encoding="utf-8").split("::: ")[1:]:
            module = importlib.import_module(block.split()[0])
            members = re.search(r"members: \[(.*)\]", block)
            names = members[1].split(", ") if members else [n for n in vars(module) if not n.startswith("_")]
            documented |= {getattr(module, name) for name in names if callable(getattr(module, name))}
    names = [n for n in subgrid.__all__ if n not in ("__version__", "Case")]
    assert [n for n in names if getattr(subgrid, n) not in documented] == []


def test_the_metadata_for_citation_has_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
