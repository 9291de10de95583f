"""The tables of a case: one pydantic model per table; unknown keys are refused."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from ..backend import Precision
from ..closure.contract import Closure, Coupled, Hold
from ..closure.discovery import find, load
from ..equations import EQUATIONS
from ..equations.base import Equation
from ..initial.registry import Initial, with_options
from ..time_stepping.schemes import STEPPERS, known_stepper
from . import sweep_design
from .base import Count, Positive, Table, multiple
from .data_file import DataFile
from .grid_table import GridTable
from .output import OutputTable
from .sweep_design import SweepTable, with_entries


def _stepper_schema(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"enum": list(STEPPERS)}, {"pattern": r"\.py:\w+$"}]


StepperName = Annotated[str, AfterValidator(known_stepper), Field(json_schema_extra=_stepper_schema)]


class TimeTable(Table):
    """start, end, and step or cfl or both.

    step alone: the length of every step. cfl alone: one step for the whole run, from the largest signal speed of the
    initial state; if the speeds of the equation may grow, adaptive steps between outputs instead. Both, on cells:
    closures and outputs lie on multiples of `step`, and each such interval is covered by adaptive steps of at most the
    Courant number cfl.
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
            mistakes.append("time.step: expected time.step or time.cfl, found neither")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class EnsembleTable(Table):
    """members, the seed of their random streams, and the relative amplitude of perturbations of the initial state.

    With `perturbation` the members of a model without noise differ: every field is multiplied by 1 + perturbation g, g
    a smooth Gaussian random field of variance 1, drawn per member.

    entities: how many of grid.entities are real, for each trajectory (without a reference: member) in turns. The others
    fill up the state, at rest, with constants of zero; scores leave them out.
    """

    members: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    perturbation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    entities: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None


class ClosureTable(BaseModel):
    """name or path, every, weight and hold; all other keys are options of the closure."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: str | None = None
    path: str | None = None
    every: Count = 1
    weight: float = 1.0
    hold: Hold | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ClosureTable:
        if (self.name is None) == (self.path is None):
            raise ValueError(f"expected exactly one of name and path, found {'both' if self.name else 'neither'}")
        return self

    @property
    def label(self) -> str:
        return self.name or str(self.path).rpartition(":")[2]

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def find(self, folder: Path) -> type[Closure]:
        """The class of the closure. Raises UnknownClosure."""
        return find(self.name) if self.name else load(str(self.path), folder)

    def couple(self, folder: Path) -> Coupled:
        """The closure with its options, coupled as the table says. Raises UnknownClosure or a ValidationError."""
        closure = self.find(folder)(**self.options)
        return Coupled(self.label, closure, self.every, self.weight, self.hold)


class GuardTable(Table):
    policy: Literal["stop", "skip", "off"] = "stop"


class ReferenceTable(DataFile):
    """The solution that counts as true: a finer grid, from `start` with its own step; `exact`; or a `file`.

    trajectories: number of independent reference runs; the members of the case are distributed over them in equal
    blocks. restrict: "subsample" takes every n-th point; "filter" truncates sharply in Fourier space at the 2/3 rule of
    the case's grid, and averages on cells. cfl: adaptive steps within each `step`, by default if the case has them. For
    a particle system `shape` is the number of entities, and the reference differs by its step. With `file` the states
    are the first `trajectories` of the data, and `shape` is that of the data. The model starts with the fields in
    `unobserved` at the values there, and is scored by the others.
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
        mistakes = self.file_mistakes("reference", ("exact", "step", "cfl", "stepper", "start", "initial", "seed"))
        if self.file is None and self.exact == (self.shape is not None):
            mistakes.append(
                "reference.shape: expected exactly one of reference.shape (a finer grid) and reference.exact = true "
                f"(a closed form), found {'both' if self.exact else 'neither'}. Or name data: reference.file"
            )
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class TrainingTable(DataFile):
    """The training set: trajectories of the reference, sampled every `every` in [start, end).

    They have their own seeds, so that no trajectory is shared with [reference]. The last `validation` trajectories are
    the validation set. With `file` they are the first `trajectories` of the data.
    """

    trajectories: Annotated[int, Field(ge=2)]
    validation: Count = 1
    start: float
    end: float
    every: Positive
    seed: Annotated[int, Field(ge=0)] = 100000

    @model_validator(mode="after")
    def _consistent(self) -> TrainingTable:
        mistakes = self.file_mistakes("training", ("seed",))
        if self.unobserved:
            mistakes.append("training.unobserved: a missing term needs every field. Remedy: data that hold all of them")
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


METRICS = (
    "correlation",
    "spectrum",
    "invariants",
    "crps",
    "spread_skill",
    "rank_histogram",
    "energy_score",
    "statistics",
    "entities",
)


