"""Processes that carry out the tasks of a command, by Dask: on this machine, or behind a scheduler.

A task is a function and plain arguments, which names what it makes by paths; no arrays pass through the scheduler. It
writes a piece of its own, which is complete when the file that marks it is there. A task that is carried out twice, or
on another machine, writes the same bytes.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from subgrid.solver.backend import available_threads

REMEDY = "Remedy: run the same command again; it goes on where it was"
GONE = f"the scheduler is gone. {REMEDY}"
WAITING = 20  # seconds, for the first worker of a scheduler
LOST_WORKERS = 3  # that one task may cost without being given up
POLL = 0.05  # seconds between two looks at what has ended
LOOK = 5.0  # seconds between two looks at how many workers there are
TOGETHER = 0.5  # seconds that a group of short tasks takes; the messages of Dask take some milliseconds
MOST = 256  # tasks in a group
AHEAD = 3  # groups for each worker: one that it carries out, one that it has, one for when both have ended

# Of workers on this machine, which share its cores with the client and the scheduler: what Dask measures beside the
# tasks, and giving freed memory back to the system at once, cost time that short runs notice.
LOCAL: dict[str, Any] = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


class ClusterError(ValueError):
    """The workers or their scheduler cannot be used; the message names the remedy."""


class WorkersLost(RuntimeError):
    """The scheduler is gone, or a task has cost too many workers. What is finished is kept."""


class Cluster:
    """Workers of one thread each, or of more where there are fewer of them than cores."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def require_shared(self, folder: Path) -> None:
        """Raise ClusterError unless every worker sees what this process writes into a folder.

        The folder is made if it is missing, and then removed before the error is raised.
        """
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / f".shared-{uuid.uuid4().hex}"
        token.touch()
        try:
            seen = self._ask(_sees, str(token))
        finally:
            token.unlink()
        if blind := sorted({name for name, sees in seen.values() if not sees}):
            if made:
                folder.rmdir()
            raise ClusterError(
                f"{folder} is not shared with the workers on {', '.join(blind)}. "
                "Remedy: a folder that this machine and all workers see under the same name"
            )

    @property
    def slots(self) -> int:
        """Number of workers, each of which carries out one task at a time; at least 1."""
        return max(1, len(self._ask(_busy)))

    def busy_here(self) -> bool:
        """Whether a worker on this machine is carrying out a task, of this command or of another one."""
        here = socket.gethostname()
        return any(host == here and busy for host, busy in self._ask(_busy).values())

    def _threads(self) -> int:
        """Number of tasks that the workers carry out at a time; at least 1."""
        try:
            return max(1, sum(self._client.nthreads().values()))
        except Exception:  # of whatever kind a lost connection is
            raise WorkersLost(GONE) from None

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """The answer of each worker at once, beside its task; a worker that dies has none. Raises WorkersLost."""
        try:
            return dict(self._client.run(function, *arguments, on_error="ignore"))
        except Exception:  # of whatever kind a lost connection is
            raise WorkersLost(GONE) from None

    def carry_out(
        self,
        function: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        waiting: Callable[[], object] = lambda: None,
    ) -> Iterator[tuple[int, Any]]:
        """function(*task) for each task; its index and its answer when it has ended.

        Short tasks are carried out in groups, of about TOGETHER seconds. A worker that dies costs its group, which
        another one carries out: a task that has ended before must find what it made. waiting: called several times a
        second; what it raises ends the wait and cancels the tasks. Raises what a task raises, and WorkersLost if the
        scheduler is gone or a group has cost too many workers.
        """
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm import CommClosedError

        futures: dict[Any, list[int]] = {}
        left, groups, name = deque(range(len(tasks))), _Groups(), f"subgrid-{uuid.uuid4().hex}"
        slots, looked, number = self._threads(), time.monotonic(), itertools.count()
        try:
            ended = as_completed(loop=self._client.loop)
            while left or futures:
                while left and len(futures) < AHEAD * slots:
                    group = groups.take(left, slots)
                    # keys of one name are a group of Dask, of which a worker gets the next when it is free
                    chosen = self._client.submit(
                        _carried_out, function, [tasks[i] for i in group], key=(name, next(number)), pure=False
                    )
                    futures[chosen] = group
                    ended.add(chosen)
                for future in ended.next_batch(block=False):
                    answers, seconds = future.result()
                    group = futures.pop(future)
                    future.release()
                    left.extendleft(reversed(group[len(answers) :]))
                    groups.note(len(answers), seconds)
                    yield from zip(group, answers, strict=False)
                waiting()
                if not ended.has_ready():
                    time.sleep(POLL)
                if time.monotonic() - looked > LOOK:
                    slots, looked = self._threads(), time.monotonic()
        except KilledWorker:
            raise WorkersLost(f"a task has cost {LOST_WORKERS + 1} workers, of memory perhaps. {REMEDY}") from None
        except (CancelledError, CommClosedError, TimeoutError):
            raise WorkersLost(GONE) from None
        finally:
            with suppress(Exception):
                self._client.cancel(list(futures), force=True)


