"""Case files: one pydantic model per table, unknown keys refused, every mistake reported at once."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from . import closure as contract
from .equations import EQUATIONS, Equation
from .grid import Grid
from .initial import Initial
from .steppers import STEPPERS, needs_linear

LARGEST_STATE = 4 * 2**30  # bytes one state may take; beyond it a case is taken for a slip of the pen


class CaseError(ValueError):
    """The case file is wrong; `mistakes` names every one with its key."""

    def __init__(self, source: str, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  {m}" for m in mistakes))


class Table(BaseModel):
    """Base of all tables: no unknown keys, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class GridTable(Table):
    shape: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1, max_length=2)]
    length: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=2)]

    @model_validator(mode="after")
    def _same_axes(self) -> GridTable:
        if len(self.shape) != len(self.length):
            raise ValueError(
                f"grid.shape has {len(self.shape)} axes and grid.length {len(self.length)}; give one length per axis"
            )
        return self

    def grid(self) -> Grid:
        return Grid(self.shape, self.length)


class TimeTable(Table):
    """start, end and either step or cfl; cfl fixes the step from the initial state's largest signal speed."""

    start: float = 0.0
    end: float
    step: Positive | None = None
    cfl: Positive | None = None
    stepper: str

    @model_validator(mode="after")
    def _consistent(self) -> TimeTable:
        mistakes = []
        if self.end <= self.start:
            mistakes.append(f"time.end = {self.end:g} must be later than time.start = {self.start:g}")
        if (self.step is None) == (self.cfl is None):
            mistakes.append("time needs exactly one of step and cfl")
        if self.stepper not in STEPPERS:
            mistakes.append(unknown("time.stepper", self.stepper, STEPPERS))
        if mistakes:
            raise ValueError("; ".join(mistakes))
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
    hold: contract.Hold | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ClosureTable:
        if (self.name is None) == (self.path is None):
            raise ValueError("needs exactly one of name and path")
        return self

    @property
    def label(self) -> str:
        return self.name or str(self.path).rpartition(":")[2]

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def couple(self, folder: Path) -> contract.Coupled:
        """Find the closure, check its options and couple it. Raises UnknownClosure or pydantic's ValidationError."""
        found = contract.find(self.name) if self.name else contract.load(str(self.path), folder)
        return contract.Coupled(self.label, found(**self.options), self.every, self.weight, self.hold)


class GuardTable(Table):
    policy: Literal["stop", "skip", "off"] = "stop"


