"""Progress bars in terminals and notebooks, and interruption after a checkpoint."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .exit_codes import Interrupted, stopping
from .failures import underway
from .terminal import printable

__all__ = ["Bars", "Interrupted", "StoppingBars", "console", "interruptible", "watching"]

console = Console(stderr=True)
COMPILING = "compiling, once per installation"


class Bars:
    """One progress bar per task, on standard error or in a notebook; none if `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=quiet or not (console.is_terminal or console.is_jupyter),
        )
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0
        self._until = ExitStack()

    def __enter__(self) -> Bars:
        self._progress.start()
        if not self._progress.disable:
            self._until.enter_context(self._compilation())
        return self

    def __exit__(self, *_: object) -> None:
        self._until.close()
        self._progress.stop()

    @contextmanager
    def _compilation(self) -> Iterator[None]:
        """A line while Numba compiles kernels, with the name of the kernel; in a second start it has nothing to do."""
        from numba.core import event

        task = self._progress.add_task(COMPILING, total=None, visible=False, note="")
        progress, lock, open_ = self._progress, threading.Lock(), [0]

        class Line(event.Listener):  # type: ignore[misc]
            def on_start(self, event: Any) -> None:
                with lock:
                    open_[0] += 1
                    progress.update(task, visible=True, note=event.data["dispatcher"].py_func.__name__, refresh=True)

            def on_end(self, event: Any) -> None:
                with lock:
                    open_[0] -= 1
                    progress.update(task, advance=1, visible=open_[0] > 0)

        with event.install_listener("numba:compile", Line()):
            yield

    def __call__(self, done: int, total: int, what: str, note: str = "") -> None:
        """Draw the bar of the task `what`, at most ten times a second."""
        underway.set()
        now = time.monotonic()
        if done < total and now - self._drawn < 0.1:
            return
        self._drawn = now
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(printable(what), total=total, note="")
        self._progress.update(self._tasks[what], completed=done, note=printable(note))


@contextmanager
def watching(progress: bool | Bars) -> Iterator[Bars]:
    """Progress bars, drawn if `progress` is true; bars that were started elsewhere are used as they are."""
    if isinstance(progress, Bars):
        yield progress
        return
    with Bars(quiet=not progress) as bars:
        yield bars


class StoppingBars:
    """Bars that raise KeyboardInterrupt at their next call after asked() has become true."""

    def __init__(self, bars: Bars, asked: Callable[[], bool]) -> None:
        self._bars, self._asked = bars, asked

    def __call__(self, done: int, total: int, what: str, note: str = "") -> None:
        """Draw the bar of the task `what`."""
        self._bars(done, total, what, note)
        if self._asked():
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, for a loop to stop between steps; a second signal acts as it did before.

    Before, it ends the command `subgrid` at once, and raises KeyboardInterrupt in Python and notebooks.
    """
    asked = threading.Event()
    underway.set()
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if not asked.is_set():
            stopping.set()
            asked.set()
            return
        if callable(earlier := before.get(number)):
            earlier(number, frame)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
        yield asked
    finally:
        for changed, earlier in before.items():
            signal.signal(changed, earlier)
