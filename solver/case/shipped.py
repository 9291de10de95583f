"""The cases that ship with the package, which commands find by name."""

from __future__ import annotations

import difflib
import importlib
import tomllib
from pathlib import Path

from .mistakes import CaseError

SUFFIX = ".toml"


def folder() -> Path:
    """The folder of the cases that ship, in the checkout or where the package is installed."""
    return Path(importlib.import_module("subgrid.cases").__path__[0])


def shipped_cases() -> dict[str, str]:
    """name -> title of every case that ships, in alphabetical order."""
    files = sorted(folder().glob(f"*{SUFFIX}"))
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8"))["title"] for file in files}


def case_file(path: Path) -> Path:
    """The file of a case: `path` if there is such a file, else the case of this name that ships.

    Raises CaseError, with the nearest names of cases that ship, if there is neither.
    """
    if path.is_file():
        return path
    names = [file.stem for file in sorted(folder().glob(f"*{SUFFIX}"))]
    if str(path) in names:
        return folder() / f"{path}{SUFFIX}"
    near = difflib.get_close_matches(path.name.removesuffix(SUFFIX), names, n=3)
    known = ", ".join(near) if near else "`subgrid list` shows them"
    raise CaseError(str(path), [f"there is no such file. Remedy: check the path, or name a case that ships: {known}"])
