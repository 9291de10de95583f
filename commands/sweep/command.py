"""The command `sweep`, and the same in Python."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..cli import Json, Out, Scheduler, Set, Workers, _finish, _target
from ..terminal import display

if TYPE_CHECKING:
    import xarray as xr

    from subgrid.solver.backend.files import FolderLock

    from ..progress import Bars

Vary = Annotated[
    tuple[str, ...], Parameter(name="--vary", negative=(), help="KEY=LOW:HIGH:COUNT, KEY=A,B,... or KEY=LOW:HIGH.")
]


def sweep(
    case: Path,
    *,
    vary: Vary = (),
    compare: Annotated[bool, Parameter(negative=(), help="Compare at every point, in place of a run.")] = False,
    samples: Annotated[int | None, Parameter(help="Points of a Latin hypercube, in place of a grid.")] = None,
    seed: Annotated[int, Parameter(help="Seed of the Latin hypercube.")] = 0,
    jobs: Annotated[int | None, Parameter(help="Processes; by default one per core, for comparisons one.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    set_: Set = (),
    out: Out = None,
    json_: Json = False,
) -> None:
    """Run or compare a case for many values of its keys, and write one table, one Zarr store and one picture.

    Every point has a folder of its own. Run the same command again to resume. Results go to runs/CASE-sweep, or --out.
    """
    import shutil

    from .results import frame, text

    target = _target(out, case, "sweep")
    settings: dict[str, Any] = {"compare": compare, "samples": samples, "seed": seed, "jobs": jobs, "overrides": set_}
    settings |= {"workers": workers, "scheduler": scheduler}
    found = run_sweep(case, vary, out=target, progress=not json_, **settings)
    table = frame(found)
    failed = int(table["failed"].sum())

    def show() -> None:
        display(text(table, [axis.partition("=")[0].strip() for axis in vary], shutil.get_terminal_size().columns))
        if failed:
            display(f"{failed} runs failed; their folders have the reason in failure.json")
        display(f"-> {target}")

    records = table.astype(object).where(table.notna(), None).to_dict("records")
    _finish({"folder": str(target), "table": records}, json_, show)


def run_sweep(
    case: str | os.PathLike[str],
    vary: Sequence[str],
    *,
    out: str | os.PathLike[str],
    compare: bool = False,
    samples: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    overrides: Sequence[str] = (),
    progress: bool | Bars = True,
) -> xr.Dataset:
    """Run or compare a case at every point of a grid or a Latin hypercube of values of its keys.

    vary: "KEY=LOW:HIGH:COUNT", "KEY=A,B,..." or, with samples, "KEY=LOW:HIGH". out: the folder; a sweep that is there
    is continued if it is this one. jobs: processes, each with its share of the cores. workers, scheduler: in their
    place so many workers of Dask on this machine, or those of the scheduler at an address, which must see `out` and the
    files of the case under the same names. The results do not depend on it, but costs do: comparisons have one process
    by default. Returns the final invariants of runs, or the scores of comparisons,
    over the varied keys. A run that fails has NaN, and the others go on.

    Raises ValueError for wrong keys, values or cases before anything runs, ClusterError, and Interrupted.
    """
    from subgrid.ingest.cluster import cluster
    from subgrid.solver.backend import available_threads
    from subgrid.solver.backend.files import read_json, write_json
    from subgrid.solver.case.reading import read
    from subgrid.solver.case.shipped import case_file

    from ..progress import watching
    from .points import design
    from .points import overrides as as_overrides
    from .results import dataset, frame, write
    from .workers import Task, carry_out_all, carry_out_by, finished

    folder, path = Path(os.path.abspath(out)), Path(os.path.abspath(case)) if Path(case).exists() else Path(case)
    threads = available_threads()
    given = jobs is not None
    jobs = jobs if jobs is not None else 1 if compare else threads
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: expected 1 or more")
    if given and (workers is not None or scheduler is not None):
        raise ValueError("--jobs and --workers or --scheduler: choose one")
    axes, points = design(vary, samples, seed)
    width = len(str(len(points) - 1))
    tasks = []
    for i, point in enumerate(points):
        changed = (*overrides, *as_overrides(axes, point))
        checked = read(path, changed)  # every mistake before the first run
        if compare and checked.reference is None:
            raise ValueError("reference: missing; a comparison needs a reference. Remedy: leave out --compare")
        tasks.append(Task(path, changed, folder / f"{i:0{width}d}", compare))
    contents = hashlib.sha256(case_file(path).read_bytes()).hexdigest()
    about: dict[str, Any] = {"case": str(path), "sha256": contents, "vary": list(vary), "overrides": list(overrides)}
    about |= {"compare": compare, "samples": samples, "seed": seed}
    kept = folder / "sweep.json"
    if not kept.exists() and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no sweep. Remedy: choose another --out")
    with cluster(workers, scheduler) as pool, _locked(folder), watching(progress) as bars:
        if kept.exists() and (before := read_json(kept)) != about:
            changed_keys = [key for key in about if before.get(key) != about[key]]
            raise ValueError(
                f"{folder} holds another sweep ({', '.join(changed_keys)} differ). Remedy: choose another --out"
            )
        write_json(kept, about)
        left = [task for task in tasks if not finished(task)]
        done = len(tasks) - len(left)
        bars(done, len(tasks), "points of the sweep")
        if pool is None:
            together = max(1, min(jobs, len(left)))
            ended: Iterator[Any] = carry_out_all(left, together, max(1, threads // together))
        else:
            pool.require_shared(folder)
            ended = carry_out_by(pool, left)
        for _ in ended:
            done += 1
            bars(done, len(tasks), "points of the sweep")
        found = dataset(axes, points, tasks)
        write(folder, found, frame(found), [axis.key for axis in axes])
    return found


def _locked(folder: Path) -> FolderLock:
    """The lock of a folder, which is made if it is missing."""
    from subgrid.solver.backend.files import FolderLock

    folder.mkdir(parents=True, exist_ok=True)
    return FolderLock(folder)
