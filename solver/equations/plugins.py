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
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
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

from .plugin_errors import INSTALLED, describe_error
from .plugin_files import PREFIX, contents_of, digest, module_of

Kind = TypeVar("Kind")
_PATH = re.compile(r"^(.+\.py):(\w+)$", re.DOTALL)
_NOT_IMPORTED: ContextVar[list[str] | None] = ContextVar("files that were not imported", default=None)


class UnknownPlugin(ValueError):
    """No plug-in has this name, or its module cannot be imported."""


class NotImported(UnknownPlugin):
    """The plug-in is in a file that must not be imported now: see `without_imports`."""


@contextmanager
def without_imports() -> Iterator[list[str]]:
    """Import no file that a case names by `path`: asking for such a plug-in raises NotImported.

    Yields the list of these files, which grows.
    """
    files: list[str] = []
    token = _NOT_IMPORTED.set(files)
    try:
        yield files
    finally:
        _NOT_IMPORTED.reset(token)


def name_unimported(file: str) -> None:
    """List a file of code that the case names, while no such file may be imported."""
    if (files := _NOT_IMPORTED.get()) is not None and file not in files:
        files.append(file)


@contextmanager
def keeping_directory() -> Iterator[None]:
    """Return to the working directory at the end: the code of a plug-in may change it, and paths are relative to it."""
    try:
        before = os.getcwd()
    except FileNotFoundError:  # it was deleted; there is nothing to return to
        yield
        return
    try:
        yield
    finally:
        os.chdir(before)


def nearest(value: str, known: Any) -> list[str]:
    """The name nearest to a value, if one is near: in capitals or not."""
    return [n for n in known if n.lower() == value.lower()][:1] or difflib.get_close_matches(value, list(known), n=1)


def unknown(value: str, known: Any) -> str:
    """The message for a name that is not known, with the nearest known name."""
    near = nearest(value, known)
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
            near = nearest(name, self)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise self._error(f"no {self.what} is named {name!r}{hint} Known: {', '.join(self)}")
        try:
            with keeping_directory():
                found = self._checked(matches[name].load(), matches[name].value)
        except (KeyboardInterrupt, UnknownPlugin):
            raise
        except BaseException as error:
            raise self._error(
                f"{self.what} {name!r} cannot be imported from {matches[name].value}: {describe_error(error)}"
            ) from error
        if not matches[name].module.startswith("subgrid."):
            INSTALLED.add(matches[name].module.partition(".")[0])
        return found

    def imported(self, name: str) -> Kind | None:
        """The plug-in of this name, as `find`; None if its file must not be imported."""
        try:
            return self.find(name)
        except NotImported:
            return None

    def load(self, path: str, folder: Path) -> Kind:
        """The attribute that "file.py:Name" names, the file relative to `folder`. Raises UnknownPlugin."""
        if not is_path(path):
            raise self._error(f"path {path!r} must read 'file.py:Name'")
        file, _, attribute = path.rpartition(":")
        source = Path(os.path.abspath(folder / file))
        if not os.path.isfile(source):
            raise self._error(f"path {path!r}: there is no file {source}")
        if _NOT_IMPORTED.get() is not None:
            name_unimported(str(source))
            raise NotImported(f"{source} is not imported")
        try:
            with keeping_directory():
                module = module_of(source)
                if not hasattr(module, attribute):
                    raise self._error(f"{source} defines no {attribute}")
                return self._checked(getattr(module, attribute), path)
        except (KeyboardInterrupt, UnknownPlugin):
            raise
        except BaseException as error:
            raise self._error(f"{source} cannot be imported: {describe_error(error)}") from error

    def ships(self, name: str) -> bool:
        """Whether the plug-in of this name is part of subgrid."""
        return name in self._shipped

    def digest(self, name: str) -> str | None:
        """SHA-256 of the code of the plug-in `name`, an entry point or "file.py:Name"; None for one that ships."""
        if is_path(name):
            return module_digest(module_of(Path(os.path.abspath(name.rpartition(":")[0]))).__name__)
        if name in self._shipped:
            return None
        self.find(name)
        return module_digest(self._entry_points()[name].module)

    def stand_in(self) -> Any:
        """A class in the place of one whose file is not imported; it accepts all options."""
        methods = dict.fromkeys(getattr(self._base, "__abstractmethods__", ()), _not_imported)
        content = {**methods, "model_config": ConfigDict(extra="allow", frozen=True), "__module__": __name__}
        return type(self._base)("NotImportedPlugin", (self._base,), content)

    def available(self) -> Iterator[tuple[str, Kind]]:
        """(name, plug-in) of all that can be imported."""
        for name in self:
            try:
                yield name, self.find(name)
            except UnknownPlugin:
                continue

    def of(self, table: Mapping[str, Any], tag: str) -> Kind:
        """The plug-in of a table of a case: by its key `tag`, else by `path`."""
        return self.find(table[tag]) if tag in table else self.load(str(table["path"]), Path())

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


