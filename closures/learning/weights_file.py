"""Weights on disk: safetensors with a JSON header that says what they are for. Never pickle.

The header is one JSON object under the key "subgrid" of the safetensors metadata: it is read without the tensors. Its
entry "crc32" holds the CRC-32 of the other entries and of the tensors, which are compared when the file is read. Files
without this entry, from versions that did not write it, are read too.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from subgrid.solver.backend.files import LARGEST, replace

KEY = "subgrid"
CHECKSUM = "crc32"
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
    damaged, was not written by `save`, lacks a key of `REQUIRED`, holds weights of another closure than `method`, or
    holds numbers that are not finite.
    """
    header = load_header(path, method)
    with _trained_again():
        tensors, _ = read_tensors(path)
        for name, array in tensors.items():
            if array.dtype.kind in "fc" and not np.isfinite(array).all():
                raise ValueError(f"{path}: the tensor {name} holds values that are not finite")
    return tensors, header


def load_header(path: str | os.PathLike[str], method: str | None = None) -> dict[str, Any]:
    """The header of a file written by `save`; reads no tensor. Raises as `load` does."""
    with _trained_again():
        header = read_header(path)
        _require(path, header)
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
        plain = json.loads(json.dumps(header, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the header is not JSON ({error})") from error
    contiguous = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    checksums = {CHECKSUM: [_header_checksum(plain), _checksum(contiguous)]}
    replace(path, to_bytes(contiguous, metadata={KEY: json.dumps(plain | checksums, sort_keys=True)}))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read (tensors, header) of a file written by `write_tensors`.

    Raises FileNotFoundError, and ValueError for a file that is damaged or was written by another program.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        header, known = _header(path, file)
        if known not in (None, _checksum(tensors)):
            raise ValueError(f"{path} is damaged: its tensors are not those that were written")
        return tensors, header


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a file written by `write_tensors`; reads no tensor. Raises as `read_tensors` does."""
    with _opened(path) as file:
        return _header(path, file)[0]


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file")
    if (size := os.path.getsize(path)) > LARGEST:  # of the tensors and their header, which are not compressed
        raise ValueError(f"{path}: {size / 1e9:.3g} GB, more than the {LARGEST / 1e9:.3g} GB of the largest weights")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error


def _header(path: str | os.PathLike[str], file: Any) -> tuple[dict[str, Any], int | None]:
    """The header, and the checksum of the tensors."""
    try:
        header = json.loads((file.metadata() or {}).get(KEY, ""))
    except (json.JSONDecodeError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: not written by subgrid (no readable header {KEY!r})")
    if CHECKSUM not in header:
        return header, None
    match header.pop(CHECKSUM):
        case [int(own), int(tensors)] if own == _header_checksum(header):
            return header, tensors
    raise ValueError(f"{path} is damaged: its header is not the one that was written")


def _header_checksum(header: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())


def _checksum(tensors: dict[str, np.ndarray]) -> int:
    """CRC-32 of the tensors in the order of their names, with their names, types and shapes."""
    found = 0
    for name, array in tensors.items():
        found = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), found)
        found = zlib.crc32(array.tobytes(), found)
    return found


@contextmanager
def _trained_again() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}. Remedy: train the closure again with `subgrid train`") from error


@contextmanager
def using(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error in code that uses the contents of a weights file into a ValueError that names file and remedy.

    For headers with wrong entries, and tensors that are missing or have wrong shapes.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, RuntimeError, ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        with _trained_again():
            raise ValueError(f"{path} does not contain what its closure needs ({reason})") from error


def _require(path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
    missing = [key for key in REQUIRED if key not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
