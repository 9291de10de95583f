"""Generated trajectories and runs in pieces, one task each, for the workers of a cluster."""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from subgrid.solver.case.reading import check
from subgrid.solver.case.tables import Case

from .cache import cache, locked, say_waiting
from .cluster import Cluster, ClusterError
from .files import Trajectories
from .prepare import with_step
from .requests import Request, piece, pieces, reference_request, start_request, training_request
from .sweep import provide, unfinished
from .trajectories import Progress, generate, holding_more, joined, kind_of, start

_ENVIRONMENT = threading.Lock()
Kind = Literal["reference", "start", "training"]
REQUESTS = {"reference": reference_request, "start": start_request, "training": training_request}
Source = tuple[str, str]  # a case as TOML, with every default written out, and its folder


def source(case: Case) -> Source:
    """A case as a worker takes it."""
    import tomli_w

    return tomli_w.dumps(case.resolved()), str(case.folder)


def case_of(source: Source) -> Case:
    """The case in a worker, with its step. Raises CaseError, for a file that this machine lacks."""
    text, folder = source
    return with_step(check(tomllib.loads(text), "case", Path(folder)))


def generate_in_pieces(kind: Kind, case: Case, request: Request, workers: Cluster, progress: Progress) -> Trajectories:
    """The requested trajectories, by the workers, with the bytes that `generate` gives.

    A piece is some trajectories, in a directory of its own in the cache, which the workers must share. Pieces that are
    finished are kept until all are.
    """
    directory = request.directory()
    with suppress(ValueError, OSError):
        return Trajectories(directory)
    if (holding := holding_more(request)) is not None:
        return holding
    if request.file is not None or request.trajectories == 1:
        return generate(case, request, progress)
    start(case, request)  # before anything is written
    with locked(directory, say_waiting(f"the data in {directory}")):
        if (directory / "done.json").is_file():
            with suppress(ValueError):
                return Trajectories(directory)
        workers.require_shared(directory)
        text, what = source(case), kind_of(request)
        tasks = [(text, kind, p.first, p.trajectories, str(p.directory())) for p in pieces(request)]
        progress(0, len(tasks), what)
        for done, _ in enumerate(workers.carry_out(_piece, tasks), 1):
            progress(done, len(tasks), what)
        return joined(case, request)


def _piece(source: Source, kind: Kind, first: int, count: int, directory: str) -> None:
    """Generate some trajectories of a case into the directory that the parent expects. Run by a worker."""
    with cache_at(Path(directory).parent):
        case = case_of(source)
        request = piece(REQUESTS[kind](case), first, count)
        if str(request.directory()) != directory:
            raise ClusterError(
                f"a worker reads other files for {case.title!r}, or has another version of subgrid, than this process. "
                "Remedy: the same files and versions for all"
            )
        generate(case, request)


def runs_in_pieces(case: Case, workers: Cluster, progress: Progress) -> None:
    """The runs of the sweep of a case that the cache lacks, by the workers."""
    assert case.sweep is not None
    points = case.sweep.points()
    left = unfinished(case, points)
    if not left:
        return
    folder = cache() / "sweep"
    workers.require_shared(folder)
    text = source(case)
    tasks = [(text, i, str(folder)) for i in left]
    for done, _ in enumerate(workers.carry_out(_run, tasks), 1):
        progress(len(points) - len(left) + done, len(points), "sweep")


def _run(source: Source, index: int, folder: str) -> None:
    with cache_at(Path(folder).parent):
        case = case_of(source)
        assert case.sweep is not None
        provide(case, case.sweep.points()[index])


@contextmanager
def cache_at(folder: Path) -> Iterator[None]:
    """The cache of the parent in this process, whatever its own is.

    Of the threads of a worker one at a time is inside, as all have the same environment; a task uses all cores.
    """
    with _ENVIRONMENT:
        before: Any = os.environ.get("SUBGRID_CACHE")
        os.environ["SUBGRID_CACHE"] = str(folder)
        try:
            yield
        finally:
            if before is None:
                del os.environ["SUBGRID_CACHE"]
            else:
                os.environ["SUBGRID_CACHE"] = before