class FileOrName:
    """Marks an option as a file, relative to the case file, or a name: `weights: Annotated[str, FileOrName()]`.

    A file becomes an absolute path when the case is read, as options of type `pathlib.Path` do.
    """


def _not_imported(*_: Any, **__: Any) -> Any:
    raise NotImported("the file of this plug-in is not imported")


def is_path(name: str) -> bool:
    """Whether the name of a plug-in reads "file.py:Name"."""
    return _PATH.match(name) is not None


def means_path(name: str) -> bool:
    """Whether the name of a plug-in is meant as a path, although it may not read "file.py:Name"."""
    return ":" in name or "/" in name or os.sep in name or name.endswith(".py")


def _attribute(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def origin(cls: type) -> str | None:
    """ "file.py:Name" of a class that was loaded from a file, else None."""
    if not cls.__module__.startswith(PREFIX):
        return None
    return f"{sys.modules[cls.__module__].__file__}:{cls.__qualname__}"


def fingerprint(cls: type) -> str | None:
    """SHA-256 of the code of a class that does not ship with subgrid; None for one that does.

    It covers what was imported: the files of the class and of its bases, with the neighbours that these import, or all
    Python files of the packages that contain them.
    """
    if cls.__module__.startswith("subgrid."):
        return None
    bases = (base.__module__ for base in cls.__mro__ if issubclass(base, BaseModel))
    modules = sorted({m for m in bases if m.partition(".")[0] not in ("subgrid", "pydantic")})
    return hashlib.sha256("".join(module_digest(module) for module in modules).encode()).hexdigest()


def module_digest(module: str) -> str:
    """SHA-256 of the Python code that a module of a plug-in consists of: see `fingerprint`."""
    if module.startswith(PREFIX):
        contents = contents_of(module)
        return digest(contents, next(iter(contents)).parent)
    top = sys.modules[module.partition(".")[0]]
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    files = sorted(file for folder in folders for file in folder.rglob("*.py") if file.is_file())
    if not files and (file := getattr(top, "__file__", None)):
        files = [Path(file)]
    if not files:
        raise ValueError(f"the code of {module} is in no file, so it has no hash. Remedy: put it into a file")
    return digest({file: file.read_bytes() for file in files}, files[0].parent)


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
                model = registry.load(str(name), Path()) if by_path else registry.find(str(name))
            except NotImported:
                model = registry.stand_in()
            except UnknownPlugin as error:
                text = str(error) if by_path or name in registry else unknown(str(name), registry)
                custom = PydanticCustomError("unknown_plugin", "{text}", {"text": text})
                details = InitErrorDetails(type=custom, loc=(key,), input=name)
        if details is not None:
            raise ValidationError.from_exception_data(registry.what, [details])
        fields = {k: v for k, v in value.items() if not (by_path and k == "path")}
        return model.model_validate(fields, strict=(info.context or {}).get("strict"), context=info.context)

    return read
