"""The commands `data` and `ingest`. Libraries are imported inside them, so that --help is fast."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from .cli import Backend, Json, Out, Scheduler, Set, Workers, _command, _file, _finish, _read, _target
from .terminal import display

group = Group("Keys of the data", help="As in Python, open_data(PATH, length={'x': 1.0}), and in tables of a case.")
Table = dict[str, str] | None
Format = Literal["zarr", "the-well", "pdebench", "npz"]


def _key(help: str) -> Parameter:
    return Parameter(help=help, group=group, negative=())


@Parameter(name="*")
@dataclass
class Keys:
    """The keys of `subgrid.ingest.external.options.Options`, as text."""

    reader: Annotated[str | None, _key("Format by name, or FILE.py:CLASS.")] = None
    map: Annotated[Table, _key("--map.NEW OLD: names of fields, axes and parameters in the file.")] = None
    fields: Annotated[str | None, _key("Fields to read, by their new names.")] = None
    axes: Annotated[str | None, _key("Axes of an array without names: trajectory,time,x,...")] = None
    units: Annotated[Table, _key("--units.NAME UNIT.")] = None
    parameters: Annotated[Table, _key("--parameters.NAME VALUE.")] = None
    pattern: Annotated[str | None, _key("Name of the file, with {NAME} for a parameter.")] = None
    times: Annotated[str | None, _key("START:STEP.")] = None
    length: Annotated[Table, _key("--length.AXIS VALUE: period or extent.")] = None
    origin: Annotated[Table, _key("--origin.AXIS VALUE.")] = None
    grid: Annotated[Literal["points", "cells"] | None, _key("What values belong to.")] = None
    periodic: Annotated[str | None, _key("Periodic axes, or none.")] = None
    select: Annotated[Table, _key("--select.AXIS START:STOP:STEP.")] = None
    transpose: Annotated[str | None, _key("Two axes to exchange: x,y.")] = None
    drop_last_point: Annotated[str | None, _key("Axes whose last point repeats the first.")] = None
    drop_last_time: Annotated[bool, _key("Without the time after the last state.")] = False
    drop_trajectories: Annotated[str | None, _key("Indices of trajectories: 3,7.")] = None
    sort: Annotated[str | None, _key("Axes to put into increasing order.")] = None
    wrap: Annotated[Table, _key("--wrap.AXIS LOWEST: shift coordinates by whole periods.")] = None
    fill_value: Annotated[float | None, _key("The number that stands for a missing value.")] = None
    conserved: Annotated[str | None, _key("Fields whose mean must not change.")] = None
    accept: Annotated[str | None, _key("Codes of faults that are none here.")] = None


def ingest(
    path: Path,
    *,
    keys: Keys | None = None,
    out: Out = None,
    picture: Annotated[Path | None, Parameter(help="File for a picture; without --out by default NAME.png.")] = None,
    json_: Json = False,
) -> None:
    """Report what a file or folder of data holds, and what is missing or inconsistent. --out: copy it to a Zarr store.

    Every fault is refused with the key that corrects or accepts it. Run the command again to resume a copy.
    """
    from .ingest import ingest as ingest_data

    given = {} if keys is None else {k: v for k, v in asdict(keys).items() if v not in (None, False)}
    ingest_data(path, given, out, _file(picture, "--picture"), json_, _command())


def data(
    case: Path,
    *,
    format: Format | None = None,
    set_: Set = (),
    out: Out = None,
    backend: Backend = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json_: Json = False,
) -> None:
    """Compute the training set, the reference and the sweep of a case, unless they are in the cache.

    Run the command again to resume, on any number of workers. --out: a text file for the directories. --format: write
    the sets train, valid and test, split by trajectory, and the sweep, in this format to the new folder
    runs/CASE-FORMAT, or to --out.
    """
    from subgrid.ingest.cluster import cluster
    from subgrid.ingest.pieces import Kind, generate_in_pieces, runs_in_pieces
    from subgrid.ingest.prepare import with_step
    from subgrid.ingest.requests import Request, reference_request, training_request
    from subgrid.ingest.sweep import runs
    from subgrid.ingest.trajectories import generate, start

    from .progress import Bars

    if format is not None:
        if workers is not None or scheduler is not None:
            raise ValueError(
                f"--format {format}: one process writes it. Remedy: the command with workers and without --format, "
                "and then the one without workers"
            )
        _export(format, _target(out, case, format), _read(case, set_, backend), json_)
        return
    out = None if out is None else out.absolute()
    checked = _read(case, set_, backend)
    out = _file(out)
    gridded = checked.reference is not None and not checked.reference.exact
    if not gridded and checked.sweep is None and (checked.training is None or checked.training.file is None):
        raise ValueError(
            f"{case}: reference.shape: missing; without [sweep], data need a finer grid. Remedy: set reference.shape"
        )
    where: dict[str, str] = {}
    with cluster(workers, scheduler) as pool, Bars(quiet=json_) as bars:
        resolved = with_step(checked)
        asked: dict[Kind, Request] = {"reference": reference_request(resolved)} if gridded else {}
        if resolved.training is not None:
            asked["training"] = training_request(resolved)
            start(resolved, asked["training"])  # before the reference is computed
        for kind, request in asked.items():
            if pool is None:
                where[kind] = str(generate(resolved, request, bars).directory)
            else:
                where[kind] = str(generate_in_pieces(kind, resolved, request, pool, bars).directory)
        if resolved.sweep is not None:
            if pool is not None:
                runs_in_pieces(resolved, pool, bars)
            where["sweep"] = str(runs(resolved, resolved.sweep.points(), bars).directory)
    text = "\n".join(f"{name}: {path}" for name, path in where.items())
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    _finish(where, json_, lambda: display(text))


def _export(form: Format, target: Path, checked: Any, json_: bool) -> None:
    from subgrid.ingest.external.export import export, require_new

    from .progress import Bars

    require_new(target)
    with Bars(quiet=json_) as bars:
        about = export(checked, form, target, bars, _command())
    sizes = ", ".join(f"{name} {count}" for name, count in about["sets"].items())
    _finish(about | {"out": str(target)}, json_, lambda: display(f"{form}: {sizes} trajectories -> {target}"))
