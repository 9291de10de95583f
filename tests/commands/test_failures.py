"""Failures that are not the package's: one message, the promised exit code (2 before a run, 3 in it), no traceback."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from subgrid.commands import cli, failures
from subgrid.solver.simulation.record import Record

WAVE: dict[str, Any] = {
    "title": "a wave",
    "equation": {"name": "advection", "speed": 1.0},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.4, "step": 0.1, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "output": {"every": 0.1},
}
COMMAND = [sys.executable, "-c", "from subgrid.commands.entry import main; main()"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    (tmp_path / "wave.toml").write_text(tomli_w.dumps(WAVE))
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def message(capsys, code: int, *arguments: str) -> str:
    """The one message of a command that must end with this code; on 2 nothing has been written."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert cli.execute(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("subgrid: ") and err.count("subgrid: ") == 1 and "Traceback" not in err
    assert code != cli.MISTAKE or sorted(Path().rglob("*")) == before
    return err


def started(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, errors="surrogateescape", **options
    )


def to_file(out: str) -> list[list[str]]:
    """The commands that write one file."""
    return [
        ["check", "wave.toml", "--out", out],
        ["schema", "--out", out],
        ["data", "wave.toml", "--out", out],
        ["train", "wave.toml", "--closure", "regression", "--out", out],
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "wave.toml", "--out", "x" * 300], "the name is too long"),
        (["run", "wave.toml", "--out", "wave.toml/run"], "a part of this path is a file"),
        (["run", "wave.toml", "--out", "circle/run"], "symbolic links in a circle"),
        (["check", "wave.toml", "--out", "."], "is a folder, expected a file"),
        (["check", "wave.toml", "--out", "absent/file.toml"], "there is no folder absent"),
        *((verb, "is a device or a pipe, expected a file") for verb in to_file("pipe")),
        *((verb, "is a symbolic link, which is not followed") for verb in to_file("link")),
        (["schema", "--out", "."], "is a folder, expected a file"),
        (["new", "case", "mine", "--out", "wave.toml"], "Remedy: "),
        (["resume", "x" * 300], "Remedy: "),
        (["report", "circle"], "Remedy: "),
        (["check", "x" * 5000], "Remedy: |there is no such file"),
        (["check", "wave.toml", "--set", 'equation.path="/etc/passwd:x"', "--set", "equation.name=x"], "equation"),
        (["check", "wave.toml", "--backend", "torch:meta"], "'torch:meta' is not available here.*torch:cpu"),
        (["check", "wave\0.toml"], "is not UTF-8 text"),
        (["check", "caf\udce9.toml"], r"caf\\udce9.*is not UTF-8 text"),
        (["check", "wave.toml", "--set", "time.end=" + "9" * 5000], "--set: 1 mistake"),
        (["check", "wave.toml", "--set", "time.end=" + "[" * 5000], "--set.*nested too deeply"),
        (["check", "wave.toml", "--set", "a." * 5000 + "b=1"], "--set"),
        (["check", "wave.toml", "--set", 'title="a\\u0000b"'], "title: expected text.*NUL"),
    ],
)
def test_paths_and_options_that_the_system_or_the_case_cannot_take(arguments, words, place, capsys):
    import re

    (place / "circle").symlink_to("circle")
    (place / "link").symlink_to("wave.toml")
    os.mkfifo(place / "pipe")
    err = message(capsys, cli.MISTAKE, *arguments)
    assert re.search(words, err, re.DOTALL), err
    assert all(len(line) < 1000 for line in err.splitlines())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a" + ".a" * 5000 + " = 1", "nested too deeply"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("[" + ".".join("a" * 300) + "]", "nested too deeply"),
        ("title = " + "9" * 5000, "not TOML"),
        ("x = " + "9" * 40, "x: expected an integer of 64 bits, found 99999"),
        ("[[closure]]\nname = 'leith'\n" * 20_000, "closure: expected at most 100 entries, found 20000"),
        ('compare = { closures = ["leith"' + ', "leith"' * 200 + "] }", "compare.closures: expected at most 100"),
        ("[grid]\nshape = [" + "8, " * 5000 + "]", "grid.shape: expected at most 1000 entries"),
        (f'title = "{"x" * 20_000}"', "title: expected at most 10000 characters"),
        (f'"{"x" * 20_000}" = 1', "is no name of at most 200 characters"),
        ('[initial]\nkind = "file"\npath = "a\\u0000b"', "initial.path: expected text, found 'a.x00b'"),
        ("\n".join(f"k{i} = {i}" for i in range(900)), "and 8.. more"),
        ("#" * 2_000_000, "it has 2 MB"),
    ],
)
def test_a_case_out_of_bounds_is_refused_before_anything_reads_it(text, words, place, capsys):
    import re

    (place / "case.toml").write_text(text)
    err = message(capsys, cli.MISTAKE, "run", "case.toml", "--out", "run")
    assert re.search(words, err), err[:2000]
    assert len(err) < 50_000


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), MemoryError("8 GB")])
def test_a_failure_of_the_machine_within_a_run_ends_with_3_and_keeps_what_there_is(error, place, capsys, monkeypatch):
    written = Record.write_frame

    def failing(self, index, *rest):
        if index == 2:
            raise error
        written(self, index, *rest)

    monkeypatch.setattr(Record, "write_frame", failing)
    err = message(capsys, cli.FAILED, "run", "wave.toml", "--out", "run")
    assert "full" in err and "Remedy: " in err and ("--out run" in err or isinstance(error, MemoryError))
    kept = np.asarray(Record(place / "run").dataset()["u"])
    assert np.isfinite(kept[:2]).all() and np.isnan(kept[2:]).all()


