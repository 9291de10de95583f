"""The table [sweep]: the parameters that vary, and the design of the runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from .base import Positive, Table
from .data_file import DataKeys, keys_set

MOST_RUNS = 10_000


Range = tuple[float, float]


class SweepTable(Table):
    """Numbers of [initial] or [equation] that vary within [low, high], and the points of this box that are run.

    design: "grid", `counts` evenly spaced values per parameter, ends included; "corners", the ends alone;
    "latin-hypercube", `runs` points drawn with `seed`, one in each of `runs` equal slices of every range; "greedy", the
    corners, to which training adds the point of the grid `candidate_counts` (by default test_counts) where the relative
    predictive standard deviation is largest, until there are `runs` points or it is nowhere above `tolerance`.
    test_counts: the grid of parameters on which a trained model is tested; test_runs: a further Latin hypercube of so
    many points in its place. every: time between the stored states of a
    run, output.every by default; a case can thus have fewer outputs than its training data. reciprocal: parameters
    whose reciprocals the designs space evenly, as the viscosity where the Reynolds number is meant. exact: take the
    states from the closed form of the initial state in place of runs of the solver. reference: run on the grid of
    [reference], with its stepper and step, and restrict the states to the grid of the case.

    files: data of another code, one trajectory for each training run, in the place of a design; `data` describes them.
    Their parameters are those of the data, or columns of `table`, a CSV file with one row for each trajectory.
    points_found: the points that were found there.
    """

    parameters: Annotated[dict[str, Range], Field(min_length=1, max_length=6)]
    design: Literal["grid", "corners", "latin-hypercube", "greedy"] = "grid"
    counts: tuple[Annotated[int, Field(ge=2)], ...] = ()
    runs: Annotated[int, Field(ge=2)] | None = None
    test_counts: tuple[Annotated[int, Field(ge=2)], ...] = ()
    test_runs: Annotated[int, Field(ge=1)] | None = None
    every: Positive | None = None
    candidate_counts: tuple[Annotated[int, Field(ge=2)], ...] = ()
    tolerance: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    reciprocal: tuple[str, ...] = ()
    exact: bool = False
    reference: bool = False
    files: Path | None = None
    data: DataKeys | None = None
    table: Path | None = None
    points_found: tuple[tuple[float, ...], ...] | None = None

    @model_serializer(mode="wrap")
    def _without_unused_keys(self, standard: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The table without keys that are not used and came later: stored sweeps keep their form."""
        found = standard(self)
        if not self.reference:
            found.pop("reference", None)
        for key in ("files", "data", "table", "points_found", "test_runs"):
            if getattr(self, key) is None:
                found.pop(key, None)
        if self.data is not None:
            found["data"] = {k: v for k, v in found["data"].items() if k in keys_set(self.data)}
        return found

    @property
    def file(self) -> Path | None:
        """The same as `files`, as in other tables that name data."""
        return self.files

    def data_keys(self) -> dict[str, Any]:
        """The keys of data that are set, as `open_data` takes them."""
        return {} if self.data is None else keys_set(self.data)

    @property
    def trajectories(self) -> int:
        """Number of runs that are taken from the data; 1 before they are known."""
        return len(self.points_found or (0,))

    def run_of_data(self, point: NDArray) -> int | None:
        """The trajectory of the data with the parameters (parameter,), or None."""
        if self.files is None or not self.points_found:
            return None
        same = among(np.array(self.points_found), np.reshape(point, (1, -1)))
        return int(same.argmax()) if same.any() else None

    @model_validator(mode="after")
    def _consistent(self) -> SweepTable:
        mistakes = [
            f"sweep.parameters.{name}: the first number must be the smaller one, found [{low:g}, {high:g}]"
            for name, (low, high) in self.parameters.items()
            if low >= high
        ]
        mistakes += [
            f"sweep.parameters.{name}: the range [{low:g}, {high:g}] is too wide. Remedy: high - low below 1.79e308"
            for name, (low, high) in self.parameters.items()
            if low < high and not math.isfinite(high - low)
        ]
        for name in self.reciprocal:
            if name not in self.parameters:
                mistakes.append(f"sweep.reciprocal: {name!r} is not among sweep.parameters")
            elif self.parameters[name][0] <= 0:
                mistakes.append(f"sweep.reciprocal: {name} needs a range of positive numbers")
        if self.files is not None:
            used: dict[str, Any] = {"counts": self.counts, "runs": self.runs, "candidate_counts": self.candidate_counts}
            used |= {"design": self.design != "grid", "tolerance": self.tolerance, "seed": self.seed}
            used |= {"exact": self.exact, "reciprocal": self.reciprocal, "reference": self.reference}
            mistakes += [
                f"sweep.{key}: is not used with sweep.files, whose trajectories are the runs. Remedy: remove it"
                for key, value in used.items()
                if value
            ]
        elif unused := [key for key in ("data", "table", "points_found") if getattr(self, key) is not None]:
            mistakes.append(f"sweep.{unused[0]}: describes sweep.files, which is missing")
        elif (self.design == "grid") != bool(self.counts):
            wrong = "missing; design grid needs it" if not self.counts else f"design {self.design} does not use it"
            mistakes.append(f"sweep.counts: {wrong}")
        if (self.design in ("latin-hypercube", "greedy")) != (self.runs is not None):
            wrong = f"design {self.design} does not use it" if self.runs else f"missing; design {self.design} needs it"
            mistakes.append(f"sweep.runs: {wrong}")
        if self.design == "greedy":
            if (corners := 2 ** len(self.parameters)) > (self.runs or corners):
                mistakes.append(f"sweep.runs: design greedy begins with {corners} corners, found {self.runs} runs")
            if not (self.candidate_counts or self.test_counts):
                mistakes.append("sweep.candidate_counts: missing; design greedy needs it, or test_counts")
        elif self.candidate_counts or self.tolerance is not None:
            mistakes.append(f"sweep: design {self.design} has no candidate_counts and no tolerance")
        for key in ("counts", "test_counts", "candidate_counts"):
            found = len(getattr(self, key))
            if found not in (0, len(self.parameters)):
                mistakes.append(
                    f"sweep.{key}: needs one number for each of {len(self.parameters)} parameters, found {found}"
                )
        if self.exact and self.reference:
            mistakes.append("sweep.exact: contradicts sweep.reference. Remedy: remove one of them")
        if self.test_counts and self.test_runs:
            mistakes.append("sweep.test_runs: contradicts test_counts. Remedy: remove one of them")
        if max(math.prod(self.counts), math.prod(self.test_counts), self.runs or 0, self.test_runs or 0) > MOST_RUNS:
            mistakes.append(f"sweep: more than {MOST_RUNS} runs. Remedy: reduce the counts or runs")
        elif not mistakes:
            mistakes += self._repeated()
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def corners(self) -> NDArray[np.float64]:
        """The corners of the box, (corner, parameter)."""
        return self._grid((2,) * len(self.parameters))

    def points(self) -> NDArray[np.float64]:
        """Parameters of the training runs, (run, parameter); for a greedy design those of the first runs."""
        if self.files is not None:
            return np.array(self.points_found or (), dtype=np.float64).reshape(-1, len(self.parameters))
        if self.design in ("corners", "greedy"):
            return self.corners()
        if self.design == "grid":
            return self._grid(self.counts)
        assert self.runs
        return self._latin_hypercube(self.runs, [self.seed])

    def _latin_hypercube(self, runs: int, key: list[int]) -> NDArray[np.float64]:
        generator = np.random.default_rng(key if len(key) > 1 else key[0])
        slices = np.stack([generator.permutation(runs) for _ in self.parameters], axis=1)
        unit = (slices + generator.random(slices.shape)) / runs
        low, high = np.array(list(self.parameters.values())).T
        inverse = np.array([name in self.reciprocal for name in self.parameters])
        points = low + unit * (high - low)
        points[:, inverse] = 1 / (1 / high + unit * (1 / low - 1 / high))[:, inverse] if inverse.any() else 0
        return points

    def candidates(self) -> NDArray[np.float64]:
        """Parameters from which a greedy design chooses, (point, parameter)."""
        return self._grid(self.candidate_counts or self.test_counts)

    def test_points(self) -> NDArray[np.float64]:
        """Parameters of the test runs, (run, parameter); empty without test_counts and test_runs."""
        if self.test_runs:
            return self._latin_hypercube(self.test_runs, [self.seed, 1])
        return self._grid(self.test_counts) if self.test_counts else np.empty((0, len(self.parameters)))

    def nearest(self, point: NDArray) -> int:
        """Index of the training run nearest to a point (parameter,), with each range scaled to 1."""
        low, high = np.array(list(self.parameters.values())).T
        return int(np.argmin((((self.points() - point) / (high - low)) ** 2).sum(axis=1)))

    def values(self, point: NDArray) -> dict[str, float]:
        """A point (parameter,) as a dict by parameter name."""
        return dict(zip(self.parameters, map(float, point), strict=True))

    def _grid(self, counts: tuple[int, ...]) -> NDArray[np.float64]:
        axes = [self._axis(name, n) for name, n in zip(self.parameters, counts, strict=True)]
        return np.array(list(itertools.product(*axes)))

    def _axis(self, name: str, count: int) -> list[float]:
        """`count` values of a parameter, in increasing order."""
        return evenly_spaced(*self.parameters[name], count, name in self.reciprocal)

    def _repeated(self) -> list[str]:
        """Mistakes for ranges that contain fewer floating-point numbers than their counts ask for."""
        found = []
        for key in ("counts", "test_counts", "candidate_counts"):
            for (name, (low, high)), n in zip(self.parameters.items(), getattr(self, key), strict=False):
                if len(set(self._axis(name, n))) < n:
                    found.append(
                        f"sweep.{key}: [{low!r}, {high!r}] contains no {n} different values of {name}. "
                        "Remedy: a smaller count"
                    )
        return found


