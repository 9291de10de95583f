"""The distribution: what it holds, what it imports, which way, and how soon."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from subgrid.solver import closure as contract

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {
    "subgrid": "api",
    **{f"subgrid.{home}": home for home in ("solver", "closures", "ingest", "commands", "cases")},
}
BELOW = {"cases": set(), "solver": set(), "ingest": {"solver"}, "closures": {"solver", "ingest"}}
BELOW["commands"] = BELOW["api"] = {"solver", "ingest", "closures", "commands"}
# Inside solver and closures: what stands on a line may import what stands on the lines before it.
LAYERS = {
    "solver": (
        ("grid", "backend"),
        ("spectral", "random", "finite_volume"),
        ("equations",),
        ("initial", "time_stepping", "closure"),
        ("case",),
        ("simulation",),
    ),
    "closures": (
        ("learning",),
        ("none", "oracle", "classical", "model", "regression", "equation_discovery", "lasdi", "lam_slide", "mi2a"),
        ("latent_diffusion",),
    ),
}
HEAVY = ("numpy", "scipy", "numba", "torch", "xarray", "zarr", "matplotlib", "pandas", "pydantic", "jinja2")


def sources(home: str) -> list[Path]:
    return [p for p in sorted((ROOT / home).rglob("*.py")) if "__pycache__" not in p.parts]


def module(file: Path) -> str:
    """The import name of a file of the checkout."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    inside = parts[1:] if parts[0] == "api" else parts
    return ".".join(["subgrid", *inside]).removesuffix(".__init__")


def imported(file: Path, typing: bool = True) -> list[tuple[str, ast.AST]]:
    """Full names of the modules that a file imports anywhere, relative ones resolved.

    typing: whether those under `if TYPE_CHECKING:` count.
    """
    package = module(file).split(".")
    package = package if file.name == "__init__.py" else package[:-1]
    tree = ast.parse(file.read_text())
    skipped: set[ast.AST] = set()
    if not typing:
        blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
        skipped = {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}
    found: list[tuple[str, ast.AST]] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found.append((name, node))
            found += [(f"{name}.{alias.name}", node) for alias in node.names]
    return found


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ | environment, cwd="/"
    )


def test_every_folder_with_python_files_is_a_package():
    folders = {p.parent for home in FOLDERS.values() for p in sources(home)}
    setuptools = PROJECT["tool"]["setuptools"]
    assert set(setuptools["packages"]) == {module(f / "__init__.py") for f in folders}
    assert setuptools["package-dir"] == FOLDERS


def test_the_solver_has_few_entries():
    tracked = [p for p in (ROOT / "solver").iterdir() if p.name != "__pycache__"]
    assert len(tracked) <= 12, sorted(p.name for p in tracked)


def test_files_are_short():
    long = {str(p.relative_to(ROOT)) for home in FOLDERS.values() for p in sources(home) if lines(p) > 350}
    assert not long


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


@pytest.mark.parametrize("home", sorted(FOLDERS.values()))
def test_imports_point_downwards(home):
    """solver <- ingest <- closures <- commands; relative inside one of them, in full across."""
    for file in sources(home):
        for name, node in imported(file):
            parts = name.split(".")
            where = f"{file.relative_to(ROOT)}:{node.lineno} imports {name}"
            assert parts[0] not in BELOW, f"{where} by its bare name"
            if parts[0] == "subgrid" and len(parts) > 1:
                absolute = isinstance(node, ast.Import) or node.level == 0
                assert parts[1] in BELOW[home] | {home}, where
                assert absolute == (parts[1] != home), f"{where}: relative inside a package, in full across"


@pytest.mark.parametrize("home", sorted(LAYERS))
def test_imports_inside_a_package_point_downwards(home):
    rank = {name: i for i, layer in enumerate(LAYERS[home]) for name in layer}
    inside = {p.name.removesuffix(".py") for p in (ROOT / home).iterdir() if p.suffix == ".py" or p.is_dir()}
    assert set(rank) == inside - {"__init__", "__pycache__", "weights"}
    for file in sources(home):
        parts = file.relative_to(ROOT / home).parts
        mine = parts[0].removesuffix(".py")
        if mine == "__init__":
            continue
        for name, node in imported(file):
            theirs = name.split(".")[2:3] if name.startswith(f"subgrid.{home}.") else []
            if theirs and theirs[0] in rank and theirs[0] != mine:
                where = f"{file.relative_to(ROOT)}:{node.lineno} imports {name}"
                assert rank[theirs[0]] < rank[mine], f"{where}: {mine} does not stand above {theirs[0]}"