@contextmanager
def cluster(workers: int | None, scheduler: str | None) -> Iterator[Cluster | None]:
    """`workers` processes on this machine, or those of the scheduler at an address; None for neither.

    The address of the dashboard is printed on standard error. Raises ValueError for wrong arguments, and where Dask is
    missing, and ClusterError for a scheduler that does not answer or has no workers.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise ValueError("--workers and --scheduler: choose one; a scheduler has workers of its own")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: expected 1 or more")
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError("--workers and --scheduler need Dask. Remedy: pip install 'subgrid[scale]'") from None
    with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}), _silent():
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="10s")
            except (OSError, TimeoutError, ValueError, TypeError, ImportError, RuntimeError) as error:  # as the kind of
                # address has it: one of tls:// lacks the certificates, one of ucx:// a library
                raise ClusterError(f"--scheduler {scheduler}: does not answer ({error})") from None
            with client:
                try:
                    client.wait_for_workers(1, timeout=WAITING)
                except (TimeoutError, OSError, RuntimeError):
                    found = f"--scheduler {scheduler}: has no workers after {WAITING} s"
                    raise ClusterError(f"{found}. Remedy: dask worker {scheduler}") from None
                yield _announced(client)
            return
        assert workers is not None
        environment = {"SUBGRID_THREADS": str(max(1, available_threads() // workers))}
        with (
            dask.config.set(LOCAL),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=":0",
                env=environment, silence_logs=50,
            ) as local,
            Client(local) as client,
        ):  # fmt: skip
            yield _announced(client)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the log of Dask in this process, which prints a traceback for a lost connection."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _announced(client: Any) -> Cluster:
    if sys.stderr is not None:
        print(f"Dask dashboard: {client.dashboard_link}", file=sys.stderr)
    return Cluster(client)


class _Groups:
    """Sizes of groups of tasks: one task, until it is known how long they take."""

    def __init__(self) -> None:
        self._size = 1

    def note(self, count: int, seconds: float) -> None:
        """Tasks of a group that were carried out, and the time that they took."""
        self._size = int(min(MOST, max(1.0, TOGETHER * count / max(seconds, 1e-9))))

    def take(self, left: deque[int], slots: int) -> list[int]:
        """The next group of those that are left, which must also suffice to keep all workers busy until the end."""
        size = max(1, min(self._size, len(left) // (2 * slots)))
        return [left.popleft() for _ in range(size)]


def _carried_out(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> tuple[list[Any], float]:
    """function(*task) for the tasks of a group, but for those at its end that would take too long; the seconds of all.

    Mistakes are plain ValueErrors: others need not exist in another process.
    """
    began = time.monotonic()
    answers: list[Any] = []
    for task in tasks:
        try:
            answers.append(function(*task))
        except ValueError as error:
            raise ValueError(str(error)) from None
        if time.monotonic() - began > 2 * TOGETHER:
            break
    return answers, time.monotonic() - began


def _busy(dask_worker: Any) -> tuple[str, bool]:
    """The machine of a worker, and whether one of its threads is at work, on a task that was cancelled, perhaps."""
    return socket.gethostname(), bool(dask_worker.state.all_running_tasks)


def _sees(path: str) -> tuple[str, bool]:
    return socket.gethostname(), os.path.exists(path)