def _wall(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*s\s*", value)
        if not match:
            raise ValueError('expected simulated time as a number, or wall time as a string like "60 s"')
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
    "subsample" takes every n-th point, "filter" cuts sharply in Fourier space at the case grid's 2/3 rule (cell
    averages on finite volumes).
    """

    exact: bool = False
    shape: tuple[Annotated[int, Field(ge=4)], ...] | None = None
    step: Positive | None = None
    stepper: str | None = None
    start: float | None = None
    initial: Initial | None = None
    trajectories: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    restrict: Literal["subsample", "filter"] = "filter"

    @model_validator(mode="after")
    def _consistent(self) -> ReferenceTable:
        mistakes = []
        if self.exact == (self.shape is not None):
            mistakes.append("reference needs exactly one of shape (a finer grid) and exact = true (a closed form)")
        if self.stepper is not None and self.stepper not in STEPPERS:
            mistakes.append(unknown("reference.stepper", self.stepper, STEPPERS))
        if mistakes:
            raise ValueError("; ".join(mistakes))
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
        if self.end <= self.start:
            raise ValueError(f"training.end = {self.end:g} must be later than training.start = {self.start:g}")
        if self.validation >= self.trajectories:
            raise ValueError("training.validation must leave at least one trajectory to train on")
        return self


METRICS = ("relative_l2", "correlation", "spectrum", "invariants", "crps", "spread_skill")


class CompareRow(Table):
    """One row of the comparison: a label and the closures that are added up."""

    label: str | None = None
    closures: tuple[ClosureTable, ...]

    @property
    def name(self) -> str:
        return self.label or " + ".join(c.label for c in self.closures)


def _row(value: Any) -> Any:
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
    """closures: the rows beside "none" and the cost-matched finer grid, which are always there."""

    closures: tuple[Annotated[CompareRow, BeforeValidator(_row)], ...] = ()
    correlation_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    finer_grid: bool = True
    metrics: tuple[Literal[METRICS], ...] = METRICS  # type: ignore[valid-type]


class Case(Table):
    """A case, complete: every default written out, every table checked against the others."""

    title: str
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
    train: dict[str, dict[str, Any]] = {}
    compare: CompareTable = CompareTable()
    expected: dict[str, Any] = {}

    def build_equation(self) -> Equation:
        """The equation with its parameters; validated when the case was."""
        return EQUATIONS[self.equation["name"]](**{k: v for k, v in self.equation.items() if k != "name"})

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
        data["equation"] = {"name": self.equation["name"]} | self.build_equation().model_dump(
            mode="json", exclude_none=True
        )
        return data


def multiple(span: float, step: float) -> int:
    """span / step as a whole number; raises ValueError, with the nearest step that fits, if it is none."""
    count = round(span / step)
    if count < 1 or abs(count * step - span) > 1e-6 * step * max(1, count) ** 0.5 + 1e-9 * abs(span):
        near = span / max(1, count)
        raise ValueError(f"{span:g} is not a whole number of steps of {step:g} (nearest step that fits: {near:.10g})")
    return count


def unknown(key: str, value: str, known: Any) -> str:
    """The message for a name that is not known, with the nearest one."""
    near = difflib.get_close_matches(value, list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{key} = {value!r} is not known{hint} Expected one of: {', '.join(known)}"


def read(path: Path, overrides: list[str] | None = None) -> Case:
    """Read, override and check a case file. Raises CaseError with every mistake found.

    overrides: "table.key=value", the value in TOML syntax (a bare word is taken as a string).
    """
    if not path.is_file():
        raise CaseError(str(path), ["there is no such file"])
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CaseError(str(path), [f"not TOML: {error}"]) from None
    for text in overrides or []:
        _override(data, text)
    return check(data, str(path), path.parent)


def _override(data: dict[str, Any], text: str) -> None:
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise CaseError("--set", [f"{text!r} must read table.key=value"])
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table: Any = data
    for k in keys[:-1]:
        table = (
            table[int(k)]
            if isinstance(table, list) and k.isdigit() and int(k) < len(table)
            else (table.setdefault(k, {}) if isinstance(table, dict) else None)
        )
        if not isinstance(table, (dict, list)):
            raise CaseError("--set", [f"{text!r}: {name} is not in a table"])
    if not isinstance(table, dict):
        raise CaseError("--set", [f"{text!r}: {name} is not in a table"])
    table[keys[-1]] = parsed


def check(data: dict[str, Any], source: str, folder: Path) -> Case:
    """Validate case data against the models, the equation, the closures and itself. Raises CaseError."""
    mistakes: list[str] = []
    case: Case | None = None
    try:
        case = Case.model_validate(data)
    except ValidationError as error:
        mistakes += explain(error, ())
    mistakes += _check_equation(data.get("equation"))
    mistakes += _check_closures(data, folder)
    if case is not None and not mistakes:
        mistakes += _check_together(case)
    if mistakes or case is None:
        raise CaseError(source, list(dict.fromkeys(mistakes)))
    return case


def explain(error: ValidationError, prefix: tuple[str | int, ...]) -> list[str]:
    """One line per mistake: its key, what was expected and the value found."""
    lines = []
    for item in error.errors():
        location = [str(p) for p in (*prefix, *item["loc"])]
        found = item["input"]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            lines.append(f"{'.'.join(location)}: missing; it is required")
        elif item["type"] == "extra_forbidden":
            lines.append(f"{'.'.join(location)}: unknown key (value found: {found!r})")
        elif isinstance(found, (dict, BaseModel)) or (item["type"] == "value_error" and not location):
            lines.append(f"{'.'.join(location)}: {message}" if location else message)
        else:
            lines.append(f"{'.'.join(location)}: {message} (value found: {found!r})")
    return lines


def _check_equation(table: Any) -> list[str]:
    if not isinstance(table, dict):
        return []
    name = table.get("name")
    if name is None:
        return ["equation.name: missing; it is required"]
    if name not in EQUATIONS:
        return [unknown("equation.name", str(name), EQUATIONS)]
    try:
        EQUATIONS[name](**{k: v for k, v in table.items() if k != "name"})
    except ValidationError as error:
        return explain(error, ("equation",))
    return []


def _check_closures(data: dict[str, Any], folder: Path) -> list[str]:
    found: list[tuple[str, Any]] = []
    if isinstance(tables := data.get("closure"), list):
        found += [(f"closure.{i}", t) for i, t in enumerate(tables)]
    compare = data.get("compare")
    if isinstance(compare, dict) and isinstance(rows := compare.get("closures"), list):
        for i, row in enumerate(rows):
            inner = _row(row)
            if isinstance(inner, dict) and isinstance(tables := inner.get("closures"), (list, tuple)):
                found += [(f"compare.closures.{i}", t) for t in tables]
    mistakes = []
    for where, table in found:
        try:
            ClosureTable.model_validate(table).couple(folder)
        except ValidationError as error:
            mistakes += explain(error, (where,))
        except contract.UnknownClosure as error:
            mistakes.append(f"{where}: {error}")
    return mistakes


def _check_together(case: Case) -> list[str]:
    """Mistakes that only show when tables are read together."""
    mistakes = []
    equation = case.build_equation()
    shape, members = case.grid.shape, case.ensemble.members
    if len(shape) not in equation.dimensions:
        mistakes.append(
            f"grid.shape: {equation.name} needs {' or '.join(map(str, equation.dimensions))} axes, found {len(shape)}"
        )
    for key, points in (("grid.shape", shape), ("reference.shape", case.reference and case.reference.shape)):
        if points and 8 * math.prod(points) * members > LARGEST_STATE:
            size = 8 * math.prod(points) * members / 2**30
            mistakes.append(
                f"{key}: {list(points)} with {members} members is {size:.1f} GiB a state; at most "
                f"{LARGEST_STATE / 2**30:.0f} GiB. Remedy: fewer points or members"
            )
    if needs_linear(STEPPERS[case.time.stepper]) and equation.kind != "semi-linear":
        mistakes.append(
            f"time.stepper: {case.time.stepper} fits semi-linear equations; on finite volumes use rk4 or ssp-rk3"
        )
    if case.time.step is not None:
        mistakes += _whole_steps(case)
    names = [f.name for f in equation.fields]
    mistakes += [unknown("output.fields", f, names) for f in case.output.fields or () if f not in names]
    if case.reference is None:
        if case.initial.kind == "reference":
            mistakes.append('initial.kind = "reference" needs a [reference] table')
    else:
        mistakes += _check_reference(case, case.reference, equation)
    return mistakes


def _whole_steps(case: Case) -> list[str]:
    mistakes = []
    spans = {"time.end - time.start": case.time.end - case.time.start, "output.every": case.output.every}
    if not isinstance(case.output.checkpoint_every, str):
        spans["output.checkpoint_every"] = case.output.checkpoint_every
    for key, span in spans.items():
        try:
            multiple(span, case.step)
        except ValueError as error:
            mistakes.append(f"{key}: {error}")
    return mistakes


def _check_reference(case: Case, reference: ReferenceTable, equation: Equation) -> list[str]:
    mistakes = []
    if case.ensemble.members % reference.trajectories:
        mistakes.append(
            f"ensemble.members = {case.ensemble.members} must be a multiple of "
            f"reference.trajectories = {reference.trajectories}"
        )
    if reference.shape is None:
        return mistakes
    if len(reference.shape) != len(case.grid.shape):
        mistakes.append(f"reference.shape needs {len(case.grid.shape)} axes, found {len(reference.shape)}")
        return mistakes
    if any(n < m for n, m in zip(reference.shape, case.grid.shape, strict=True)):
        mistakes.append("reference.shape: the reference must be at least as fine as grid.shape")
    divides = all(n % m == 0 for n, m in zip(reference.shape, case.grid.shape, strict=True))
    if not divides and (reference.restrict == "subsample" or equation.kind == "balance-law"):
        mistakes.append("reference.shape must be a whole multiple of grid.shape to be subsampled or averaged")
    step = reference.step or case.time.step
    if step is not None:
        spans = {"reference: output.every": case.output.every}
        if reference.start is not None and reference.start != case.time.start:
            spans["reference: time.start - reference.start"] = case.time.start - reference.start
        if case.training:
            spans["training.every"] = case.training.every
            spans["training.end - training.start"] = case.training.end - case.training.start
        for key, span in spans.items():
            try:
                multiple(span, step)
            except ValueError as error:
                mistakes.append(f"{key}: {error}")
    if case.initial.kind == "reference" and reference.initial is None:
        mistakes.append('reference.initial: missing; with initial.kind = "reference" the reference needs its own')
    if equation.noise and equation.has("noise") and case.time.step and reference.step not in (None, case.time.step):
        mistakes.append("reference.step must equal time.step when the model contains noise: they share its increments")
    return mistakes


def resolve_step(case: Case, equation: Equation, state: np.ndarray) -> Case:
    """Turn time.cfl into a step: cfl / sum(speed / spacing), shortened to divide output.every and the whole span."""
    if case.time.cfl is None:
        return case
    rate = sum(
        s / h for s, h in zip(equation.signal_speed(state, case.grid.grid()), case.grid.grid().spacing, strict=True)
    )
    if rate <= 0:
        raise CaseError("case", ["time.cfl: the initial state is at rest, so no step follows; give time.step"])
    count = math.ceil(case.output.every * rate / case.time.cfl)
    step = case.output.every / count
    resolved = case.model_copy(update={"time": case.time.model_copy(update={"step": step, "cfl": None})})
    if mistakes := _whole_steps(resolved):
        raise CaseError("case", mistakes)
    return resolved
