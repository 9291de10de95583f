"""Versions, machine and git revision, for summaries and reports."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Versions, machine and git revision, for summaries and reports, asked for once in a process."""
    return {
        "versions": dict(_versions()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git": _revision(),
    }


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("subgrid", "numpy", "scipy", "numba", "torch", "pyfftw", "ducc0", "xarray", "zarr"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return tuple(versions.items())


@cache
def _revision() -> str | None:
    """Git revision of the checkout that contains this file, or None if it is not tracked by git."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
        )
        tracked = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 and tracked.returncode == 0 else None
