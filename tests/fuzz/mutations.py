"""Seeded mutations of tables, bytes, arrays and folders. Each returns what it did, in words."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

Rng = np.random.Generator
WORDS = (
    "", " ", "x", "none", "reference", "a\0b", "x" * 20_000, "../../../etc/passwd", "/etc/passwd:x", "/dev/zero",
    "/dev/null", ".", "/", "file.py:Name", "absent.npz", "[/red]", "\x1b[31m\x07", "\u202egnp", "caf\u00e9", "日本",
    "\U0001f30a", "%s{0}", "$HOME", "~", "torch", "torch:meta", "torch:cuda", "torch:cpu:7", "60 s", "1e400 s", "-1 s",
    "nan", "__import__('os')", "a" * 300 + ".npz", "\n",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 7, 10**3, 2**31, 2**32 + 1, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.1, 1 / 3,
    1e-300, 5e-324, 1e-12, 1e12, 1e300, 1.7976931348623157e308, -1e300, float("nan"), float("inf"), float("-inf"),
    True, False,
)  # fmt: skip
ODD = ([], {}, [[]], [1, "a", True], {"kind": "file"}, {"path": "absent.py:A"}, {"kind": {}}, [{}], {"a": {"b": 1}})
TABLES = ("reference", "training", "sweep", "compare", "closure", "equation", "initial", "train", "time")
OVERRIDES = (
    "", "[", "[" * 3000, "{" * 3000, "{a={a={a=1}}}", "1e9999", "9" * 5000, "nan", '"\\u0000"', "'a", "=", "é",
    *map(str, NUMBERS[:12]),
)  # fmt: skip
INSERTED = (b"\0", b"\xff", b"[" * 2000, b'"', b"9" * 5000, b"\r\n", b"=")
OTHER = (
    b"", b"\x80\x04N.", b"PK\x03\x04", b"CDF\x01", b"\x89HDF\r\n\x1a\n", b"{}", b"[]", b"null", b"1", b'"a"',
    b"\0" * 5000,
)  # fmt: skip


def pick(rng: Rng, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values, down to those that only a mutation can have made."""
    if len(path) > 20:
        return
    for k, v in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, k)
        yield from _places(v, (*path, k))


def _at(data: Any, path: tuple) -> Any:
    for k in path:
        data = data[k]
    return data


def _found(data: Any, path: tuple) -> Any:
    """What is at `path`, or None."""
    for k in path:
        keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if k not in keys:
            return None
        data = data[k]
    return data


def _value(rng: Rng, old: Any, path: tuple, others: list[dict[str, Any]]) -> Any:
    """A value in place of `old` at `path`: often one that may be right, such as that of another case."""
    if type(old) in (int, float) and rng.random() < 0.6:
        factor = pick(rng, (-1, 0.5, 2, 3, 4, 10, 1.5, 1 + 1e-9, 1000, 1e-3))
        return int(old * factor) if isinstance(old, int) and abs(old) < 10**15 else old * 2
    if rng.random() < 0.5:
        other = pick(rng, others)
        if (there := _found(other, path)) is not None:
            return json.loads(json.dumps(there))
    if (kind := rng.random()) < 0.35:
        return pick(rng, NUMBERS)
    if kind < 0.65:
        return pick(rng, WORDS)
    if kind < 0.75:
        return pick(rng, (*ODD, [old]))
    if kind < 0.8:
        return [old] * pick(rng, (2, 5, 200, 20_000))
    if kind < 0.85:
        for _ in range(pick(rng, (5, 50, 3000))):
            old = [old]
        return old
    other = pick(rng, others)
    return json.loads(json.dumps(_at(other, pick(rng, list(_places(other))))))


