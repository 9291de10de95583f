"""Weights on disk: safetensors with a JSON header that says what they are for. Never pickle.

The header is one JSON object under the key "subgrid" of the safetensors metadata: it is read without the tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from subgrid.solver.backend.files import replace

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
    """Write the weights of a closure: equal tensors and headers give equal bytes, and the file is replaced at once.

    `header` must hold the keys of `REQUIRED`, and may hold more; every value must be JSON (finite numbers).
    Raises ValueError for a missing key, naming it, and for a header that is not JSON.
    """
    _require(path, header)
    write_tensors(path, tensors, header)


def load(path: str | os.PathLike[str], method: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read (tensors, header) of a file written by `save`.

    Raises FileNotFoundError if there is no such file, and ValueError, with the path and the remedy, for a file that is
    damaged, was not written by `save`, lacks a key of `REQUIRED`, or holds weights of another closure than `method`.
    """
    header = load_header(path, method)
    return read_tensors(path)[0], header


def load_header(path: str | os.PathLike[str], method: str | None = None) -> dict[str, Any]:
    """The header of a file written by `save`; reads no tensor. Raises as `load` does."""
    try:
        header = read_header(path)
        _require(path, header)
    except ValueError as error:
        raise ValueError(f"{error}; train the closure again with `subgrid train`") from error
    if method not in (None, header["closure"]):
        raise ValueError(
            f"{Path(path).name} is for the closure {header['closure']}, not for {method}. Remedy: weights of {method}"
        )
    return header


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as safetensors: to a file beside `path`, which then replaces `path`.

    A reader, or a process that is killed while it writes, finds the old file or the new one. Raises ValueError for a
    header that is not JSON.
    """
    path = Path(path)
    try:
        encoded = json.dumps(header, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the header is not JSON ({error})") from error
    contiguous = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    replace(path, to_bytes(contiguous, metadata={KEY: encoded}))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read (tensors, header) of a file written by `write_tensors`.

    Raises FileNotFoundError, and ValueError for a file that is damaged or was written by another program.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _header(path, file)  # noqa: SIM118


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a file written by `write_tensors`; reads no tensor. Raises as `read_tensors` does."""
    with _opened(path) as file:
        return _header(path, file)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error


def _header(path: str | os.PathLike[str], file: Any) -> dict[str, Any]:
    try:
        header = json.loads((file.metadata() or {}).get(KEY, ""))
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: not written by subgrid (no readable header {KEY!r})")
    return header


def _require(path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
    missing = [key for key in REQUIRED if key not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
