"""What the files that a case names contain: a SHA-256 of each, to tell later whether an input changed."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..equations.plugin_files import closure
from ..equations.plugins import is_path
from ..initial.run import contents

NAMES = ("title", "name", "kind", "label")  # keys whose values are never files


def with_contents(data: Any) -> Any:
    """The plain data of a case, with a table {path, sha256} in the place of every absolute path of a file.

    sha256 maps the name of the file to the SHA-256 of its contents; for a plug-in "file.py:Name" also the names of the
    neighbours that the file imports, directly or through others. A folder of trajectories is represented by the file
    that holds the checksums of all others, the folder of a run from which the case starts by that output, a Zarr store
    by one checksum, and other folders not at all. No plug-in is imported.
    """
    if isinstance(data, Mapping):
        if data.get("kind") == "run" and isinstance(data.get("time"), float) and Path(data["path"]).is_dir():
            return {**data, "path": {"path": data["path"], "sha256": contents(Path(data["path"]), data["time"])}}
        if data.get("kind") == "file" and isinstance(data.get("path"), str) and (store := Path(data["path"])).is_dir():
            return {**data, "path": {"path": data["path"], "sha256": {store.name: sha256_of_data(store)}}}
        for key in ("file", "files", "stored"):
            if isinstance(data.get(key), str) and os.path.isabs(data[key]) and (path := Path(data[key])).is_dir():
                data = {**data, key: {"path": str(path), "sha256": {path.name: sha256_of_data(path)}}}
        return {k: v if k in NAMES and isinstance(v, str) else with_contents(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [with_contents(v) for v in data]
    if isinstance(data, str) and os.path.isabs(data):
        path = Path(data.rpartition(":")[0] if is_path(data) else data)
        if path.is_dir():
            path /= "done.json"
        if path.is_file():
            files = closure(path, Path.read_bytes) if is_path(data) else [path]
            names = {str(Path(os.path.relpath(file, path.parent)).as_posix()): file for file in files}
            return {"path": data, "sha256": {name: sha256(names[name]) for name in sorted(names)}}
    return data


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """How two results of `with_contents` differ, each as "key: what"; paths may differ if the contents are equal."""
    if _is_file(before):
        where = Path(before["path"]).name
        if not _is_file(now):
            return [f"{key}: {before['path']} is missing" if now == before["path"] else f"{key}: is {now!r}"]
        old, new = before["sha256"], now["sha256"]
        changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        if Path(now["path"]).name != where:
            return [f"{key}: is {now['path']}, was {before['path']}"]
        folder = Path(now["path"]).parent
        return [f"{key}: {folder / name} {_change(name in old, name in new)}" for name in changed]
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(k for k in now if k not in before)]
        absent = object()
        return [
            text
            for k in keys
            for text in differences(before.get(k, absent), now.get(k, absent), f"{key}.{k}" if key else str(k))
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [text for i, (b, n) in pairs for text in differences(b, n, f"{key}.{i}")]
    if type(before) is type(now) and before == now:
        return []
    shown = [None if type(v) is object else v["path"] if _is_file(v) else v for v in (now, before)]
    is_, was = ("absent" if v is None else repr(v) for v in shown)
    return [f"{key}: is {is_}, was {was}"]


def _is_file(value: Any) -> bool:
    kinds = {"path": str, "sha256": dict}
    return (
        isinstance(value, dict) and value.keys() == kinds.keys() and all(isinstance(value[k], kinds[k]) for k in kinds)
    )


def _change(was: bool, is_: bool) -> str:
    return "changed" if was and is_ else "is imported now" if is_ else "is no longer imported, or missing"


def sha256(file: Path) -> str:
    """SHA-256 of the contents of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sha256_of_data(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder; computed again only after a change."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = [(str(file), file.stat()) for file in files]
    return _sha256_of_files(str(path), tuple((name, s.st_size, s.st_mtime_ns) for name, s in found))


@functools.lru_cache(maxsize=16)
def _sha256_of_files(path: str, versions: tuple[tuple[str, int, int], ...]) -> str:
    if [name for name, _, _ in versions] == [path]:
        return sha256(Path(path))
    whole = hashlib.sha256()
    for name, _, _ in versions:
        whole.update(f"{os.path.relpath(name, path)}\0{sha256(Path(name))}\n".encode())
    return whole.hexdigest()
