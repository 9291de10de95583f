"""Tensors of small files: the leading rows in half precision, the others in whole numbers of a step of their own.

A row of small energy needs few digits: an error of 1 % of the tail, which is 1 % of the whole, is an error of 1e-4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 127


def packed(name: str, rows: NDArray, exact: int) -> dict[str, NDArray]:
    """The first `exact` rows (row, ...) as float16 times a factor of the row, the others as int8 times one."""
    rows = np.asarray(rows, dtype=np.float32)
    flat = rows.reshape(len(rows), -1)
    step = np.abs(flat).max(axis=1)
    step[step == 0] = 1.0
    step[exact:] /= LEVELS
    scaled = flat / step[:, None]
    shape = (-1, *rows.shape[1:])
    return {
        f"{name}.leading": scaled[:exact].astype(np.float16).reshape(shape),
        f"{name}.others": np.rint(scaled[exact:]).astype(np.int8).reshape(shape),
        f"{name}.step": step.astype(np.float32),
    }


def unpacked(name: str, arrays: dict[str, NDArray]) -> NDArray[np.float32]:
    """The rows of `packed`."""
    parts = [arrays[f"{name}.leading"].astype(np.float32), arrays[f"{name}.others"].astype(np.float32)]
    rows = np.concatenate(parts)
    return rows * arrays[f"{name}.step"].reshape(-1, *([1] * (rows.ndim - 1)))
