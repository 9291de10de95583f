"""Progress bars."""

import io

import numba
from rich.console import Console

from subgrid.commands import progress


def test_compilation_is_shown_with_the_name_of_the_kernel_and_not_a_second_time(monkeypatch):
    @numba.njit
    def cube_of_a_number(x):
        return x * x * x

    def shown() -> str:
        monkeypatch.setattr(progress, "console", Console(file=io.StringIO(), force_terminal=True, width=100))
        with progress.Bars() as bars:
            cube_of_a_number(2.0)
            bars(1, 1, "steps")
        return progress.console.file.getvalue()

    first, second = shown(), shown()
    assert progress.COMPILING in first and "cube_of_a_number" in first
    assert "steps" in second and progress.COMPILING not in second
