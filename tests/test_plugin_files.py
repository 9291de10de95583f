"""Files that a case names by `path`: when they are imported, what they may import, and what identifies them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subgrid import read_case, run
from subgrid.commands.cli import DONE, MISTAKE, execute
from subgrid.ingest.requests import describe_equation, describe_initial, describe_stepper, reference_request
from subgrid.solver.case.reading import read
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.equations import EQUATIONS

MARK = "Path(__file__).with_name('executed').touch()\n"
REFERENCE = "\n[reference]\nshape = [32]\n"


# -- without --import ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["equation", "initial", "stepper", "forcing", "closure", "row", "train", "reference"])
def test_no_command_that_only_looks_executes_a_file(kind, tmp_path, capsys, monkeypatch, plugin_case, one_message):
    """In whatever table the file is named; the rest of the case is checked, and the files are listed."""
    monkeypatch.chdir(tmp_path)
    case = plugin_case(tmp_path, MARK, **({"forcing": "Still"} if kind == "forcing" else {"equation": "Wave"}))
    text = case.read_text()
    if kind != "forcing":
        shipped = {"equation": 'name = "advection"\nspeed = 1.0', "initial": 'kind = "sine"'}
        for table, name in (("equation", "Wave"), ("initial", "Sine")):
            if kind != table:
                text = text.replace(f'path = "wave.py:{name}"', shipped[table])
    text = text.replace('"etdrk4"', '"wave.py:TABLE"') if kind == "stepper" else text
    text += {
        "closure": '\n[[closure]]\npath = "wave.py:Zero"\n',
        "row": '\n[compare]\nclosures = [[{ path = "wave.py:Zero" }, "none"]]\n',
        "train": '\n[train."wave.py:Zero"]\n',
        "reference": REFERENCE + 'initial = { path = "wave.py:Sine" }\n',
    }.get(kind, "")
    case.write_text(text)
    for command in (["check", "case.toml"], ["check", "case.toml", "--json"], ["schema"], ["list"]):
        assert execute(command) == DONE, capsys.readouterr().err
        assert not (tmp_path / "executed").exists()
        printed = capsys.readouterr().out
        assert command[0] != "check" or str(tmp_path / "wave.py") in printed
    case.write_text(text.replace("end = 0.4", "end = 0.45"))
    assert execute(["check", "case.toml"]) == MISTAKE
    assert "time.end - time.start" in one_message()
    case.write_text(text.replace("wave.py:", "absent.py:"))
    assert execute(["check", "case.toml"]) == MISTAKE
    assert f"there is no file {tmp_path / 'absent.py'}" in one_message()
    assert execute(["check", "case.toml", "--out", "full.toml"]) == MISTAKE
    assert not (tmp_path / "executed").exists() and not (tmp_path / "full.toml").exists()


def test_check_with_import_executes_the_file_and_reads_its_options(tmp_path, capsys, plugin_case):
    case = plugin_case(tmp_path, MARK, equation="Wave")
    assert execute(["check", "--import", str(case), "--json"]) == DONE
    assert (tmp_path / "executed").exists()
    assert json.loads(capsys.readouterr().out)["equation"]["omit"] == []


def test_a_case_without_files_is_checked_in_full_without_import(tmp_path, capsys, plugin_case):
    case = plugin_case(tmp_path, "", equation="Wave")
    text = case.read_text().replace('path = "wave.py:Wave"', 'name = "advection"\nspeed = 1.0')
    case.write_text(text.replace('path = "wave.py:Sine"', 'kind = "sine"'))
    assert execute(["check", str(case), "--json"]) == DONE
    assert json.loads(capsys.readouterr().out) == read(case).resolved()


# -- neighbours ---------------------------------------------------------------------------------------------------

USES = """
import common
from common import SPEED
from package.inner import shift

class Faulty(Wave):
    def linear(self, operators):
        import later
        return -1j * (SPEED + later.EXTRA + shift()) * operators.k[0]