def table(rng: Rng, data: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """Change a value, a key or a table of a case."""
    places = list(_places(data))
    if not places:
        return "nothing left"
    leaves = [p for p in places if not isinstance(_at(data, p), (dict, list))]
    path = pick(rng, leaves if leaves and rng.random() < 0.6 else places)
    place, key, kind = _at(data, path[:-1]), path[-1], rng.random()
    if kind < 0.1 and isinstance(place, dict):
        del place[key]
        return f"without {path}"
    if kind < 0.15 and isinstance(place, dict):
        new = pick(rng, (*WORDS, *map(str, _at(data, path[:-1])), "path", "kind", "name", "label", "weights"))
        place[new] = _value(rng, place[key], path, others)
        return f"with {new!r:.50} at {path[:10]}"
    if kind < 0.2:
        name = pick(rng, TABLES)
        other = pick(rng, others)
        data[name] = json.loads(json.dumps(other.get(name, {})))
        return f"[{name}] of another case"
    place[key] = _value(rng, place[key], path, others)
    return f"{path} = {place[key]!r:.200}" if len(path) < 20 and _depth(place[key]) < 20 else "a deep value"


def _depth(value: Any) -> int:
    """How many lists are within each other, the first of each."""
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    return depth


def override(rng: Rng, data: dict[str, Any]) -> str:
    """An argument of --set."""
    name = ".".join(map(str, pick(rng, list(_places(data)))))
    value = pick(rng, OVERRIDES)
    forms = (
        f"{name}={value}",
        f"{name}={value}",
        f"{name}.x={value}",
        f"{'a.' * 5000}a=1",
        name,
        "=",
        f".{name}=1",
        "a\0=1",
    )
    return pick(rng, forms)


def content(rng: Rng, old: bytes) -> tuple[bytes, str]:
    """Other bytes in place of those of a file."""
    if not old:
        return rng.bytes(40), "random bytes in an empty file"
    at = int(rng.integers(len(old)))
    end = min(len(old), at + int(rng.integers(1, 40)))
    flipped = old[:at] + bytes([old[at] ^ 1 << int(rng.integers(8))]) + old[at + 1 :]
    changes = [
        (flipped, f"bit in {at} flipped"),
        (flipped, f"bit in {at} flipped"),
        (old[:at], f"cut at {at} of {len(old)}"),
        (rng.bytes(len(old) % 100_000), "random bytes"),
        (old[:at] + rng.bytes(end - at) + old[end:], f"random bytes in {at}:{end}"),
        (old[:at] + old[end:], f"without {at}:{end}"),
        (old[:at] + pick(rng, INSERTED) + old[at:], f"inserted at {at}"),
        (b"\xef\xbb\xbf" + old, "a byte order mark"),
        (old + old, "twice"),
        (old.replace(b"\n", b"\r\n"), "CRLF"),
        (old.decode("latin-1").encode("utf-16"), "UTF-16"),
        (pick(rng, OTHER), "other"),
    ]
    return pick(rng, changes)


def array(rng: Rng, old: np.ndarray) -> tuple[np.ndarray, str]:
    """Another array in place of one in a file."""
    flat = old.astype(np.float64, copy=True) if old.dtype.kind in "biuf" else np.zeros(old.shape)
    if flat.size:
        flat.flat[int(rng.integers(flat.size))] = pick(rng, (np.nan, np.inf, -1e300, 5e-324, -1.0))
    changes: list[Callable[[], tuple[np.ndarray, str]]] = [
        lambda: (flat, "one other value"),
        lambda: (old[..., :-1] if old.ndim else np.zeros(3), "shorter"),
        lambda: (old[None], "one more axis"),
        lambda: (old.ravel(), "flat"),
        lambda: (old.T, "transposed"),
        lambda: (np.zeros((0, *old.shape)), "no entries"),
        lambda: (np.asarray(None, dtype=object), "an object"),
        lambda: (old.astype("U8"), "words"),
        lambda: (old + 1j if old.dtype.kind in "biufc" else old, "complex"),
        lambda: (old.astype(">f4") if old.dtype.kind in "biuf" else old, "big-endian float32"),
        lambda: (np.asarray(pick(rng, (-1, 10**9, 2**62, 0))), "a number"),
        lambda: (np.zeros(3 * 10**8, dtype=np.uint8), "3e8 zeros"),
    ]
    return pick(rng, changes)()


def _npz(rng: Rng, path: Path) -> str:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    name = pick(rng, sorted(arrays))
    if (kind := rng.random()) < 0.2:
        del arrays[name]
        what = f"without {name}"
    elif kind < 0.3:
        arrays["other"] = arrays[name]
        what = "with another array"
    else:
        arrays[name], what = array(rng, arrays[name])
        what = f"{name}: {what}"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return what


def _npy(rng: Rng, path: Path) -> str:
    found, what = array(rng, np.load(path, allow_pickle=False))
    with path.open("wb") as file:
        np.save(file, found)
    return what


def _json(rng: Rng, path: Path) -> str:
    text = path.read_text()
    data = json.loads(text.splitlines()[0] if path.suffix == ".jsonl" else text)
    if not list(_places(data)):
        return "unchanged"
    what = table(rng, data, [{"a": 1, "b": {"c": [None]}}])
    path.write_text(json.dumps(data))
    return what


def file(rng: Rng, path: Path) -> str:
    """Change a file, or what is in its place."""
    structured = {".npz": _npz, ".npy": _npy, ".json": _json, ".jsonl": _json}.get(path.suffix)
    if (kind := rng.random()) < 0.4 and structured:
        try:
            return structured(rng, path)
        except (ValueError, OSError, RecursionError, zipfile.BadZipFile):
            return "unchanged: already mutated"
    if kind < 0.9:
        found, what = content(rng, path.read_bytes())
        path.write_bytes(found)
        return what
    path.unlink()
    if kind < 0.93:
        path.mkdir()
        return "a folder"
    if kind < 0.96:
        path.symlink_to(pick(rng, ("absent", path.name, "/dev/null", "..", Path("victim").absolute())))
        return f"a link to {os.readlink(path)}"
    return "deleted"


def folder(rng: Rng, path: Path) -> str:
    """Change one file of a folder, delete or move a folder in it, or swap two files."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
    folders = sorted(p for p in path.rglob("*") if p.is_dir() and not p.is_symlink())
    kind = rng.random()
    if kind < 0.05 and folders:
        gone = pick(rng, folders)
        shutil.rmtree(gone)
        return f"without {gone.relative_to(path)}"
    if kind < 0.1 and len(files) > 1:
        a, b = pick(rng, files), pick(rng, files)
        one, other = a.read_bytes(), b.read_bytes()
        a.write_bytes(other)
        b.write_bytes(one)
        return f"{a.relative_to(path)} and {b.relative_to(path)} swapped"
    if not files:
        return "unchanged: no files"
    groups: dict[str, list[Path]] = {}
    for p in files:  # one group for each kind of file: most files are chunks of arrays
        groups.setdefault(p.name if p.suffix else "chunk", []).append(p)
    chosen = pick(rng, groups[pick(rng, sorted(groups))])
    return f"{chosen.relative_to(path)}: {file(rng, chosen)}"


def toml(data: dict[str, Any]) -> bytes | None:
    """The text of mutated tables; None for what TOML cannot hold."""
    try:
        return tomli_w.dumps(data).encode("utf-8")
    except (TypeError, ValueError, RecursionError):
        return None