def evenly_spaced(low: float, high: float, count: int, reciprocal: bool = False) -> list[float]:
    """low + k (high - low) / (count - 1), k = 0..count-1, each rounded once, so that the ends are exact.

    The bounds are taken as the decimal numbers that a case file states, and the values are computed in rational
    arithmetic: 2e-13 lies on the grid of [1e-13, 4e-13], and a value that two grids share is bitwise equal in both.
    reciprocal: space 1 / value evenly.
    """
    first, last = Fraction(repr(float(low))), Fraction(repr(float(high)))
    if reciprocal:
        first, last = 1 / first, 1 / last
    values = [first + k * (last - first) / (count - 1) for k in range(count)]
    return [float(1 / value if reciprocal else value) for value in values]


def entry(table: Any, key: str) -> Any:
    """The entry "key", "list.0" or "list.0.key" of a table of plain data or a model. Raises LookupError."""
    for name in key.split("."):
        try:
            table = table[int(name)] if isinstance(table, (list, tuple)) else _items(table)[name]
        except (ValueError, TypeError) as error:
            raise LookupError(key) from error
    return table


def numbers_of(table: Any, prefix: str = "") -> Iterator[str]:
    """The names of all numbers of a table, of its lists and of the tables in them, as for `entry`."""
    items = enumerate(table) if isinstance(table, (list, tuple)) else _items(table).items()
    for name, value in items:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}"
        else:
            yield from numbers_of(value, f"{prefix}{name}.")


def with_entries(table: Any, values: Mapping[str, Any]) -> Any:
    """The table as plain data with other values of the entries named as for `entry`. Raises LookupError."""
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        first, _, rest = key.partition(".")
        grouped.setdefault(first, {})[rest] = value
    if "" in values:
        return values[""]
    if isinstance(table, (list, tuple)):
        return [with_entries(v, grouped[str(i)]) if str(i) in grouped else v for i, v in enumerate(table)]
    return dict(_items(table)) | {k: with_entries(_items(table).get(k), v) for k, v in grouped.items()}


def _items(table: Any) -> dict[str, Any]:
    return dict(table) if isinstance(table, (dict, BaseModel)) else {}


def among(points: NDArray, others: NDArray) -> NDArray[np.bool_]:
    """Which points (point, parameter) are among the others, to a relative 1e-9 of every parameter: (point,)."""
    return np.isclose(points[:, None], others[None], rtol=1e-9, atol=0.0).all(axis=-1).any(axis=-1)