"""


@pytest.fixture
def neighbours(plugin_case) -> Callable[..., Path]:
    """Writes a plug-in that imports a module, a module of a package that imports another, and one inside a method."""

    def make(folder: Path, speed: float = 1.0, code: str = USES) -> Path:
        (folder / "package").mkdir(parents=True, exist_ok=True)
        (folder / "common.py").write_text(f"SPEED = {speed}\n")
        (folder / "later.py").write_text("EXTRA = 0.5\n")
        (folder / "package" / "__init__.py").write_text("from . import deep\n")
        (folder / "package" / "deep.py").write_text("SHIFT = 0.25\n")
        (folder / "package" / "inner.py").write_text("from .deep import SHIFT\n\n\ndef shift():\n    return SHIFT\n")
        return plugin_case(folder, code, equation="Faulty")

    return make


def final(case: Path) -> np.ndarray:
    return run(read_case(case), progress=False)["u"].isel(time=-1, member=0).values


def test_a_plugin_imports_its_neighbours_and_nothing_else_sees_them(tmp_path, neighbours):
    """Two folders have neighbours of the same names; neither `sys.path` nor the names in `sys.modules` change."""
    names = ("common", "later", "package")
    path, modules = list(sys.path), {name: sys.modules.get(name) for name in names}
    x = np.arange(16) / 16
    for folder, speed in ((tmp_path / "one", 1.0), (tmp_path / "two", 3.0)):
        np.testing.assert_allclose(
            final(neighbours(folder, speed)), np.sin(2 * np.pi * (x - 0.4 * (speed + 0.75))), atol=1e-12
        )
    assert sys.path == path and {name: sys.modules.get(name) for name in names} == modules


def test_a_neighbour_shadows_no_installed_module(tmp_path, neighbours):
    code = "import json\nimport numpy\nassert hasattr(json, 'dumps') and numpy is np\nFaulty = Wave\n"
    case = neighbours(tmp_path, code=code)
    for name in ("numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    final(case)


@pytest.mark.parametrize(
    "file", ["common.py", "later.py", "package/__init__.py", "package/deep.py", "package/inner.py"]
)
def test_an_edit_of_a_neighbour_changes_the_plugin_and_the_key_of_its_reference(file, tmp_path, neighbours):
    """Within one process, with an edit of equal length in the same second; undone, the key is the old one again."""
    case = neighbours(tmp_path)
    case.write_text(case.read_text() + REFERENCE)
    (tmp_path / "unrelated.py").write_text("X = 1\n")

    def key() -> str:
        return reference_request(read_case(case)).directory().name

    before, content = key(), (tmp_path / file).read_text()
    (tmp_path / "unrelated.py").write_text("X = 2\n")
    assert key() == before
    (tmp_path / file).write_text(content.replace("0", "1").replace("5", "6") + "#")
    assert key() != before
    (tmp_path / file).write_text(content)
    assert key() == before


def test_an_edit_within_a_second_is_seen_in_one_process(tmp_path, neighbours):
    """Equal length and equal time stamp, which bytecode caches cannot tell apart."""
    case = neighbours(tmp_path, 1.0)
    first, stamp = final(case), os.stat(tmp_path / "common.py")
    (tmp_path / "common.py").write_text("SPEED = 3.0\n")
    os.utime(tmp_path / "common.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert np.abs(final(case) - first).max() > 0.1


def test_a_class_keeps_its_identity_while_its_files_do_not_change(tmp_path, neighbours):
    """Also where one plug-in imports the file of another."""
    (neighbours(tmp_path).parent / "wave.py").rename(tmp_path / "my_wave.py")
    source = "from my_wave import Faulty, Zero\n\n\nclass Damping(Zero):\n    kind = Faulty\n"
    (tmp_path / "damping.py").write_text(source)
    equation = EQUATIONS.load("my_wave.py:Faulty", tmp_path)
    closure = CLOSURES.load("damping.py:Damping", tmp_path)
    assert EQUATIONS.load("my_wave.py:Faulty", tmp_path) is equation and closure.kind is equation
    (tmp_path / "damping.py").write_text(source + "# edited\n")
    assert CLOSURES.load("damping.py:Damping", tmp_path) is not closure
    (tmp_path / "damping.py").write_text(source)
    assert CLOSURES.load("damping.py:Damping", tmp_path) is closure


# -- options, the working directory, what identifies a plug-in ----------------------------------------------------


def test_only_declared_paths_become_absolute(tmp_path, plugin_case):
    """Files named as values of other options change nothing, wherever the option is."""
    code = """
from pydantic import BaseModel

class Inner(BaseModel):
    file: Path
    word: str

class Faulty(Zero):
    file: Path
    files: tuple[Path, ...] = ()
    word: str = ""
    inner: Inner | None = None

class Table(Sine):
    table: Path
    word: str = ""
