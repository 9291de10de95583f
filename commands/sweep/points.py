"""The points of a sweep: values of keys of a case, on a grid or a Latin hypercube."""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

SEED = "ensemble.seed"  # points that differ in it alone are repetitions, over which intervals are
MOST = 10_000
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"^({_NUMBER}):({_NUMBER})(?::(\d+))?$")


@dataclass(frozen=True)
class Axis:
    """A key and its values, or the range from which a Latin hypercube draws them."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def parse(cls, text: str) -> Axis:
        """KEY=LOW:HIGH:COUNT, COUNT values at equal distances; KEY=LOW:HIGH; or KEY=A,B,...

        Values of a list are in TOML syntax, and bare words are strings. Raises ValueError.
        """
        key, equals, values = (part.strip() for part in text.partition("="))
        if not key or not equals or not values:
            raise ValueError(f"--vary {text!r}: expected KEY=LOW:HIGH:COUNT or KEY=A,B,...")
        if found := _RANGE.match(values):
            low, high, count = float(found[1]), float(found[2]), found[3]
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"--vary {text!r}: expected LOW < HIGH, both finite")
            if count is None:
                return cls(key, low=low, high=high)
            if not 2 <= int(count) <= MOST:
                raise ValueError(f"--vary {text!r}: expected 2 to {MOST} values")
            return cls(key, _spaced(low, high, int(count)))
        listed = _list(values)
        if len({json.dumps(value) for value in listed}) < len(listed):
            raise ValueError(f"--vary {text!r}: a value occurs twice. Remedy: name each once")
        return cls(key, tuple(listed))


def _spaced(low: float, high: float, count: int) -> tuple[Any, ...]:
    """Values at equal distances, as whole numbers if all are."""
    values = [float(value) for value in np.linspace(low, high, count)]
    return tuple(int(v) for v in values) if all(v == int(v) for v in values) else tuple(values)


def _list(text: str) -> list[Any]:
    try:
        found = tomllib.loads(f"values = [{text}]")["values"]
    except tomllib.TOMLDecodeError:
        found = [_value(part.strip()) for part in text.split(",")]
    if not all(found) and any(value == "" for value in found):
        raise ValueError(f"--vary ...={text!r}: a value is missing between commas")
    return found


def _value(text: str) -> Any:
    """A value in TOML syntax; other text is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def design(vary: Sequence[str], samples: int | None, seed: int) -> tuple[list[Axis], list[tuple[Any, ...]]]:
    """The axes and the points, each a value of every axis: the grid of all combinations, the last axis fastest.

    samples: in place of the grid so many points of a Latin hypercube, drawn with `seed`, over axes that are ranges.
    Raises ValueError.
    """
    axes = [Axis.parse(text) for text in vary]
    if not axes:
        raise ValueError("--vary: missing. Remedy: --vary KEY=LOW:HIGH:COUNT or --vary KEY=A,B,...")
    for first, second in itertools.combinations([axis.key for axis in axes], 2):
        if first == second or second.startswith(f"{first}.") or first.startswith(f"{second}."):
            raise ValueError(f"--vary: {first} and {second} set the same value. Remedy: name each key once")
    ranges = [axis for axis in axes if not axis.values]
    if samples is None:
        if ranges:
            raise ValueError(f"--vary {ranges[0].key}: a range needs LOW:HIGH:COUNT, or --samples N for all keys")
        count = math.prod(len(axis.values) for axis in axes)
        if count > MOST:
            raise ValueError(f"--vary: the grid has {count} points. Remedy: at most {MOST}")
        return axes, list(itertools.product(*(axis.values for axis in axes)))
    if len(ranges) < len(axes):
        other = next(axis for axis in axes if axis.values)
        raise ValueError(f"--vary {other.key}: --samples draws from ranges. Remedy: KEY=LOW:HIGH without a count")
    if not 2 <= samples <= MOST:
        raise ValueError(f"--samples {samples}: expected 2 to {MOST}")
    unit = qmc.LatinHypercube(len(axes), rng=np.random.default_rng(seed)).random(samples)
    drawn = [[axis.low + (axis.high - axis.low) * float(x) for axis, x in zip(axes, row, strict=True)] for row in unit]
    return axes, [tuple(row) for row in drawn]


def overrides(axes: Sequence[Axis], point: Sequence[Any]) -> list[str]:
    """The point as values of `--set`."""
    return [f"{axis.key}={json.dumps(value)}" for axis, value in zip(axes, point, strict=True)]
