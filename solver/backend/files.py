"""Files: written beside and renamed, bounded before they are read, and folders that one process at a time can use.

A writer never leaves a partial file under the final name, and never follows a symbolic link. A reader checks the
headers of a file before it reads the contents, so that a small compressed file cannot fill the memory.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes in one folder are not detected
    fcntl = None  # type: ignore[assignment]

LOCK_TIMEOUT = 1.0  # seconds; a child of a killed process may hold its lock for a moment
LARGEST = 2**31  # bytes of an array file that is read into memory, unless the reader knows what it expects
_TEMPORARY = re.compile(r"^\.(.+)\.\d+-[0-9a-f]{8}\.subgrid-part$")


class DamagedFile(ValueError):
    """The file is truncated, altered, or not of the expected kind; the message names the file and what is wrong."""


class FolderInUse(ValueError):
    """Another process has the lock on the folder."""


def replace(path: Path, content: bytes) -> None:
    """Write `content` to a new file beside `path` and rename it to `path`. On an error, `path` is as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.subgrid-part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(beside, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def remove_temporary(folder: Path, of: str | None = None) -> None:
    """Delete the files that `replace` left in `folder` when its process was killed, and no others.

    of: only those of the file with this name. The caller must hold a lock under which these files are written.
    """
    for left in folder.iterdir():
        match = _TEMPORARY.match(left.name)
        if match and of in (None, match[1]) and left.is_file() and not left.is_symlink():
            left.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON, UTF-8, by `replace`."""
    replace(path, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def write_arrays(path: Path, arrays: dict[str, NDArray]) -> None:
    """Write arrays as .npz, uncompressed, by `replace`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    replace(path, buffer.getvalue())


def read_json(path: Path) -> Any:
    """The contents of a JSON file. Raises DamagedFile."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON ({error})") from None


def read_arrays(path: Path, names: Iterable[str] | None = None, largest: int = LARGEST) -> dict[str, NDArray]:
    """The arrays of an .npz file by name; only those in `names`, if given.

    Raises DamagedFile if the file is not an intact .npz with arrays that need no pickling, or if the headers announce
    more than `largest` bytes in all; and FileNotFoundError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            chosen = [n for n in entries if names is None or n in set(names)]
            announced = {name: _announced(archive, entries[name]) for name in chosen}
            if sum(announced.values()) > largest:
                sizes = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in announced.items())
                raise DamagedFile(f"{path} announces {sizes}, more than the {largest / 1e9:.3g} GB expected here")
            found = {}
            for name in chosen:
                with archive.open(entries[name]) as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
                    file.read()  # to the end: the checksum is compared there
            return found
    except (FileNotFoundError, DamagedFile):
        raise
    except (zipfile.BadZipFile, EOFError, ValueError, TypeError, NotImplementedError, RuntimeError, OverflowError) as e:
        raise DamagedFile(f"{path} is not an intact .npz file with arrays of numbers ({_first_line(e)})") from None
    except OSError as error:
        if error.errno is not None and not isinstance(error, (IsADirectoryError, NotADirectoryError)):
            raise
        raise DamagedFile(f"{path} is not an .npz file ({error.strerror or error})") from None


def _announced(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Bytes of an array of an .npz file, from its header. Raises ValueError for arrays that hold objects."""
    with archive.open(entry) as file:
        shape, dtype = array_header(file)
    return math.prod(shape) * dtype.itemsize


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array in the .npy format; the file is then at its values. Raises ValueError."""
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format is not read")
    shape, _, dtype = read(file)  # type: ignore[arg-type]
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    return shape, dtype


def _first_line(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return "it holds Python objects, which are never loaded" if "pickle" in text else text or type(error).__name__


class FolderLock:
    """The lock on a folder, held until `close` or the end of the process; a context manager.

    wait: called once if another process has the lock; the constructor then waits until that process ends. Without it,
    FolderInUse is raised.
    """

    def __init__(self, folder: Path, wait: Callable[[], None] | None = None) -> None:
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY) if fcntl else -1
        deadline, said = time.monotonic() + LOCK_TIMEOUT, False
        try:
            while fcntl:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > deadline and wait is None:
                        raise FolderInUse(
                            f"{folder} is in use by another process. Remedy: wait until it ends"
                        ) from None
                if time.monotonic() > deadline and wait is not None and not said:
                    said = True
                    wait()
                time.sleep(0.01 if not said else 0.1)
        except BaseException:
            self.close()
            raise

    def current(self) -> bool:
        """Whether the folder is still the one at its path; false if it was deleted, even if it was made again."""
        try:
            return not fcntl or os.path.samestat(os.fstat(self._descriptor), os.stat(self._folder))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Release the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
