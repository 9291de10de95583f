"""What a case file holds: one pydantic model per table, unknown keys refused."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from ..closure.contract import Closure, Coupled, Hold
from ..closure.discovery import find, load
from ..equations import EQUATIONS
from ..equations.base import Equation
from ..equations.plugins import is_path, unknown
from ..grid import Grid
from ..initial.registry import Initial
from ..time_stepping.schemes import STEPPERS
from .base import Count, Positive, Table, multiple
from .sweep_design import SweepTable


def _known_stepper(name: str) -> str:
    if is_path(name):
        STEPPERS.find(name)
    elif name not in STEPPERS:
        raise ValueError(unknown(name, STEPPERS))
    return name


def _stepper_schema(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"enum": list(STEPPERS)}, {"pattern": r"\.py:\w+$"}]


StepperName = Annotated[str, AfterValidator(_known_stepper), Field(json_schema_extra=_stepper_schema)]


class GridTable(Table):
    """shape and length, with the domain's lower corner as origin; or the number of entities of a particle system."""

    shape: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1, max_length=2)] | None = None
    length: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=2)] | None = None
    origin: Annotated[tuple[float, ...], Field(max_length=2)] = ()
    entities: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> GridTable:
        if self.entities is not None:
            if self.shape or self.length or self.origin:
                raise ValueError("grid.entities: stands in place of grid.shape, grid.length and grid.origin")
            return self
        missing = [f"grid.{k}: missing; it is required" for k in ("shape", "length") if getattr(self, k) is None]
        if missing:
            raise ValueError("\n".join(missing))
        assert self.shape and self.length
        if len(self.shape) != len(self.length):
            raise ValueError(
                f"grid.length: has {len(self.length)} axes and grid.shape {len(self.shape)}; give one length per axis"
            )
        if self.origin and len(self.shape) != len(self.origin):
            raise ValueError(f"grid.origin: has {len(self.origin)} axes and grid.shape {len(self.shape)}")
        return self

    @property
    def points(self) -> tuple[int, ...]:
        """The shape, that of entities being their number."""
        return self.shape or (self.entities or 0,)

    def grid(self) -> Grid:
        return Grid(self.points, self.length or (float(self.points[0]),), self.origin)


class TimeTable(Table):
    """start, end, and step or cfl or both.

    step alone: every step is that long. cfl alone: the step follows from the initial state's largest signal speed, and
    then stays. Both, on cells: closures and outputs keep to multiples of `step`, and each such interval is covered by
    steps of at most the Courant number cfl, chosen anew before each.
    """

    start: float = 0.0
    end: float
    step: Positive | None = None
    cfl: Positive | None = None
    stepper: StepperName

    @model_validator(mode="after")
    def _consistent(self) -> TimeTable:
        mistakes = []
        if self.end <= self.start:
            mistakes.append(f"time.end: must be later than time.start = {self.start:g}, found {self.end:g}")
        if self.step is None and self.cfl is None:
            mistakes.append("time.step: needs one of time.step and time.cfl, found neither")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class EnsembleTable(Table):
    members: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0


class ClosureTable(BaseModel):
    """name or path, every, weight, hold; all other keys are the closure's own options."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: str | None = None
    path: str | None = None
    every: Count = 1
    weight: float = 1.0
    hold: Hold | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ClosureTable:
        if (self.name is None) == (self.path is None):
            raise ValueError(f"needs exactly one of name and path, found {'both' if self.name else 'neither'}")
        return self

    @property
    def label(self) -> str:
        return self.name or str(self.path).rpartition(":")[2]

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def find(self, folder: Path) -> type[Closure]:
        """The closure's class. Raises UnknownClosure."""
        return find(self.name) if self.name else load(str(self.path), folder)

    def couple(self, folder: Path) -> Coupled:
        """Find the closure, check its options and couple it. Raises UnknownClosure or pydantic's ValidationError."""
        closure = self.find(folder)(**self.options)
        return Coupled(self.label, closure, self.every, self.weight, self.hold)


class GuardTable(Table):
    policy: Literal["stop", "skip", "off"] = "stop"


