"""Python files that a case names by `path`, and the neighbours that they import, as modules that no other code sees.

The files of a folder are the modules of a private package in `sys.modules`. `import neighbour` in one of them finds
`neighbour.py`, or the package `neighbour`, in that folder, unless Python finds a module of this name elsewhere: a
neighbour shadows nothing, and neither `sys.path` nor the name `neighbour` in `sys.modules` changes.

A plug-in is identified by the contents of its file and of all neighbours that these files import, at their top level or
inside functions. After a change of one of them the plug-in is a new module, in a new package; otherwise it is imported
once, so that its classes keep their identity.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "subgrid_plugin_"  # of the names of the private packages
_LOCK = threading.RLock()
_VERSIONS: list[_Version] = []


def module_of(source: Path) -> ModuleType:
    """The module of a file, imported again only if its content or that of a neighbour changed."""
    with _LOCK:
        contents = closure(source, Path.read_bytes)
        version = next((v for v in reversed(_VERSIONS) if v.folder == source.parent and v.agrees(contents)), None)
        if version is None:
            version = _Version(source.parent)
        version.contents |= contents
        return importlib.import_module(version.name_of(source))


def contents_of(module: str) -> dict[Path, bytes]:
    """The file of a module of a private package and its neighbours, with the contents that were imported."""
    version = next(v for v in _VERSIONS if v.name == module.partition(".")[0])
    return closure(Path(str(sys.modules[module].__file__)), version.read)


def digest(contents: dict[Path, bytes], folder: Path) -> str:
    """SHA-256 of files, with their names relative to `folder`."""
    parts = [(os.path.relpath(p, folder), hashlib.sha256(c).hexdigest()) for p, c in contents.items()]
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()


def closure(source: Path, read: Callable[[Path], bytes]) -> dict[Path, bytes]:
    """A file and the neighbours that it imports, directly or through others, with their contents. Imports nothing."""
    found: dict[Path, bytes] = {}
    todo = [source]
    while todo:
        file = todo.pop()
        if file not in found:
            found[file] = read(file)
            todo += _neighbours(file, found[file], source.parent)
    return found


def _neighbours(file: Path, content: bytes, folder: Path) -> Iterator[Path]:
    """Files in `folder` that the import statements of a file name."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # the import reports it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield from _files(folder, [*str(node.module).split("."), alias.name])
        elif isinstance(node, ast.ImportFrom) and len(file.parents) >= node.level:
            base = file.parents[node.level - 1]
            parts = node.module.split(".") if node.module else []
            for alias in node.names:
                if base.is_relative_to(folder):
                    yield from _files(base, [*parts, alias.name], inside=base != folder)


def _files(base: Path, names: Sequence[str], inside: bool = False) -> Iterator[Path]:
    """The files that are imported for a dotted name below `base`. inside: `base` is a package."""
    if inside and (base / "__init__.py").is_file():
        yield base / "__init__.py"
    place = base
    for i, name in enumerate(names):
        place = place / name
        found = next((f for f in (place / "__init__.py", place.with_name(f"{name}.py")) if f.is_file()), None)
        if found is None or (i == 0 and not inside and _elsewhere(name, base)):
            return
        yield found


def _elsewhere(name: str, folder: Path) -> bool:
    """Whether Python finds a module of this name outside `folder` and the working directory."""
    if name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return True
    here = {os.path.realpath(folder), os.path.realpath(os.curdir)}
    path = [p for p in sys.path if p and os.path.realpath(p) not in here]
    for finder in sys.meta_path:
        if finder is importlib.machinery.PathFinder:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
        else:
            spec = finder.find_spec(name, None, None)
        if spec is not None and spec.loader is not None and spec.origin is not None:
            origin = os.path.dirname(os.path.realpath(spec.origin))
            return not (origin in here or os.path.dirname(origin) in here)
    return False


class _Version:
    """A private package: the files of one folder, with the contents that they had when they were first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents: dict[Path, bytes] = {}
        self.plugins: dict[str, Path] = {}  # modules that a case names, by their full names
        self.name = f"{PREFIX}{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}_{len(_VERSIONS)}"
        package = ModuleType(self.name)
        package.__path__ = [str(folder)]  # type: ignore[attr-defined]
        sys.modules[self.name] = package
        _VERSIONS.append(self)

    def agrees(self, contents: dict[Path, bytes]) -> bool:
        """Whether no file differs from the one that this version contains."""
        return all(self.contents.get(path, content) == content for path, content in contents.items())

    def read(self, file: Path) -> bytes:
        """The content of a file as it was when it was first needed."""
        if file not in self.contents:
            self.contents[file] = file.read_bytes()
        return self.contents[file]

    def name_of(self, source: Path) -> str:
        """The full name of the module of a file; for an importable name it is the one that neighbours import."""
        importable = "." not in source.stem and not (source.with_suffix("") / "__init__.py").is_file()
        name = f"{self.name}.{source.stem if importable else source.name.replace('.', '%')}"
        self.plugins[name] = source
        return name

    def import_(
        self,
        name: str,
        namespace: Any = None,
        local: Any = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """`__import__` of the modules of this package, in which a neighbour is an absolute name."""
        if level or next(_files(self.folder, [name.partition(".")[0]]), None) is None:
            return builtins.__import__(name, namespace, local, fromlist or (), level)
        with _LOCK:
            module = builtins.__import__(f"{self.name}.{name}", namespace, local, fromlist or ("__name__",), 0)
        return module if fromlist else sys.modules[f"{self.name}.{name.partition('.')[0]}"]


class _Loader:
    """Runs the source of a file; no bytecode is cached, whose time stamp cannot tell edits within a second apart."""

    def __init__(self, version: _Version, file: Path) -> None:
        self._version, self._file = version, file

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self._version.read(self._file), str(self._file), "exec", dont_inherit=True)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._version.import_}
        exec(code, module.__dict__)


class _Finder:
    """Finds the modules of private packages, before Python's own finder does, and no others."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        package, _, rest = name.partition(".")
        version = next((v for v in _VERSIONS if v.name == package), None) if package.startswith(PREFIX) else None
        if version is None or not rest:
            return None
        place = version.folder.joinpath(*rest.split("."))
        package_file = place / "__init__.py"
        file = package_file if package_file.is_file() else place.with_name(f"{place.name}.py")
        file = version.plugins.get(name, file)
        if file not in version.contents and not file.is_file():
            return None
        return importlib.util.spec_from_file_location(
            name,
            file,
            loader=_Loader(version, file),  # type: ignore[arg-type]
            submodule_search_locations=[str(place)] if file == package_file else None,
        )


sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]
