"""`subgrid check`: what a case contains, without running it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from subgrid.solver.backend import select
from subgrid.solver.backend.files import replace
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case
from subgrid.solver.case.unimported import check_without_imports


def check(case: Path, overrides: Iterable[str], out: Path | None, imports: bool) -> tuple[dict[str, Any], list[str]]:
    """The tables of a case, and the files of plug-ins that were not imported; see `check_without_imports`.

    imports: import the files that the case names by `path`, which executes their code, and check the plug-ins in them;
    the list of files is then empty. out: a file for the case with every default. Raises CaseError, and ValueError if
    `out` is wanted and the defaults of a plug-in are not known.
    """
    tables, files = (read(case, overrides).resolved(), []) if imports else check_without_imports(case, overrides)
    select(tables.get("backend", "numpy"))
    if out is not None:
        if files:
            raise ValueError(f"{case}: --out needs the defaults of plug-ins in {', '.join(files)}. Remedy: --import")
        import tomli_w

        replace(out, tomli_w.dumps(tables).encode())
    return tables, files


def memory_of(case: Case, wanted: bool, closure: str | None, objective: str, unroll: int | None) -> dict[str, str]:
    """The peak memory of `run`, of `data`, and of `train` if a closure is given, in words.

    Raises ValueError, with the number, for what does not fit into this machine, for a closure without `wanted`, and for
    options of a training without a closure.
    """
    if closure is None and (unroll is not None or objective != "one-step"):
        raise ValueError("--objective and --unroll: of the training of a closure. Remedy: --memory --closure NAME")
    if not wanted:
        raise ValueError(f"--closure {closure}: whose memory --memory predicts. Remedy: --memory")
    from .memory import needs
    from .train import memory_of as memory_of_training

    found = needs(case)
    if closure is not None:
        found[f"training of {closure}"] = memory_of_training(case, closure, objective, unroll)
    return found