def _wall(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    wall = isinstance(value, str) and re.fullmatch(r"\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*s\s*", value)
    if not wall and not (number and 0 < value < math.inf):
        raise ValueError(f'expected simulated time as a number > 0, or wall time as in "60 s", found {value!r}')
    return value


class OutputTable(Table):
    """every and checkpoint_every in simulated time; checkpoint_every may be wall time, as in "60 s"."""

    every: Positive
    fields: tuple[str, ...] | None = None
    checkpoint_every: Annotated[float | str, BeforeValidator(_wall)] = "60 s"

    def checkpoint_seconds(self) -> float | None:
        """Wall seconds between checkpoints, or None if they are set in simulated time."""
        return float(self.checkpoint_every.strip(" s")) if isinstance(self.checkpoint_every, str) else None


class ReferenceTable(Table):
    """What counts as true: a finer grid started at `start` with its own step, or `exact`, a closed form.

    trajectories: independent truths; the case's members are shared out among them in equal blocks. restrict:
    "subsample" takes every n-th point, "filter" cuts sharply in Fourier space at the case grid's 2/3 rule (on cells it
    averages). cfl: adaptive steps within each `step`, by default if the case has them. The reference of a particle
    system has its entities, and a shorter step: there `shape` is their number.
    """

    exact: bool = False
    shape: tuple[Annotated[int, Field(ge=2)], ...] | None = None
    step: Positive | None = None
    cfl: Positive | None = None
    stepper: StepperName | None = None
    start: float | None = None
    initial: Initial | None = None
    trajectories: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    restrict: Literal["subsample", "filter"] = "filter"

    @model_validator(mode="after")
    def _consistent(self) -> ReferenceTable:
        if self.exact == (self.shape is not None):
            raise ValueError(
                "reference.shape: needs exactly one of reference.shape (a finer grid) and reference.exact = true "
                f"(a closed form), found {'both' if self.exact else 'neither'}"
            )
        return self


class TrainingTable(Table):
    """The training set: trajectories of the reference, sampled every `every` in [start, end).

    They are drawn with seeds of their own, so none is shared with [reference]; the last `validation` trajectories
    are kept for validation.
    """

    trajectories: Annotated[int, Field(ge=2)]
    validation: Count = 1
    start: float
    end: float
    every: Positive
    seed: Annotated[int, Field(ge=0)] = 100000

    @model_validator(mode="after")
    def _consistent(self) -> TrainingTable:
        mistakes = []
        if self.end <= self.start:
            mistakes.append(f"training.end: must be later than training.start = {self.start:g}, found {self.end:g}")
        if self.validation >= self.trajectories:
            mistakes.append(
                f"training.validation: must be less than training.trajectories = {self.trajectories}, "
                f"found {self.validation}"
            )
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


METRICS = ("correlation", "spectrum", "invariants", "crps", "spread_skill", "rank_histogram")


class CompareRow(Table):
    """One row of the comparison: a label and the closures that are added up."""

    label: str | None = None
    closures: tuple[ClosureTable, ...]

    @property
    def name(self) -> str:
        return self.label or " + ".join(c.label for c in self.closures)


def row_of(value: Any) -> Any:
    """A row may be written as a name, as a closure's table, as a list of them (a sum), or in full."""
    if isinstance(value, str):
        return {"closures": [{"name": value}]}
    if isinstance(value, list):
        return {"closures": [{"name": v} if isinstance(v, str) else v for v in value]}
    if isinstance(value, dict) and "closures" not in value:
        inner = {k: v for k, v in value.items() if k != "label"}
        return {"closures": [inner], **({"label": value["label"]} if "label" in value else {})}
    return value


class CompareTable(Table):
    """closures: the rows beside "none" and the cost-matched finer grid, which are always there.

    parameter_plane: whether rows that learned from [sweep] are also run at its test points, and scored there.
    """

    closures: tuple[Annotated[CompareRow, BeforeValidator(row_of)], ...] = ()
    correlation_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    finer_grid: bool = True
    parameter_plane: bool = False
    metrics: tuple[Literal[METRICS], ...] = METRICS  # type: ignore[valid-type]


class Case(Table):
    """A case, complete: every default written out, every table checked against the others."""

    title: str
    backend: Annotated[str, Field(pattern=r"^(numpy|cupy|torch(:.+)?)$")] = "numpy"
    equation: dict[str, Any]
    grid: GridTable
    time: TimeTable
    initial: Initial
    ensemble: EnsembleTable = EnsembleTable()
    closure: tuple[ClosureTable, ...] = ()
    guard: GuardTable = GuardTable()
    output: OutputTable
    reference: ReferenceTable | None = None
    training: TrainingTable | None = None
    sweep: SweepTable | None = None
    train: dict[str, dict[str, Any]] = Field(default_factory=dict)
    compare: CompareTable = CompareTable()
    expected: dict[str, Any] = Field(default_factory=dict)
    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def folder(self) -> Path:
        """Folder of the case file, to which paths of closures' options are relative."""
        return self._folder

    def located(self, folder: Path) -> Case:
        """The case with its folder set."""
        self._folder = folder
        return self

    def build_equation(self) -> Equation:
        """The equation with its parameters; validated when the case was."""
        parameters = {k: v for k, v in self.equation.items() if k not in ("name", "path")}
        return EQUATIONS.of(self.equation, "name")(**parameters)

    def parameters(self) -> NDArray[np.float64]:
        """The case's own values of what [sweep] varies."""
        assert self.sweep
        tables: dict[str, Any] = {"initial": self.initial, "equation": self.build_equation()}
        names = [name.partition(".") for name in self.sweep.parameters]
        return np.array([getattr(tables[table], key) for table, _, key in names], dtype=np.float64)

    def varied(self, values: dict[str, float]) -> Case:
        """The case with other numbers in [initial] and [equation], named as in [sweep]. Raises ValidationError."""
        changes: dict[str, dict[str, Any]] = {"initial": {}, "equation": {}}
        for name, value in values.items():
            table, _, key = name.partition(".")
            changes[table][key] = value
        varied = self.model_copy(
            update={
                "initial": type(self.initial).model_validate(self.initial.model_dump() | changes["initial"]),
                "equation": self.equation | changes["equation"],
            }
        )
        varied.build_equation()
        return varied

    def steps(self) -> int:
        """Number of steps from start to end."""
        return multiple(self.time.end - self.time.start, self.step)

    @property
    def step(self) -> float:
        if self.time.step is None:
            raise ValueError("time.cfl is not resolved into a step yet")
        return self.time.step

    def resolved(self) -> dict[str, Any]:
        """The case as plain data with every default written out, ready for TOML (which has no null)."""
        data = self.model_dump(mode="json", exclude_none=True)
        named = {k: self.equation[k] for k in ("name", "path") if k in self.equation}
        data["equation"] = named | self.build_equation().model_dump(mode="json", exclude_none=True)
        return data

    def _repr_html_(self) -> str:
        """The tables of the case, for notebooks."""
        rows = []
        for name, value in self.resolved().items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            for i, (key, entry) in enumerate(entries):
                heading = f"<b>{html.escape(name)}</b>" if i == 0 else ""
                cells = (heading, html.escape(key), f"<code>{html.escape(str(entry))}</code>")
                rows.append("<tr>" + "".join(f'<td style="text-align:left">{c}</td>' for c in cells) + "</tr>")
        return f"<table>{''.join(rows)}</table>"
