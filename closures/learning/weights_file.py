"""Weights on disk: safetensors with a JSON header that says what they are for. Never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

KEY = "subgrid"
REQUIRED = (
    "closure",
    "version",
    "equation",
    "fields",
    "shape",
    "length",
    "normalisation",
    "training_case",
    "training_command",
    "seeds",
    "scores",
)


def save(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write a closure's weights: equal tensors and headers give equal bytes, in one replacement of the file.

    `header` must hold the keys of `REQUIRED`, and may hold more; every value must be JSON (finite numbers).
    Raises ValueError for a missing key, naming it, and for a header that is not JSON.
    """
    _require(path, header)
    write_tensors(path, tensors, header)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read (tensors, header) of a file written by `save`.

    Raises FileNotFoundError if there is no such file, and ValueError, with the path and the remedy, for a
    file that is corrupt, was not written by `save`, or lacks a key of `REQUIRED`.
    """
    try:
        tensors, header = read_tensors(path)
        _require(path, header)
    except ValueError as error:
        raise ValueError(f"{error}; train the closure again with `subgrid train`") from error
    return tensors, header


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as safetensors, beside `path` and then in its place.

    A reader, or a process that is killed half way, sees the old file or the new one. Raises ValueError for a
    header that is not JSON.
    """
    path = Path(path)
    try:
        encoded = json.dumps(header, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the header is not JSON ({error})") from error
    contiguous = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(to_bytes(contiguous, metadata={KEY: encoded}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read (tensors, header) of a file written by `write_tensors`.

    Raises FileNotFoundError, and ValueError for a file that is corrupt or written by something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
    try:
        header = json.loads(metadata.get(KEY, ""))
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: not written by subgrid (no readable header {KEY!r})")
    return tensors, header


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors, header) of a training's checkpoint, whose header must hold this `identity`.

    Raises ValueError, with the remedy, for a damaged file, and for one of another training, saying what differs.
    """
    remedy = f"train in another directory, or delete {path}"
    try:
        tensors, header = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from error
    held = header.get("identity", {})
    if differing := [name for name in identity if held.get(name) != identity[name]]:
        raise ValueError(f"{path.parent} holds another training ({', '.join(differing)} differ): {remedy}")
    return tensors, header


def _require(path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
    missing = [key for key in REQUIRED if key not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
