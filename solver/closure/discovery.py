"""How a closure is found: by entry point, or by the path of its file."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import inspect as python
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .contract import Closure

if TYPE_CHECKING:
    pass


GROUP = "subgrid.closures"


class UnknownClosure(ValueError):
    """No closure of this name, or its module cannot be imported."""


def names() -> list[str]:
    """Names of the closures that are installed, whether or not they can be imported."""
    return sorted({e.name for e in importlib.metadata.entry_points(group=GROUP)})


def find(name: str) -> type[Closure]:
    """The closure class registered as `name` under the entry-point group `subgrid.closures`.

    Raises UnknownClosure, with the nearest name or with the reason why the plug-in cannot be imported.
    """
    matches = [e for e in importlib.metadata.entry_points(group=GROUP) if e.name == name]
    if not matches:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UnknownClosure(f"no closure is named {name!r}{hint} Known: {', '.join(names())}")
    try:
        found = matches[0].load()
    except (Exception, SystemExit) as error:
        raise UnknownClosure(
            f"closure {name!r} cannot be imported from {matches[0].value}: {type(error).__name__}: {error}"
        ) from error
    return _checked(found, matches[0].value)


def load(path: str, folder: Path) -> type[Closure]:
    """The class named by "file.py:Class", the file relative to `folder`. Raises UnknownClosure."""
    file, _, attribute = path.rpartition(":")
    if not file or not attribute:
        raise UnknownClosure(f"path {path!r} must read 'file.py:ClassName'")
    source = Path(os.path.abspath(folder / file))
    if not os.path.isfile(source):
        raise UnknownClosure(f"path {path!r}: there is no file {source}")
    spec = importlib.util.spec_from_file_location(f"subgrid_closure_{source.stem}", source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise UnknownClosure(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise UnknownClosure(f"{source} defines no {attribute}")
    return _checked(getattr(module, attribute), path)


def _checked(found: object, where: str) -> type[Closure]:
    if not (isinstance(found, type) and issubclass(found, Closure)):
        raise UnknownClosure(f"{where} is not a subclass of subgrid.solver.closure.Closure")
    if python.isabstract(found):
        raise UnknownClosure(f"{where} does not define {' and '.join(sorted(found.__abstractmethods__))}")
    return found
