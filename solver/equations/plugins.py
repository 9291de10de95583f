"""Plug-ins: equations, initial states, forcings, steppers and closures, found by name or by file.

A name is one of those that ship, or an entry point of the group; "file.py:Name" is an attribute of a Python file. Each
kind of plug-in has one `Registry`. Modules are imported when a plug-in is asked for, so that a module that cannot be
imported is reported by name and breaks nothing else.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

Kind = TypeVar("Kind")
PREFIX = "subgrid_plugin_"  # of the names of modules that are loaded from files
_PATH = re.compile(r"^(.+\.py):(\w+)$", re.DOTALL)


class UnknownPlugin(ValueError):
    """No plug-in has this name, or its module cannot be imported."""


def unknown(value: str, known: Any) -> str:
    """The message for a name that is not known, with the nearest known name."""
    near = difflib.get_close_matches(value, list(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{value!r} is not known; {hint}expected one of: {', '.join(known)}"


class Registry(Mapping[str, Kind], Generic[Kind]):
    """The plug-ins of one kind, by name.

    group: entry-point group. what: the word for one of them in messages. base: the class that they subclass, or, with
    `instances`, the types that they are instances of. shipped: name -> the plug-in, or "module:attribute".
    required: class attributes that a plug-in must define. error: the exception raised.
    """

    def __init__(
        self,
        group: str,
        what: str,
        base: Any,
        shipped: Mapping[str, Any] | None = None,
        *,
        instances: bool = False,
        required: tuple[str, ...] = (),
        error: type[UnknownPlugin] = UnknownPlugin,
    ) -> None:
        self.group, self.what, self._base, self._instances, self._error = group, what, base, instances, error
        self._required = required
        self._shipped: dict[str, Any] = dict(shipped or {})

    def __iter__(self) -> Iterator[str]:
        return iter([*self._shipped, *sorted(self._entry_points().keys() - self._shipped.keys())])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._shipped or name in self._entry_points()

    def __getitem__(self, name: str) -> Kind:
        return self.find(name)

    def find(self, name: str, folder: Path | None = None) -> Kind:
        """The plug-in of this name, or the attribute that "file.py:Name" names, the file relative to `folder`.

        Raises UnknownPlugin with the nearest name, or with the reason why the module cannot be imported.
        """
        if is_path(name):
            return self.load(name, folder or Path())
        if name in self._shipped:
            found = self._shipped[name]
            return self._checked(_attribute(found), found) if isinstance(found, str) else found
        matches = self._entry_points()
        if name not in matches:
            near = difflib.get_close_matches(name, list(self), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise self._error(f"no {self.what} is named {name!r}{hint} Known: {', '.join(self)}")
        try:
            found = matches[name].load()
        except (Exception, SystemExit) as error:
            raise self._error(
                f"{self.what} {name!r} cannot be imported from {matches[name].value}: {type(error).__name__}: {error}"
            ) from error
        return self._checked(found, matches[name].value)

    def load(self, path: str, folder: Path) -> Kind:
        """The attribute that "file.py:Name" names, the file relative to `folder`. Raises UnknownPlugin."""
        file, _, attribute = path.rpartition(":")
        if not file or not attribute:
            raise self._error(f"path {path!r} must read 'file.py:Name'")
        source = Path(os.path.abspath(folder / file))
        if not os.path.isfile(source):
            raise self._error(f"path {path!r}: there is no file {source}")
        try:
            module = _module(source)
        except (Exception, SystemExit) as error:
            raise self._error(f"{source} cannot be imported: {type(error).__name__}: {error}") from error
        if not hasattr(module, attribute):
            raise self._error(f"{source} defines no {attribute}")
        return self._checked(getattr(module, attribute), path)

    def available(self) -> Iterator[tuple[str, Kind]]:
        """(name, plug-in) of all that can be imported."""
        for name in self:
            try:
                yield name, self.find(name)
            except UnknownPlugin:
                continue

    def of(self, table: Mapping[str, Any], tag: str) -> Kind:
        """The plug-in of a table of a case: by its key `tag`, else by `path`."""
        return self.find(table[tag] if tag in table else table["path"])

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Entry points by name. Raises the registry's error if two packages use one name for different objects."""
        found: dict[str, importlib.metadata.EntryPoint] = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            other = found.setdefault(entry.name, entry)
            if other.value != entry.value:
                raise self._error(
                    f"two packages register a {self.what} named {entry.name!r}: {other.value} and {entry.value}. "
                    "Remedy: uninstall one of them"
                )
        return found

    def _checked(self, found: Any, where: str) -> Any:
        if self._instances:
            if not isinstance(found, self._base):
                raise self._error(f"{where} is not a {self.what}: found an object of type {type(found).__name__}")
            return found
        if not (isinstance(found, type) and issubclass(found, self._base)):
            raise self._error(f"{where} is not a subclass of subgrid.{self._base.__name__}")
        missing = [name for name in self._required if not hasattr(found, name)]
        if missing or inspect.isabstract(found):
            missing += sorted(getattr(found, "__abstractmethods__", ()))
            raise self._error(f"{where} does not define {' and '.join(missing)}")
        return found


def is_path(name: str) -> bool:
    """Whether the name of a plug-in reads "file.py:Name"."""
    return _PATH.match(name) is not None


def _attribute(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _module(source: Path) -> Any:
    """The module of a file, imported again only if its content changed, so that its classes keep their identity."""
    content = source.read_bytes()
    name = f"{PREFIX}{source.stem}_{hashlib.sha256(str(source).encode() + b'/' + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def origin(cls: type) -> str | None:
    """ "file.py:Name" of a class that was loaded from a file, else None."""
    if not cls.__module__.startswith(PREFIX):
        return None
    return f"{sys.modules[cls.__module__].__file__}:{cls.__qualname__}"


def fingerprint(cls: type) -> str | None:
    """SHA-256 of the file that defines a class which does not ship with subgrid; None for one that does."""
    if cls.__module__.startswith("subgrid."):
        return None
    return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()


class PluginModel(BaseModel):
    """A table of a case that may be a plug-in. As plain data, one that was loaded from a file has its `path`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    plugins: ClassVar[Registry[Any] | None] = None  # of the base class: where its subclasses are found

    @model_serializer(mode="wrap")
    def _with_path(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = handler(self)
        if (path := origin(type(self))) is not None:
            data.pop("kind", None)
            return {"path": path, **data}
        return data


def from_table(registry: Registry[Any]) -> Callable[[Any, ValidationInfo], Any]:
    """A pydantic validator that reads a table by its `kind`, or by its `path`; anything but a table passes unchanged.

    Mistakes inside the table keep their keys.
    """

    def read(value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        by_path = "kind" not in value and "path" in value
        key = "path" if by_path else "kind"
        name = value.get(key)
        details: InitErrorDetails | None = None
        if name is None:
            details = InitErrorDetails(type="missing", loc=(key,), input=value)
        else:
            try:
                model = registry.find(str(name))
            except UnknownPlugin as error:
                text = str(error) if by_path or name in registry else unknown(str(name), registry)
                custom = PydanticCustomError("unknown_plugin", "{text}", {"text": text})
                details = InitErrorDetails(type=custom, loc=(key,), input=name)
        if details is not None:
            raise ValidationError.from_exception_data(registry.what, [details])
        fields = {k: v for k, v in value.items() if not (by_path and k == "path")}
        return model.model_validate(fields, strict=(info.context or {}).get("strict"), context=info.context)

    return read
