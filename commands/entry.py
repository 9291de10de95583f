"""Entry point of the command `subgrid`: signals are handled before the command line and its libraries are imported."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from .exit_codes import INTERRUPTED, MISTAKE, PROCESS, PROCESSES, REMEDY, stopping

_ending = threading.Lock()


def main() -> None:
    """Run the command line; SIGINT and SIGTERM end the process with 130 and one message at any moment.

    A run or a comparison that is under way handles the first signal itself: it ends after its step, with a checkpoint.
    """
    handle_signals()
    if PROCESS > 0:
        sys.stdout = None  # type: ignore[assignment]  # the first process of torchrun prints the results
    if PROCESSES > 1 and sys.argv[1:2] != ["train"]:
        from .terminal import say

        sys.exit(say("torchrun is for `subgrid train` alone. Remedy: start this command by itself", MISTAKE))
    from .cli import main as run_command

    run_command()


def handle_signals() -> None:
    """Let SIGINT and SIGTERM end the process with 130 and one message.

    Python runs its handlers between two instructions of the main thread, which may be in compiled code for a minute. A
    thread therefore watches for signals as well: kernels and the compiler let it run.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        arrived, wakeup = os.pipe()
    except OSError:  # too many open files: the handlers alone
        return
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(arrived,), daemon=True).start()


def _watch(arrived: int) -> None:
    """End the process at a signal that nothing else handles, or at the second one."""
    seen = 0
    while numbers := os.read(arrived, 1):
        if numbers[0] in (signal.SIGINT, signal.SIGTERM):
            seen += 1
            if seen > 1 or (signal.getsignal(numbers[0]) is _end and not stopping.is_set()):
                _end(numbers[0], None)


def _end(number: int, frame: FrameType | None) -> None:
    """End the process at once. Files are written beside and renamed, so that every moment is one to stop at.

    An exception instead could be lost: code called from C, as in compilation, and destructors print and drop it.
    """
    if not _ending.acquire(blocking=False):  # the other thread, or the handler below this one, is at it
        return
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar may have hidden it
    try:
        if PROCESS == 0:  # one message for all processes of torchrun
            os.write(2, f"{show_cursor}subgrid: {REMEDY}\n".encode())
    finally:
        os._exit(INTERRUPTED)
