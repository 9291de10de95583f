"""Exceptions in the code of plug-ins: one family, with the name of the plug-in and the file and line."""

from __future__ import annotations

import traceback
from contextlib import ContextDecorator
from types import FrameType
from typing import Any

from .plugin_files import PREFIX

INSTALLED: set[str] = set()  # top-level packages of the plug-ins that were found by entry point


class PluginError(RuntimeError):
    """A plug-in raised an exception, or its answer is wrong; names the plug-in and, of an exception, file and line."""


class plugin_errors(ContextDecorator):
    """Turn every exception that the code of a plug-in raised, except KeyboardInterrupt, into a PluginError.

    Also SystemExit, GeneratorExit and StopIteration, which would end the process or a loop without an error. A context
    manager or a decorator. (A generator with `contextlib.contextmanager` would let StopIteration pass.)
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, PluginError)) or not from_plugin(error):
            return
        name = _plugin_frames(error)[0][0].f_code.co_qualname
        raise PluginError(f"plug-in {name!r} raised {describe_error(error)}. Remedy: correct the plug-in") from error


def describe_error(error: BaseException) -> str:
    """Type, text, file and line of an exception: see `place`."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException as second:
        if isinstance(second, KeyboardInterrupt):
            raise
        text = type(error).__name__
    return text if isinstance(error, SyntaxError) else text + place(error)  # a SyntaxError names the place itself


def place(error: BaseException) -> str:
    """The file and the line of an exception in brackets: the last line of a plug-in, else the last one of all."""
    frames = _plugin_frames(error) or list(traceback.walk_tb(error.__traceback__))
    return f" ({frames[-1][0].f_code.co_filename}, line {frames[-1][1]})" if frames else ""


def from_plugin(error: BaseException) -> bool:
    """Whether the code of a plug-in that does not ship with subgrid raised the exception, directly or in a call."""
    return bool(_plugin_frames(error))


def _plugin_frames(error: BaseException) -> list[tuple[FrameType, int]]:
    """The frames of a traceback that run the code of a plug-in which does not ship with subgrid, with their lines."""
    modules = ((f, n, str(f.f_globals.get("__name__", ""))) for f, n in traceback.walk_tb(error.__traceback__))
    return [(f, n) for f, n, m in modules if m.startswith(PREFIX) or m.partition(".")[0] in INSTALLED]