def test_no_import_cycles():
    """Imports at run time, those inside functions included, form no cycle among the files."""
    files = {module(p): p for home in FOLDERS.values() for p in sources(home)}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found: dict[ast.AST, list[str]] = {}
        for other, node in imported(path, typing=False):
            found.setdefault(node, []).append(other)
        # `from package import module` imports the module; the package itself counts if something else is named
        used = [o if len(o) == 1 or not all(m in files for m in o[1:]) else o[1:] for o in found.values()]
        graph[name] = {other for others in used for other in others if other in files} - {name}
    assert sum(map(len, graph.values())) > len(files), "the walk finds the imports"
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in files:
        visit(name, [])


def test_the_solver_does_not_import_torch():
    """Neither at the top of a module nor when it is imported; View.torch alone may, when it is called."""
    modules = [module(p) for p in sources("solver")]
    code = f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    code += "print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'solver', 'closures', 'ingest')\n"
    code += "    or m.startswith(('subgrid.closures', 'subgrid.ingest', 'subgrid.commands'))))"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom subgrid.commands.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as exit:\n    assert exit.code == 0\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = python(code, COLUMNS="100")
    assert done.returncode == 0, done.stderr
    for command in ("run", "compare", "train", "data", "resume", "check", "list", "new", "report", "schema"):
        assert any(line.strip(" │").split()[:1] == [command] for line in done.stdout.splitlines()), command
    assert "HEAVY []" in done.stdout


def test_help_answers_at_once():
    """Processor time of `subgrid --help`, best of five, below 0.3 s beyond what Python itself takes to start."""
    assert min(cost("from subgrid.commands.cli import main; main(['--help'])") for _ in range(5)) < 0.3 + min(
        cost("pass") for _ in range(5)
    )


def cost(code: str) -> float:
    """User and system time of a Python process, in seconds."""
    before = os.times()
    python(code)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the tracked folders with the setuptools at hand, offline."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*FOLDERS.values(), "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return build("wheel", copy, out)


def test_the_wheel_holds_all_it_needs_and_nothing_generic(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.split("/")[0] for name in names}
    version = PROJECT["project"]["version"]
    assert top == {"subgrid", f"subgrid-{version}.dist-info"}
    python = [p for home in FOLDERS.values() for p in sources(home)]
    expected = {f"{module(p.with_name('__init__.py')).replace('.', '/')}/{p.name}" for p in python}
    data = [*(ROOT / "commands" / "templates").iterdir(), *(ROOT / "closures" / "weights").glob("*.safetensors")]
    data += [*(ROOT / "cases").glob("*.toml"), *(ROOT / "cases" / "data").iterdir()]
    expected |= {f"subgrid/{p.relative_to(ROOT)}" for p in data}
    expected |= {"subgrid/commands/report/report.html.j2", "subgrid/py.typed"}
    code = {name for name in names if name.startswith("subgrid/")}
    assert code == expected
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_declares_the_command_and_the_closures(wheel):
    archive = zipfile.ZipFile(wheel)
    text = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt"))).decode()
    groups = {"console_scripts": PROJECT["project"]["scripts"], **PROJECT["project"]["entry-points"]}
    for group, entries in groups.items():
        assert f"[{group}]" in text
        for name, value in entries.items():
            assert f"{name} = {value}" in text