class CompareRow(Table):
    """One row of the comparison: a label and the closures that are summed.

    perturbation: in the place of ensemble.perturbation, for instance 0 for a closure whose noise makes the ensemble.
    """

    label: str | None = None
    closures: tuple[ClosureTable, ...]
    perturbation: Annotated[float, Field(ge=0, lt=1)] | None = None

    @property
    def name(self) -> str:
        return self.label or " + ".join(c.label for c in self.closures)


def row_of(value: Any) -> Any:
    """The full form of a row that is written as a name, a closure's table, a list of these (a sum), or in full."""
    if isinstance(value, str):
        return {"closures": [{"name": value}]}
    if isinstance(value, list):
        return {"closures": [{"name": v} if isinstance(v, str) else v for v in value]}
    if isinstance(value, dict) and "closures" not in value:
        inner = {k: v for k, v in value.items() if k != "label"}
        return {"closures": [inner], **({"label": value["label"]} if "label" in value else {})}
    return value


class CompareTable(Table):
    """closures: the rows in addition to "none".

    frontier: whether to run the cost-error frontier, classical runs on a ladder of grids, against which the speed-up of
    every row is measured.

    parameter_plane: whether rows that were trained on [sweep] are also run and scored at its test points.
    """

    closures: tuple[Annotated[CompareRow, BeforeValidator(row_of)], ...] = ()
    correlation_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    frontier: bool = True
    parameter_plane: bool = False
    metrics: tuple[Literal[METRICS], ...] = METRICS  # type: ignore[valid-type]


class Case(Table):
    """A complete case: every default filled in, every table checked against the others."""

    title: str
    backend: Annotated[str, Field(pattern=r"^(numpy|cupy|torch(:.+)?)$")] = "numpy"
    precision: Precision = "float64"
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
        """Folder of the case file; relative paths in closures' options start there."""
        return self._folder

    def located(self, folder: Path) -> Case:
        """The case with its folder set."""
        self._folder = folder
        return self

    @classmethod
    def require(cls, found: Any) -> None:
        """Raise TypeError, with the remedy, for anything but a case, such as the name of its file."""
        if not isinstance(found, cls):
            raise TypeError(f"expected a case, found {found!r:.200}. Remedy: subgrid.read_case(...)")

    def build_equation(self) -> Equation:
        """The equation with its parameters, which were validated with the case."""
        parameters = {k: v for k, v in self.equation.items() if k not in ("name", "path")}
        return EQUATIONS.of(self.equation, "name")(**parameters)

    def parameters(self) -> NDArray[np.float64]:
        """The case's own values of the parameters that [sweep] varies, (parameter,)."""
        assert self.sweep
        tables: dict[str, Any] = {"initial": self.initial, "equation": self.build_equation()}
        names = (name.partition(".") for name in self.sweep.parameters)
        return np.array([sweep_design.entry(tables[table], key) for table, _, key in names], dtype=np.float64)

    def varied(self, values: dict[str, float]) -> Case:
        """The case with other values in [initial] and [equation], named as in [sweep]. Raises ValidationError."""
        changes: dict[str, dict[str, Any]] = {
            table: {n.partition(".")[2]: v for n, v in values.items() if n.startswith(f"{table}.")}
            for table in ("initial", "equation")
        }
        varied = self.model_copy(
            update={
                "initial": with_options(self.initial, with_entries(self.initial, changes["initial"])),
                "equation": with_entries(self.equation, changes["equation"]),
            }
        )
        varied.build_equation()
        return varied

    def steps(self) -> int:
        """Number of steps from time.start to time.end."""
        return multiple(self.time.end - self.time.start, self.step)

    @property
    def step(self) -> float:
        if self.time.step is None:
            raise ValueError(
                "time.step: not known before time.cfl is resolved. Remedy: call resolve_step, or set time.step"
            )
        return self.time.step

    def resolved(self) -> dict[str, Any]:
        """The case as plain data with every default written out, and without None, which TOML does not have."""
        data = self.model_dump(mode="json", exclude_none=True)
        named = {k: self.equation[k] for k in ("name", "path") if k in self.equation}
        data["equation"] = named | self.build_equation().model_dump(mode="json", exclude_none=True)
        return data

    def _repr_html_(self) -> str:
        """The tables of the case as HTML, for notebooks."""
        rows = []
        for name, value in self.resolved().items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            for i, (key, entry) in enumerate(entries):
                heading = f"<b>{html.escape(name)}</b>" if i == 0 else ""
                cells = (heading, html.escape(key), f"<code>{html.escape(str(entry))}</code>")
                rows.append("<tr>" + "".join(f'<td style="text-align:left">{c}</td>' for c in cells) + "</tr>")
        return f"<table>{''.join(rows)}</table>"
