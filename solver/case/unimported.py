"""Checks of a case that execute none of its code: files that it names by `path` are not imported."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..equations.plugins import without_imports
from .reading import check, checked_tables, overridden
from .shipped import case_file


def check_without_imports(path: Path, overrides: Iterable[str] | None = None) -> tuple[dict[str, Any], list[str]]:
    """The tables of a TOML file, checked as by `read` but for plug-ins that are named by `path`, and their files.

    If the case names no such file, the tables are those of `Case.resolved`, with every default; else they are as
    written, with absolute paths. Raises CaseError with every mistake found.
    """
    file = case_file(path)
    with without_imports() as files:
        data = overridden(file, overrides)
        checked = checked_tables(data, str(path), Path(os.path.abspath(file.parent)))
        return (checked, files) if files else (check(data, str(path), file.parent).resolved(), files)
