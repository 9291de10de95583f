"""The documentation: its blocks run, its links resolve, and every page is in the site."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import subgrid
from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob
from subgrid.commands.cli import execute
from subgrid.solver.random import Stream

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
    for made in ("report.html", "frontier.png", "vorticity.png", "runs/comparison/report.html"):
        assert (empty_folder / made).stat().st_size > 1000, made


def test_every_block_of_the_page_on_data_runs(empty_folder, capsys):
    assert run_blocks(DOCS / "data.md") > 15
    printed = capsys.readouterr().out
    message = (empty_folder / "message.txt").read_text(encoding="utf-8").partition("\n")[2]
    assert message in printed
    for made in (
        "advection.png",
        "two-stream.png",
        "advection-compared/report.html",
        "two-stream-compared/report.html",
    ):
        assert (empty_folder / made).stat().st_size > 1000, made


def test_the_python_blocks_of_the_reference_of_plugins_run(empty_folder):
    """The compiled right-hand side and its test of parity, beside the files of the tutorial."""
    for text in (block[2] for block in BLOCK.finditer((DOCS / "tutorial.md").read_text(encoding="utf-8"))):
        if named := FILE.match(text):
            Path(named[1]).write_text(text, encoding="utf-8")
    assert run_blocks(DOCS / "plugins.md") == 3


def test_the_python_lines_of_the_readme_run(empty_folder):
    """As they stand but for a shorter run of fewer trajectories."""
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


# The reference of plug-ins: each heading with the class whose attributes its section defines.
SECTIONS: dict[str, type] = {
    "View": subgrid.View,
    "Problem": subgrid.Problem,
    "SpectralNoise": subgrid.SpectralNoise,
    "Closures": subgrid.Closure,
    "Linear parts": subgrid.Linear,
    "Learned closures": LearnedClosure,
    "Training jobs": TrainingJob,
    "Equations": subgrid.Equation,
    "Initial states": subgrid.InitialState,
    "Forcings": subgrid.Forcing,
}
ANSWERS = (subgrid.Tendency, subgrid.Correction, subgrid.Leap)


def public(cls: type) -> set[str]:
    """Names of a class that a plug-in may use, set or override: attributes, options, properties and methods."""
    parts = [c for c in cls.__mro__ if c.__module__.startswith("subgrid.") and c.__name__ != "PluginModel"]
    own = {name for c in parts for name in (*vars(c), *vars(c).get("__annotations__", {}))}
    if dataclasses.is_dataclass(cls):
        own |= {f.name for f in dataclasses.fields(cls)}
    if cls is subgrid.View:
        own |= vars(cls(lambda: np.zeros((1, 1, 4)), 0.0, 0, Stream(0, "test", 0, (0,)))).keys()
    if cls is subgrid.SpectralNoise:
        own |= vars(cls(subgrid.Grid((4,), (1.0,)), np.ones(3))).keys()
    if cls is LearnedClosure:
        own -= public(subgrid.Closure)
    own.discard("plugins")  # the registry of a base class, which the package sets
    return {name for name in own if not name.startswith(("_", "model_"))}


def section(heading: str) -> str:
    """The text below a heading of the reference of plug-ins, up to the next heading, without code blocks."""
    page = (DOCS / "plugins.md").read_text(encoding="utf-8")
    page = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    (text,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", page, re.DOTALL | re.MULTILINE)
    return text


def defined(heading: str) -> set[str]:
    """Names that a section defines: code in the first cell of a row of a table, or at the start of an item."""
    rows = re.findall(r"^\| (.*?) \|.*$(?!\n\|-)", section(heading), re.MULTILINE)  # without the heads of tables
    names = {name for cell in rows for name in re.findall(r"`(\w+)", cell)}
    names |= set(re.findall(r"^- `(\w+)", section(heading), re.MULTILINE))
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_reference_of_plugins_defines_every_attribute_of_a_class_and_no_other(heading):
    assert defined(heading) == public(SECTIONS[heading])


@pytest.mark.parametrize("cls", [*ANSWERS, subgrid.SpectralNoise, subgrid.Coupled], ids=lambda cls: cls.__name__)
def test_the_reference_of_plugins_states_signatures(cls):
    """Those of the answers, and of what they may contain; the counters of Coupled are not set by its user."""
    headings = {subgrid.SpectralNoise: "SpectralNoise", subgrid.Coupled: "Sums"}
    counted = {"calls", "skips", "declined", "replaced", "seconds"} if cls is subgrid.Coupled else set()
    parameters = [p for p in inspect.signature(cls).parameters.values() if p.name not in counted]
    words = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    signature = f"`{cls.__name__}({', '.join(words)})`".replace("'", '"')
    assert signature in section(headings.get(cls, "Answers"))
