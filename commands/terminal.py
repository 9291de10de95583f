"""Text from outside the program, made safe to print: on terminals, in progress bars and in reports."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import unicodedata

from .exit_codes import PROCESS

PATIENCE = 30  # seconds
UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (bidirectional controls), surrogates, separators of lines


def printable(text: str, keep: str = "") -> str:
    r"""The text with every character that a terminal may act on or hide written as an escape, as in \x1b or \u202e.

    These are control characters (ANSI sequences, carriage returns), bidirectional and other format characters,
    surrogates, and line and paragraph separators, except those in `keep`. For titles, names, paths and messages.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in UNSAFE else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def accept_every_character() -> None:
    r"""Write characters that the encoding of standard output or standard error lacks as escapes, as in \u03b1.

    Without it, a locale with ASCII or Latin-1 turns a message with other characters into a UnicodeEncodeError.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Drop what standard output holds if it cannot be written: its reader has gone, or its disk is full."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def display(text: str) -> None:
    """Print a text of several lines on standard output."""
    print(printable(text, keep="\n"))


def say(message: str, code: int) -> int:
    """Print the one message of a failure on standard error, where somebody may read it; returns the exit code.

    The processes of torchrun fail together: the first one says why, torchrun then ends the others, and only if it does
    not do they speak for themselves.
    """
    if PROCESS > 0:
        time.sleep(PATIENCE)
        message = f"process {PROCESS}: {message}"
    with contextlib.suppress(OSError):
        print(f"subgrid: {printable(message, keep=chr(10))}", file=sys.stderr, flush=True)
    return code
