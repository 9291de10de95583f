"""The runs of a sweep, one after the other or in several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from subgrid.ingest.cache import locked
from subgrid.ingest.cluster import Cluster
from subgrid.solver.backend.files import write_json
from subgrid.solver.case.reading import read

from ..exit_codes import Interrupted, stopping
from ..progress import interruptible

REMEDY = "Remedy: run the same command again; it goes on where it was"
FAILURE = "failure.json"  # in the folder of a point whose run failed: the message


@dataclass(frozen=True)
class Task:
    """A run or a comparison of a case with overrides, in a folder of its own."""

    case: Path
    overrides: tuple[str, ...]
    folder: Path
    compares: bool


def finished(task: Task) -> bool:
    """Whether the task has ended, with a result or with a failure."""
    if (task.folder / FAILURE).exists():
        return True
    name, key, value = ("comparison.json", "done", True) if task.compares else ("summary.json", "status", "done")
    try:
        return bool(json.loads((task.folder / name).read_text(encoding="utf-8"))[key] == value)
    except (OSError, ValueError, KeyError):
        return False


def carry_out(task: Task, shared: bool = False) -> None:
    """Run the task, or go on with it. A failure of the run is kept in its folder; an interrupt is raised.

    shared: whether other tasks run on this machine meanwhile; the report of a comparison then says so.
    """
    from subgrid.solver.closure import PluginError
    from subgrid.solver.simulation import BlowUp

    from ..comparison.compare import compare, resume_comparison
    from ..run import resume, run_point

    begun = (task.folder / "case.toml").exists()
    try:
        if task.compares:
            if begun:
                resume_comparison(task.folder, progress=False, shared=shared)
            else:
                compare(read(task.case, task.overrides), out=task.folder, progress=False, shared=shared)
        elif begun:
            resume(task.folder, progress=False)
        else:
            run_point(read(task.case, task.overrides), task.folder)
    except (BlowUp, PluginError) as error:
        task.folder.mkdir(exist_ok=True)
        write_json(task.folder / FAILURE, {"error": f"{type(error).__name__}: {error}"})


def carry_out_all(tasks: Sequence[Task], jobs: int, threads: int) -> Iterator[Task]:
    """Carry out the tasks, in `jobs` processes of `threads` threads each, and yield each when it has ended.

    Raises Interrupted at a signal or if a process ends in the middle of a task, once all have ended. What is finished
    is kept, and the other runs have their checkpoints.
    """
    if jobs == 1:
        for task in tasks:
            try:
                carry_out(task)
            except Interrupted:  # its remedy is that of one run
                raise Interrupted("interrupted. " + REMEDY) from None
            yield task
        return
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(tasks))
    # the number of threads is read when a library is imported: it is set before the process starts
    before = os.environ.get("SUBGRID_THREADS")
    os.environ["SUBGRID_THREADS"] = str(threads)
    try:
        pairs = [context.Pipe() for _ in range(min(jobs, len(tasks)))]
        workers = [context.Process(target=_serve, args=(theirs,), daemon=True) for _, theirs in pairs]
        for worker in workers:
            worker.start()
    finally:
        if before is None:
            del os.environ["SUBGRID_THREADS"]
        else:
            os.environ["SUBGRID_THREADS"] = before
    for _, theirs in pairs:
        theirs.close()
    working: list[Any] = [ours for ours, _ in pairs if _hand_over(ours, waiting)]
    try:
        with interruptible() as asked:
            while working:
                ready: list[Any] = wait(working, timeout=0.2)
                for connection in ready:
                    try:
                        answer = connection.recv()
                    except EOFError:
                        raise Interrupted("a process of the sweep ended. " + REMEDY) from None
                    if isinstance(answer, BaseException):
                        raise answer
                    yield answer
                    if not _hand_over(connection, waiting):
                        working.remove(connection)
                if asked.is_set():
                    raise Interrupted("interrupted. " + REMEDY)
    finally:
        for worker in workers:
            worker.terminate()  # SIGTERM, after which a run ends with a checkpoint
        for worker in workers:
            worker.join()


def carry_out_by(workers: Cluster, tasks: Sequence[Task]) -> Iterator[Task]:
    """Carry out the tasks by the workers of a cluster, and yield each when it has ended."""
    with interruptible() as asked:

        def stop() -> None:
            if asked.is_set():
                raise Interrupted("interrupted. " + REMEDY)

        shared = workers.slots > 1
        for i, _ in workers.carry_out(_on_worker, [(task, shared) for task in tasks], stop):
            yield tasks[i]


def _on_worker(task: Task, shared: bool) -> None:
    """Carry out a task unless it is finished. A worker that is believed to be dead may still be at it: wait for it."""
    with locked(_lock(task), wait=lambda: None, temporary=True):
        if not finished(task):
            carry_out(task, shared)


def _lock(task: Task) -> Path:
    return task.folder.with_name(f".{task.folder.name}.lock")


def _hand_over(connection: Any, waiting: list[Task]) -> bool:
    """Give a process its next task; False, and nothing more to do, if none is left."""
    task = waiting.pop() if waiting else None
    connection.send(task)
    return task is not None


def _serve(connection: Any) -> None:
    """Carry out tasks in a process of its own, which leaves the interrupt of a terminal to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (task := connection.recv()) is not None:
        try:
            carry_out(task, shared=True)
        except (Interrupted, KeyboardInterrupt):
            return
        except OSError as error:
            connection.send(OSError(error.errno, error.strerror, error.filename))
            return
        except ValueError as error:
            connection.send(ValueError(f"{task.folder}: {error}"))
            return
        except BaseException:
            connection.send(RuntimeError(f"{task.folder}: {traceback.format_exc()}"))
            return
        if stopping.is_set():
            return
        connection.send(task)