def test_the_wheel_works_where_it_is_unpacked(wheel, tmp_path):
    """From another folder, ahead of this checkout: the command line, the closures and the templates are its own."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from subgrid.commands import cli, new\n"
        f"assert new.__file__.startswith({str(tmp_path / 'site')!r}), new.__file__\n"
        f"assert cli.execute(['new', 'case', 'one', '--out', {str(tmp_path)!r}]) == 0\n"
        f"assert cli.execute(['check', {str(tmp_path / 'one.toml')!r}]) == 0\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_every_entry_point_loads():
    installed = {e.name: e for e in entry_points(group="subgrid.closures") if e.value.startswith("subgrid.")}
    assert set(installed) == set(PROJECT["project"]["entry-points"]["subgrid.closures"])
    for name in installed:
        assert issubclass(contract.find(name), contract.Closure)
    (command,) = entry_points(group="console_scripts", name="subgrid")
    assert callable(command.load())


def test_a_plugin_that_fails_to_import_is_reported_by_name_and_breaks_nothing_else(tmp_path):
    """A distribution beside ours, found by its metadata: `list` says why it cannot be used, the rest goes on."""
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[subgrid.closures]\nbroken = broken_plugin:Broken\nfine = fine_plugin:Fine\nwrong = fine_plugin:np\n"
    )
    (tmp_path / "broken_plugin.py").write_text("import a_library_that_is_not_there\n")
    (tmp_path / "fine_plugin.py").write_text(
        "import numpy as np\nfrom subgrid.closures.none import NoClosure\n\n"
        'class Fine(NoClosure):\n    """A plug-in that is in order."""\n'
    )
    case = (ROOT / "cases" / "taylor-green.toml").read_text()
    (tmp_path / "fine.toml").write_text(case + '\n[[closure]]\nname = "fine"\n')
    (tmp_path / "broken.toml").write_text(case + '\n[[closure]]\nname = "broken"\n')
    code = "import sys\nfrom subgrid.commands.cli import execute\nsys.exit(execute(sys.argv[1:]))"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    listed = python(code, "list", PYTHONPATH=path)
    assert listed.returncode == 0, listed.stderr
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert "unavailable" in lines["broken"] and "a_library_that_is_not_there" in lines["broken"]
    assert "unavailable" in lines["wrong"] and "not a subclass" in lines["wrong"]
    assert "A plug-in that is in order" in lines["fine"]
    assert "unavailable" not in lines["smagorinsky"]

    assert python(code, "check", str(tmp_path / "fine.toml"), PYTHONPATH=path).returncode == 0
    refused = python(code, "check", str(tmp_path / "broken.toml"), PYTHONPATH=path)
    assert refused.returncode == 2
    assert "closure.0: closure 'broken' cannot be imported" in refused.stderr
    assert "ModuleNotFoundError" in refused.stderr and "Traceback" not in refused.stderr


# What the sdist holds beside the packages.
SHIPPED = ("docs", "studies", "tests")
SHIPPED_FILES = ("Makefile", "MANIFEST.in", "constraints.txt", "mkdocs.yml", "pyproject.toml", "LICENSE", "README.md")


def build(kind: str, source: Path, out: Path) -> Path:
    """The wheel or the sdist of a source tree, built offline with the installed setuptools."""
    code = f"import sys\nfrom setuptools import build_meta\nprint(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def shipped() -> set[str]:
    """Files of the checkout that belong in the sdist, relative to the root."""
    found = [p for home in (*FOLDERS.values(), *SHIPPED) for p in (ROOT / home).rglob("*") if p.is_file()]
    extra = [p for pattern in ("*.md", "*.cff") for p in ROOT.glob(pattern)]
    files = [p for p in found if "__pycache__" not in p.parts] + extra + [ROOT / name for name in SHIPPED_FILES]
    return {p.relative_to(ROOT).as_posix() for p in files}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The sdist of a copy of the checkout in which a module has been imported, so that it has compiled files."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for name in shipped():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    compiled = copy / "solver" / "__pycache__" / "grid.cpython-311.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    (copy / "runs").mkdir()
    (copy / "runs" / "summary.json").write_text("{}")
    return build("sdist", copy, out)


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def test_the_sdist_holds_the_project_and_nothing_else(unpacked):
    assert unpacked.name == f"subgrid-{PROJECT['project']['version']}"
    files = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    generated = {name for name in files if name in ("PKG-INFO", "setup.cfg") or name.startswith("subgrid.egg-info/")}
    assert files - generated == shipped()


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_checkout(unpacked, wheel, tmp_path):
    """File by file, the metadata and the hashes of the contents in RECORD included."""

    def contents(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    assert contents(build("wheel", unpacked, tmp_path)) == contents(wheel)
