"""Checks of the numbers: missing values, zero-filled and duplicated samples, repeated end points, means, precision.

A scan takes blocks of states in any order, and holds a few numbers for each state, so that data of any size are checked
while they are copied.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contents import TIME, TRAJECTORY, Contents, Finding

BLOCK = 2**25  # bytes of all fields that are read at a time
SAMPLE = 2**28  # bytes that are read to check data that are not copied
FILLS = (-999.0, -9999.0, -99999.0, -32768.0)
HUGE = 1e20  # the fill values of netCDF and of CF conventions are larger
SAME_END = 1e-5  # of the variation of the values at an end, in single precision
LEAST_VARIATION = 1e-5  # of a field, relative to its size, in single precision
DRIFT = 1e-5  # of a mean that is conserved, relative to the root mean square


@dataclass
class Scan:
    """What is known about the states of each field. Arrays are (field, trajectory, time)."""

    names: tuple[str, ...]
    space: tuple[str, ...]
    shape: tuple[int, int]
    arrays: dict[str, NDArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        full = (len(self.names), *self.shape)
        ends = (len(self.names), len(self.space))
        if self.arrays:
            return
        self.arrays = {
            "checksum": np.zeros(full, np.uint32),
            "mean": np.full(full, np.nan),
            "square": np.full(full, np.nan),
            "zero": np.zeros(full, bool),
            "seen": np.zeros(full, bool),
            "missing": np.zeros(full, np.int64),
            "fill": np.full(len(self.names), np.nan),
            "low": np.full(len(self.names), np.inf),
            "high": np.full(len(self.names), -np.inf),
            "end_difference": np.zeros(ends),
            "neighbours": np.zeros(ends),
            "end_low": np.full(ends, np.inf),
            "end_high": np.full(ends, -np.inf),
        }

    def add(self, name: str, trajectories: slice, times: slice, values: NDArray) -> None:
        """Take a block (trajectory, time, *space) of a field."""
        a, i = self.arrays, self.names.index(name)
        place = (i, trajectories, times)
        rows = np.ascontiguousarray(values).reshape(*values.shape[:2], -1)
        exact = rows.astype(np.float64)
        finite = np.isfinite(exact)
        a["seen"][place] = True
        a["missing"][place] = (~finite).sum(axis=-1)
        a["zero"][place] = (rows == 0).all(axis=-1)
        a["checksum"][place] = [[zlib.crc32(state.data) for state in row] for row in rows]
        count = np.maximum(finite.sum(axis=-1), 1)
        exact = np.where(finite, exact, 0.0)
        a["mean"][place] = exact.sum(axis=-1) / count
        a["square"][place] = (exact**2).sum(axis=-1) / count
        if finite.any():
            present = rows[finite]
            a["low"][i] = min(a["low"][i], present.min())
            a["high"][i] = max(a["high"][i], present.max())
            largest = float(np.finfo(present.dtype).max) if present.dtype.kind == "f" else np.inf
            for fill in FILLS:
                if abs(fill) <= largest and (present == fill).any():
                    a["fill"][i] = fill
            if abs(extreme := float(present[np.abs(present).argmax()])) >= HUGE:
                a["fill"][i] = extreme
        for k in range(values.ndim - 2):
            if values.shape[k + 2] > 4:
                self._ends(i, k, values)

    def _ends(self, i: int, k: int, values: NDArray) -> None:
        """Compare the two ends of an axis, and their neighbours: those of a mirror-symmetric field agree as well."""
        a = self.arrays
        first, second, before, last = (np.take(values, j, axis=k + 2).astype(np.float64) for j in (0, 1, -2, -1))
        a["end_difference"][i, k] = np.fmax(a["end_difference"][i, k], np.abs(first - last).max())
        a["neighbours"][i, k] = np.fmax(a["neighbours"][i, k], np.abs(second - before).max())
        a["end_low"][i, k] = np.fmin(a["end_low"][i, k], first.min())
        a["end_high"][i, k] = np.fmax(a["end_high"][i, k], first.max())


def scanned(contents: Contents, budget: int = SAMPLE) -> tuple[Scan, bool]:
    """A scan of the fields that vary in time, and whether it is of all states or of evenly chosen ones.

    budget: bytes that are read. The fields must be ordered, (trajectory, time, *space).
    """
    scan = empty_scan(contents)
    fields = {name: contents.fields[name].data for name in scan.names}
    per_state = sum(data.nbytes for data in fields.values()) // max(1, math.prod(scan.shape))
    chosen = max(4, budget // max(1, per_state))
    complete = chosen >= math.prod(scan.shape)
    if complete:
        for block in blocks(contents):
            for name, data in fields.items():
                scan.add(name, *block, data[block])
        return scan, True
    some = np.unique(np.linspace(0, scan.shape[0] - 1, min(scan.shape[0], max(1, chosen // 4))).round().astype(int))
    for t in some:
        for n in np.unique(np.linspace(0, scan.shape[1] - 1, max(2, chosen // len(some))).round().astype(int)):
            block = (slice(t, t + 1), slice(n, n + 1))
            for name, data in fields.items():
                scan.add(name, *block, data[block])
    return scan, False


def empty_scan(contents: Contents) -> Scan:
    """A scan of the fields (trajectory, time, *space), before any state."""
    sizes = contents.sizes
    names = moving(contents)
    return Scan(names, contents.space, (sizes.get(TRAJECTORY, 1), sizes.get(TIME, 1)))


def moving(contents: Contents) -> tuple[str, ...]:
    """The fields of states: those that vary in time, along all axes of the grid."""
    dims = (TRAJECTORY, TIME, *contents.space)
    return tuple(name for name, v in contents.fields.items() if set(v.dims) == set(dims))


def blocks(contents: Contents, largest: int = BLOCK) -> Iterator[tuple[slice, slice]]:
    """Blocks of (trajectories, times) of at most `largest` bytes, or of one state, aligned with those of the file."""
    fields = [contents.fields[name].data for name in moving(contents)]
    if not fields:
        return
    trajectories, times = fields[0].shape[:2]
    state = max(1, sum(data.nbytes for data in fields) // max(1, trajectories * times))
    room = max(1, largest // state)
    stored = fields[0].chunks or (1, times)
    across, along = min(stored[0], trajectories), min(stored[1], times)
    if across * along > room:  # the blocks of the file are larger: states of one trajectory
        across, along = (across, max(1, room // across)) if across <= room else (room, 1)
    else:
        along = min(times, max(along, room // across // along * along))
        if along == times:
            across = min(trajectories, max(across, room // along // across * across))
    for t in range(0, trajectories, across):
        for n in range(0, times, along):
            yield slice(t, min(t + across, trajectories)), slice(n, min(n + along, times))


def judged(scan: Scan, contents: Contents, conserved: tuple[str, ...] = ()) -> list[Finding]:
    """What the numbers show."""
    a, where = scan.arrays, contents.where
    found: list[Finding] = []

    def fault(code: str, text: str, remedy: str) -> None:
        found.append(Finding(code, text, remedy, fault=True))

    if not scan.names:
        return found
    for i, name in enumerate(scan.names):
        if a["missing"][i].any():
            trajectory, time = (int(k) for k in np.argwhere(a["missing"][i])[0])
            bad = sorted({int(k) for k in np.argwhere(a["missing"][i])[:, 0]})
            fault(
                "missing-values",
                f"{name} of {where} has {int(a['missing'][i].sum())} missing values, the first in trajectory "
                f"{trajectory} at time index {time}",
                f"drop_trajectories = {_listed(bad)}, `select` without them, or accept = missing-values",
            )
        if not math.isnan(fill := float(a["fill"][i])):
            fault(
                "missing-values",
                f"{name} of {where} contains {fill:g}, which stands for missing values in many files",
                f"fill_value = {fill:g}, or accept = missing-values if it is a value",
            )
    found += _repeated_samples(scan, where)
    for i, name in enumerate(scan.names):
        for k, axis in enumerate(scan.space):
            variation = a["end_high"][i, k] - a["end_low"][i, k]
            known = contents.axes.get(axis)
            if known is not None and known.kind == "entities":
                continue
            same = SAME_END * variation
            if 0 < variation < math.inf and a["end_difference"][i, k] <= same < a["neighbours"][i, k]:
                fault(
                    "repeated-end-point",
                    f"{name} of {where} has the same values at both ends of {axis}: the last point repeats the first",
                    f"drop_last_point = {axis}, or accept = repeated-end-point",
                )
        level = max(abs(a["low"][i]), abs(a["high"][i]))
        dtype = contents.fields[name].data.dtype
        if dtype.kind == "f" and dtype.itemsize < 8 and 0 < a["high"][i] - a["low"][i] < LEAST_VARIATION * level:
            fault(
                "low-precision",
                f"{name} of {where} is {dtype} and varies by {a['high'][i] - a['low'][i]:.2g} around {level:.6g}: "
                "its changes are rounded off",
                "store the difference from its mean, or double precision; or accept = low-precision",
            )
    found += _means(scan, where, conserved)
    if wrong := [name for name in conserved if name not in scan.names]:
        fault("not-conserved", f"conserved: {where} has no field {wrong[0]!r}", f"any of {', '.join(scan.names)}")
    return found


def _repeated_samples(scan: Scan, where: str) -> list[Finding]:
    """Samples that are zero-filled or that occur twice."""
    a, found = scan.arrays, []
    seen: NDArray = np.all(a["seen"], axis=0)
    zero: NDArray = np.all(a["zero"], axis=0)
    living = np.logical_or.accumulate(seen & ~zero, axis=1)
    empty = [int(t) for t in range(len(zero)) if seen[t].any() and (zero[t] | ~seen[t]).all()]
    stopped = [int(t) for t in range(len(zero)) if (living[t] & zero[t] & seen[t]).any()]
    for which, what in (
        (empty, "zero everywhere"),
        (stopped, "zero at later times: they were not computed to the end"),
    ):
        if which:
            found.append(
                Finding(
                    "zero-filled",
                    f"trajectories {_listed(which)} of {where} are {what}",
                    f"drop_trajectories = {_listed(which)}, or accept = zero-filled",
                    fault=True,
                )
            )
    whole = [t for t in range(len(seen)) if seen[t].any() and t not in empty]
    rows: dict[bytes, int] = {}
    twice = []
    for t in whole:
        key = np.where(a["seen"][:, t], a["checksum"][:, t], 0).tobytes()
        if key in rows:
            twice.append(t)
        rows.setdefault(key, t)
    if twice:
        found.append(
            Finding(
                "duplicates",
                f"trajectories {_listed(twice)} of {where} repeat earlier ones",
                f"drop_trajectories = {_listed(twice)}, or accept = duplicates",
                fault=True,
            )
        )
    for t in whole:
        row = a["checksum"][:, t]
        same: NDArray = np.all(row[:, 1:] == row[:, :-1], axis=0) & seen[t, 1:] & seen[t, :-1]
        changes = np.flatnonzero(~same & seen[t, 1:] & seen[t, :-1])
        repeated = [int(n) + 1 for n in np.flatnonzero(same) if len(changes) and changes[-1] > n and changes[0] < n]
        if repeated:
            found.append(
                Finding(
                    "duplicates",
                    f"states {_listed(repeated)} of trajectory {t} of {where} repeat the state before them",
                    "`select` without them, or accept = duplicates",
                    fault=True,
                )
            )
            break
    return found


def _means(scan: Scan, where: str, conserved: tuple[str, ...]) -> list[Finding]:
    """How far the mean and the mean square of each field change in time, relative to its root mean square."""
    found, lines = [], []
    for i, name in enumerate(scan.names):
        seen = scan.arrays["seen"][i]
        rows = seen.any(axis=1)
        if seen.shape[1] < 2 or not rows.any():
            continue
        mean, square = (np.where(seen, scan.arrays[key][i], np.nan)[rows] for key in ("mean", "square"))
        size = math.sqrt(float(np.nanmax(square))) or 1.0
        drift = float((np.nanmax(mean, axis=1) - np.nanmin(mean, axis=1)).max()) / size
        ratio = float((np.nanmax(square, axis=1) - np.nanmin(square, axis=1)).max()) / size**2
        lines.append(f"{name} {drift:.2g} and {ratio:.2g}")
        if name in conserved and drift > DRIFT:
            text = f"the mean of {name} in {where} changes in time by {drift:.2g} of its root mean square"
            remedy = f"check the data and boundaries, leave {name} out of `conserved`, or accept = not-conserved"
            found.append(Finding("not-conserved", text, remedy, fault=True))
    if lines:
        found.append(Finding("means", "largest relative changes in time of the mean and of the mean square: " +
                             "; ".join(lines)))  # fmt: skip
    return found


def _listed(indices: list[int]) -> str:
    return ",".join(map(str, indices[:20])) + (",..." if len(indices) > 20 else "")


def summary(scan: Scan) -> dict[str, Any]:
    """Lowest and highest value of each field, for reports."""
    a = scan.arrays
    return {name: [float(a["low"][i]), float(a["high"][i])] for i, name in enumerate(scan.names)}
