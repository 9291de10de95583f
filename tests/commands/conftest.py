"""Commands in processes of their own, whose memory is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def in_a_process_of_its_own() -> Callable[..., subprocess.CompletedProcess]:
    return measured


def measured(*arguments: str) -> subprocess.CompletedProcess:
    """A command, with the largest memory of its process in KiB as the last line of standard error.

    VmHWM is of the program alone. ru_maxrss would include the process of the tests, from which the child was forked.
    """
    code = (
        "import sys; from subgrid.commands.cli import execute; code = execute(sys.argv[1:]); "
        "lines = open('/proc/self/status', encoding='utf-8').read().splitlines(); "
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done
