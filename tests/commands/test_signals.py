"""SIGINT and SIGTERM at any moment: exit 130, one message, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from subgrid.commands import progress

CASE = Path(__file__).parents[2] / "cases" / "kolmogorov-demo.toml"
COMMAND = """
import sys
import subgrid.commands.entry as entry
import signal
real = signal.signal
def announcing(*arguments):
    found = real(*arguments)
    if arguments[0] == signal.SIGTERM:
        signal.signal = real
        print("handled", flush=True)
    return found
signal.signal = announcing
entry.main()
"""


def stopped(folder: Path, number: int, delay: float, *arguments: str, times: int = 1) -> tuple[int, str]:
    """(exit code, standard error) of a command that gets a signal `delay` after its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"SUBGRID_CACHE": str(folder / "cache"), "NUMBA_CACHE_DIR": str(folder / "kernels")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout and process.stdout.readline()
    time.sleep(delay)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4, 1.0, 2.5, 6.0])
def test_a_signal_during_imports_set_up_and_compilation_ends_the_command(number, delay, tmp_path):
    """The kernels are not in the cache, so that the later moments lie in compilation or the reference run."""
    code, err = stopped(tmp_path, number, delay, "compare", str(CASE), "--out", "compared")
    assert code == 130, err
    assert err.count("subgrid: interrupted") == 1 and "Traceback" not in err and "Exception ignored" not in err


def test_a_second_signal_ends_a_run_at_once(tmp_path):
    """The run would take hours."""
    long = ("run", str(CASE), "--set", "time.end=100000", "--set", "output.every=100", "--out", "run")
    code, err = stopped(tmp_path, signal.SIGINT, 5.0, *long, times=2)
    assert code == 130 and err.count("subgrid: interrupted") == 1 and "Traceback" not in err


def test_a_second_signal_in_python_is_a_keyboard_interrupt_and_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt), progress.interruptible() as asked:
            signal.raise_signal(number)
            assert asked.is_set()
            signal.raise_signal(number)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


COMPILED = """
import contextlib, hashlib, sys
from subgrid.commands import entry, progress
entry.handle_signals()
with progress.interruptible() if {run} else contextlib.nullcontext():
    print("handled", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2 * 10**8)  # minutes without an instruction of Python
"""


@pytest.mark.parametrize(("run", "times"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_compiled_code_ends_the_command_as_well(number, run, times, tmp_path):
    """Python runs its handlers when the compiled code returns; a run is ended by the second signal."""
    program = [sys.executable, "-c", COMPILED.format(run=run)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout and process.stdout.readline()
    for _ in range(times):
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err.decode().count("subgrid: interrupted") == 1
