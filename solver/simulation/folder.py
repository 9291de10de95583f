"""Run folders: what they must and must not contain, and whether the inputs of the run are those of its start."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..backend.files import DamagedFile, read_json
from ..case.inputs import differences, with_contents

COMPARISON = "comparison.json"  # marks the folder of a comparison, which is no run
STARTING = ".starting"  # marks a folder whose layout is not complete; without case.toml such a folder counts as empty
FILES = ("case.toml", "inputs.json", "log.jsonl", "summary.json", "guard.npz", "checkpoint/state.npz")
FOLDERS = ("checkpoint", "fields.zarr")
UNUSED = ("compare", "train", "training", "sweep", "expected")  # tables whose files a run does not read
UNUSED_IN_COMPARISONS = ("train", "training", "expected")


class RunFolderError(ValueError):
    """The folder is not vacant, is in use by another process, or does not hold an intact run with its inputs."""


def require_vacant(folder: Path) -> None:
    """Raise RunFolderError unless the folder is absent, empty, or left by a run that was killed before it began."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if (folder / STARTING).is_file() and not (folder / "case.toml").exists():
        require_no_links(folder)
        return
    raise RunFolderError(f"{folder} is not empty; every run needs its own folder. Remedy: choose another --out")


def require_no_links(folder: Path) -> None:
    """Raise RunFolderError if there is a symbolic link in the folder: whatever is written through it lies elsewhere."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(path := os.path.join(place, name)):
                raise RunFolderError(
                    f"{path} is a symbolic link, which is not followed. Remedy: put the file in its place"
                )


def require_kinds(folder: Path) -> None:
    """Raise RunFolderError if a folder is in the place of a file, or the reverse."""
    for names, what, fits in ((FILES, "file", Path.is_file), (FOLDERS, "folder", Path.is_dir)):
        for path in (folder / name for name in names):
            if path.exists() and not fits(path):
                raise RunFolderError(f"{path} is not a {what}. Remedy: move it elsewhere")


def stored_inputs(folder: Path) -> dict[str, Any] | None:
    """The inputs of a run when it began; None for a run of a version that did not store them. Raises RunFolderError."""
    path = folder / "inputs.json"
    if not path.exists():
        return None
    remedy = f"Remedy: delete {path}; the inputs are then not compared"
    try:
        found = read_json(path)
    except DamagedFile as error:
        raise RunFolderError(f"{error}. {remedy}") from None
    kinds = {"case": dict, "ends": list, "references": dict}
    fits = isinstance(found, dict) and all(isinstance(found.get(k), kind) for k, kind in kinds.items())
    if not fits or not all(isinstance(end, (int, float)) for end in found["ends"]):
        raise RunFolderError(f"{path} is not a record of the inputs of a run. {remedy}")
    return found


def require_inputs(folder: Path) -> None:
    """Raise RunFolderError, naming what changed, unless the case and the files that it names are those of the start.

    Imports no plug-in. Compares nothing for a run of a version that did not store its inputs.
    """
    before, path = stored_inputs(folder), folder / "case.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        remedy = "start a new run" if before is None else f"restore it; `case` in {folder / 'inputs.json'} is a copy"
        raise RunFolderError(f"{path} is not TOML ({error}). Remedy: {remedy}") from None
    if before is None:
        return
    case, span = before["case"], tables.get("time")
    if isinstance(span, dict) and isinstance(case.get("time"), dict) and span.get("end") in before["ends"]:
        case = case | {"time": case["time"] | {"end": span["end"]}}
    unused = UNUSED_IN_COMPARISONS if (folder / COMPARISON).exists() else UNUSED
    _require_equal(folder, case, _with_contents(tables, unused))


def require_reference(folder: Path, reference: Path | None, extended: bool) -> None:
    """Raise RunFolderError unless the reference is that of the start; a run that is extended has a longer one.

    reference: the folder of its trajectories. Nothing is compared where it is not recorded, now or at the start.
    """
    before = stored_inputs(folder)
    if (
        before is None
        or reference is None
        or not before["references"]
        or (extended and reference.name not in before["references"])
    ):
        return
    known, now = before["references"], {reference.name: with_contents(os.path.abspath(reference))}
    _require_equal(folder, {k: v for k, v in known.items() if k in now} or known, now, "reference")


def case_inputs(
    tables: Mapping[str, Any], reference: Path | None = None, unused: tuple[str, ...] = UNUSED
) -> dict[str, Any]:
    """What a run depends on, as JSON: its tables with the hashes of the files that they name, and its reference.

    reference: the folder of the trajectories, whose name is the hash of what they depend on. unused: tables whose files
    are not read.
    """
    references = {} if reference is None else {reference.name: with_contents(os.path.abspath(reference))}
    return {"case": _with_contents(tables, unused), "ends": [tables["time"]["end"]], "references": references}


def _with_contents(tables: Mapping[str, Any], unused: tuple[str, ...]) -> dict[str, Any]:
    return {k: v if k in unused else with_contents(v) for k, v in tables.items()}


def _require_equal(folder: Path, before: Any, now: Any, key: str = "") -> None:
    if changes := differences(before, now, key):
        listed = "\n".join(f"  {change}" for change in changes)
        compared = (folder / COMPARISON).exists()
        what = "comparison" if compared else "run"
        began = f"{folder}: the inputs differ from those with which the {what} began\n{listed}\nRemedy: restore them"
        if compared:
            raise RunFolderError(f"{began}, or make a new comparison")
        raise RunFolderError(
            f"{began} (a later end is given by --until), or start a new run, which may begin from the "
            f'outputs of this one: initial = {{ kind = "run", path = "{folder}" }}'
        )
