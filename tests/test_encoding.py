"""Text is UTF-8 in every file, whatever the locale; a byte order mark is read over."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from subgrid.solver.case.reading import read, read_case

ROOT = Path(__file__).parents[1]
CASE = """
title = "Möbius – \u6c34"

[equation]
name = "burgers"
viscosity = 0.05

[grid]
shape = [32]
length = [6.25]

[time]
end = 0.1
step = 0.01
stepper = "etdrk4"

[initial]
kind = "gaussian-random-field"
exponent = 2.5
tau = 3.0

[output]
every = 0.05
"""
TEXT_CALLS = {"read_text", "write_text", "open", "run", "Popen", "check_output", "fdopen", "NamedTemporaryFile"}


def without_encoding(source: Path) -> list[str]:
    """Calls that read or write text in the encoding of the locale."""
    found = []
    for node in ast.walk(ast.parse(source.read_bytes())):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        keywords = {k.arg: k.value for k in node.keywords}
        if name not in TEXT_CALLS or "encoding" in keywords:
            continue
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        mode = next((t for t in texts if set(t) <= set("rwaxbt+") and t), None)
        if name in ("read_text", "write_text"):
            found.append(f"{source.name}:{node.lineno} {name}")
        elif name in ("run", "Popen", "check_output"):
            if "text" in keywords or "universal_newlines" in keywords:
                found.append(f"{source.name}:{node.lineno} {name}")
        elif (name == "open" and isinstance(function, ast.Name) and "b" not in (mode or "r")) or (
            mode is not None and "b" not in mode
        ):
            found.append(f"{source.name}:{node.lineno} {name}")
    return found


def test_no_module_uses_the_encoding_of_the_locale():
    folders = ("api", "closures", "commands", "ingest", "solver", "studies")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    assert [call for source in sources for call in without_encoding(source)] == []


def test_files_of_an_ascii_locale_can_be_read_back(tmp_path):
    (tmp_path / "case.toml").write_text(CASE, encoding="utf-8")
    environment = os.environ | {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    for arguments in (
        ["check", "case.toml", "--out", "checked.toml"],
        ["run", "checked.toml", "--out", "run", "--json"],
        ["resume", "run", "--until", "0.2", "--json"],
    ):
        command = [sys.executable, "-c", "from subgrid.commands.cli import main; main()", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
    for name in ("checked.toml", "run/case.toml"):
        assert read(tmp_path / name).title == "Möbius – \u6c34"


@pytest.mark.parametrize("reader", [read, read_case])
def test_a_byte_order_mark_of_a_case_is_read_over(reader, tmp_path):
    (tmp_path / "case.toml").write_text(CASE, encoding="utf-8-sig")
    assert reader(tmp_path / "case.toml").title == "Möbius – \u6c34"