@pytest.mark.parametrize("number", [n for n in failures.SYSTEM if n != errno.EIO])
def test_every_error_of_the_system_has_a_message_with_the_file_and_a_remedy(number):
    error = OSError(number, os.strerror(number), "results/fields")
    failures.underway.clear()
    code, text = failures.explain(error, "subgrid run case.toml")
    assert code == cli.MISTAKE and text.startswith("results/fields: ") and "Remedy: " in text
    failures.underway.set()
    code, text = failures.explain(OSError(number, os.strerror(number)), "subgrid run case.toml")
    assert code == cli.FAILED and text.startswith("`subgrid run case.toml`: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit(0), cli.FAILED),
        (MemoryError(), cli.MISTAKE),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), cli.MISTAKE),
        (RuntimeError("can't start new thread"), cli.MISTAKE),
        (RecursionError(), cli.MISTAKE),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), cli.MISTAKE),
        (ValueError("wrong"), cli.MISTAKE),
        (ZeroDivisionError(), None),
        (RuntimeError("ours"), None),
    ],
)
def test_every_class_of_failure_has_its_exit_code(error, code):
    failures.underway.clear()
    assert (failures.explain(error, "subgrid") or (None,))[0] == code


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        (resource.RLIMIT_FSIZE, 100, "larger than the system allows"),
        (resource.RLIMIT_NOFILE, 9, "too many files are open"),
    ],
)
def test_limits_of_the_process_give_one_message(limit, value, words, place):
    done = started("run", "wave.toml", "--out", "run", preexec_fn=lambda: resource.setrlimit(limit, (value, value)))
    assert done.returncode in (cli.MISTAKE, cli.FAILED), done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_full_or_closed_standard_output_is_no_traceback(place):
    with Path("/dev/full").open("w") as full:  # opened here: a command is never given the name of a device
        done = subprocess.run([*COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("subgrid: ")) == (cli.MISTAKE, 1) and "the disk is full" in done.stderr
    for closed in ("schema | head -c 1", "check wave.toml >&-", "check absent.toml 2>&-"):
        line = " ".join(["python", "-c", f"'{COMMAND[2]}'", closed])
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        shell = ["bash", "-o", "pipefail", "-c", line]
        done = subprocess.run(shell, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == (cli.MISTAKE if "absent" in closed else cli.DONE), (closed, done.stderr)
        assert done.stderr == ""


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_without_a_character_shows_its_escape(locale, place):
    (place / "日本α.toml").write_text(tomli_w.dumps(WAVE))
    done = started("check", "日本α.toml", env=os.environ | locale)
    assert done.returncode == cli.DONE and done.stdout == "\\u65e5\\u672c\\u03b1.toml: valid\n", done.stderr
    done = started("check", "日α.toml", env=os.environ | locale)
    assert done.returncode == cli.MISTAKE and "\\u65e5\\u03b1.toml: 1 mistake" in done.stderr


@pytest.mark.parametrize("value", ["0", "abc", "-1", "1.5", "²", "9" * 30])
def test_a_wrong_number_of_threads_is_named_before_anything_is_written(value, place, capsys, monkeypatch):
    monkeypatch.setenv("SUBGRID_THREADS", value)
    for command in (["run", "wave.toml", "--out", "run"], ["check", "wave.toml"], ["resume", "absent"]):
        err = message(capsys, cli.MISTAKE, *command)
        assert "SUBGRID_THREADS: expected a whole number >= 1" in err and "Remedy: unset it" in err


def test_without_a_home_directory_the_cache_is_asked_for(place, monkeypatch, capsys):
    from subgrid.ingest import cache

    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    reference = {"shape": [32], "initial": {"kind": "sine"}}
    (place / "wave.toml").write_text(tomli_w.dumps(WAVE | {"initial": {"kind": "reference"}, "reference": reference}))
    monkeypatch.delenv("SUBGRID_CACHE")
    monkeypatch.setattr(Path, "expanduser", homeless)
    cache._absolute.cache_clear()
    assert "Remedy: set SUBGRID_CACHE" in message(capsys, cli.MISTAKE, "data", "wave.toml")


def test_controls_in_titles_names_and_paths_are_escaped_on_the_terminal(place, capsys):
    (place / "a\x1b[31m\u202e.toml").write_text(tomli_w.dumps(WAVE | {"title": "\x1b]0;x\x07", "\x1b[2J": 1}))
    err = message(capsys, cli.MISTAKE, "check", "a\x1b[31m\u202e.toml")
    assert "\x1b" not in err and "\u202e" not in err and r"a\x1b[31m\u202e.toml" in err and r"\x1b[2J" in err
    (place / "a\x1b[31m.toml").write_text(tomli_w.dumps(WAVE))
    capsys.readouterr()
    assert cli.execute(["check", "a\x1b[31m.toml"]) == cli.DONE
    assert capsys.readouterr().out == "a\\x1b[31m.toml: valid\n"
