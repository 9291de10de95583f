"""Entry point of the command `subgrid`: signals are handled before the command line and its libraries are imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

from .exit_codes import INTERRUPTED, REMEDY


def main() -> None:
    """Run the command line; SIGINT and SIGTERM end the process with 130 and one message at any moment.

    A run or a comparison that is under way handles the first signal itself: it ends after its step, with a checkpoint.
    """
    handle_signals()
    from .cli import main as run_command

    run_command()


def handle_signals() -> None:
    """Let SIGINT and SIGTERM end the process with 130 and one message."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """End the process at once. Files are written beside and renamed, so that every moment is one to stop at.

    An exception instead could be lost: code called from C, as in compilation, and destructors print and drop it.
    """
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar may have hidden it
    try:
        os.write(2, f"{show_cursor}subgrid: {REMEDY}\n".encode())
    finally:
        os._exit(INTERRUPTED)
