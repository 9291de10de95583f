"""Exceptions in the code of plug-ins: one family, with the name of the plug-in and the file and line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .plugin_files import PREFIX

INSTALLED: set[str] = set()  # top-level packages of the plug-ins that were found by entry point


class PluginError(RuntimeError):
    """A plug-in raised an exception, or its answer is wrong; names the plug-in and, of an exception, file and line."""


@contextmanager
def plugin_errors() -> Iterator[None]:
    """Turn every exception that the code of a plug-in raised, except KeyboardInterrupt, into a PluginError.

    Also SystemExit, GeneratorExit and StopIteration, which would end the process or a loop without an error.
    """
    try:
        yield
    except (KeyboardInterrupt, PluginError):
        raise
    except BaseException as error:
        frames = _plugin_frames(error)
        if not frames:
            raise
        name = frames[0][0].f_code.co_qualname
        raise PluginError(f"plug-in {name!r} raised {describe_error(error)}. Remedy: correct the plug-in") from error


def describe_error(error: BaseException) -> str:
    """Type, text, file and line of an exception; the line is the last one of a plug-in, else the last one of all."""
    frames = _plugin_frames(error) or list(traceback.walk_tb(error.__traceback__))
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException as second:
        if isinstance(second, KeyboardInterrupt):
            raise
        text = type(error).__name__
    if isinstance(error, SyntaxError) or not frames:  # a SyntaxError names the place itself
        return text
    frame, line = frames[-1]
    return f"{text} ({frame.f_code.co_filename}, line {line})"


def from_plugin(error: BaseException) -> bool:
    """Whether the code of a plug-in that does not ship with subgrid raised the exception, directly or in a call."""
    return bool(_plugin_frames(error))


def _plugin_frames(error: BaseException) -> list[tuple[FrameType, int]]:
    """The frames of a traceback that run the code of a plug-in which does not ship with subgrid, with their lines."""
    modules = ((f, n, str(f.f_globals.get("__name__", ""))) for f, n in traceback.walk_tb(error.__traceback__))
    return [(f, n) for f, n, m in modules if m.startswith(PREFIX) or m.partition(".")[0] in INSTALLED]