"""
    case = plugin_case(tmp_path, code)
    for name in ("linear", "constant", "none", "stop", "etdrk4", "sine", "word"):
        (tmp_path / name).touch()
    text = case.read_text().replace('wave.py:Sine"', 'wave.py:Table"\ntable = "x.npz"\nword = "word"')
    case.write_text(
        text
        + 'hold = "linear"\nfile = "x"\nfiles = ["a", "/b"]\nword = "word"\ninner = { file = "y", word = "word" }\n'
    )
    resolved = read(case).resolved()
    closure, here = resolved["closure"][0], str(tmp_path)
    assert (closure["hold"], closure["word"], closure["inner"]["word"]) == ("linear", "word", "word")
    assert (closure["file"], closure["inner"]["file"]) == (f"{here}/x", f"{here}/y")
    assert closure["files"] == [f"{here}/a", "/b"]
    assert (resolved["initial"]["table"], resolved["initial"]["word"]) == (f"{here}/x.npz", "word")


def test_weights_are_a_file_beside_the_case_or_a_name(tmp_path, plugin_case):
    code = """
from subgrid.closures.learning.learned_closure import LearnedClosure

class Faulty(LearnedClosure):
    method: ClassVar = "m"
    start = Zero.start
    __call__ = Zero.__call__
"""
    case = plugin_case(tmp_path, code)
    case.write_text(case.read_text() + 'weights = "w.safetensors"\n')
    assert read(case).resolved()["closure"][0]["weights"] == "w.safetensors"
    (tmp_path / "w.safetensors").touch()
    assert read(case).resolved()["closure"][0]["weights"] == str(tmp_path / "w.safetensors")


@pytest.mark.parametrize("where", ["import", "state", "call"])
@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_plugin_that_changes_the_directory_breaks_no_relative_path(
    where, command, tmp_path, monkeypatch, capsys, plugin_case
):
    work, away = tmp_path / "work", tmp_path / "away"
    for folder in (work, away):
        folder.mkdir()
    move = f"os.chdir({str(away)!r})"
    code = f"""
{move if where == "import" else ""}

class Moving(Sine):
    def state(self, equation, grid, members, seed, folder=None):
        {move if where == "state" else "pass"}
        return super().state(equation, grid, members, seed, folder)

class Faulty(Zero):
    def __call__(self, view, memory):
        {move if where == "call" else "pass"}
        return super().__call__(view, memory)
"""
    case = plugin_case(work, code)
    text = case.read_text().replace("wave.py:Sine", "wave.py:Moving")
    case.write_text(text + REFERENCE + '\n[compare]\nclosures = [{ path = "wave.py:Faulty" }]\nfrontier = false\n')
    monkeypatch.chdir(work)
    assert execute([command, "case.toml", "--out", "out"]) == DONE, capsys.readouterr().err
    assert not list(away.iterdir())
    expected = "summary.json" if command == "run" else "metrics.json"
    assert (work / "out" / expected).is_file()


def test_the_key_of_a_plugin_covers_the_files_that_its_options_name(tmp_path, plugin_case):
    code = "class Faulty(Sine):\n    table: Path\n"
    case = plugin_case(tmp_path, code, initial="Faulty")
    case.write_text(case.read_text().replace('Faulty"', 'Faulty"\ntable = "t.txt"'))
    (tmp_path / "t.txt").write_text("1")
    first = describe_initial(read_case(case).initial)
    (tmp_path / "t.txt").write_text("2")
    second = describe_initial(read_case(case).initial)
    assert first["table"]["path"] == second["table"]["path"] == "t.txt"
    assert first["table"]["sha256"] != second["table"]["sha256"]


def test_the_key_of_a_stepper_of_a_package_covers_its_code(tmp_path, monkeypatch):
    """Of an installed package, all its Python files; a stepper that ships is its name."""
    package, info = tmp_path / "my_steppers", tmp_path / "my_steppers-0.1.dist-info"
    for folder in (package, info):
        folder.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text("SOURCE = 'Kutta'\n")
    (package / "tables.py").write_text(
        "from subgrid.solver.time_stepping.schemes import explicit\nfrom .data import SOURCE\n"
        "TABLE = explicit('mine', 2, ((), (1.0,)), (0.5, 0.5), SOURCE)\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-steppers\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[subgrid.steppers]\nmine = my_steppers.tables:TABLE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = describe_stepper("mine")
    assert isinstance(before, dict) and before["name"] == "mine"
    (package / "data.py").write_text("SOURCE = 'Heun'\n")
    assert describe_stepper("mine") != before
    assert describe_stepper("rk4") == "rk4"


def test_the_description_of_an_equation_that_ships_has_no_hash():
    assert "plugin" not in describe_equation(EQUATIONS.find("burgers")(viscosity=0.1))
