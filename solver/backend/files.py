"""Files: written beside and renamed, bounded before they are read, and folders that one process at a time can use.

A writer never leaves a partial file under the final name, and never follows a symbolic link. A reader checks the
headers of a file before it reads the contents, so that a small compressed file cannot fill the memory.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
MOST_HEADER = 65536  # bytes of the header of an array
_TEMPORARY = re.compile(r"^\.(.+)\.\d+-[0-9a-f]{8}\.subgrid-part$")


class DamagedFile(ValueError):
    """The file is truncated, altered, or not of the expected kind; the message names the file and what is wrong."""


class FolderInUse(ValueError):
    """Another process has the lock on the folder."""


def replace(path: Path, content: bytes) -> None:
    """Write `content` to a new file beside `path` and rename it to `path`. On an error, `path` is as it was.

    Raises ValueError for a device, a pipe or a socket, which the renaming would delete.
    """
    if os.path.lexists(path) and not (path.is_symlink() or path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is a device or a pipe, expected a file. Remedy: name a file")
    beside = _beside(path)
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


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a new folder beside `path` and rename it to `path`. On an error, `path` is as it was.

    A process that is killed between the two renames leaves no `path`. What lay at `path` is deleted; a symbolic link
    is not followed.
    """
    beside, old = _beside(path), _beside(path)
    beside.mkdir()
    try:
        write(beside)
        if os.path.lexists(path):
            os.replace(path, old)
        os.replace(beside, path)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(path):
            os.replace(old, path)
        _delete(beside)
        raise
    _delete(old)


def remove_temporary(folder: Path, of: str | None = None) -> None:
    """Delete what `replace` and `replace_folder` left in `folder` when their process was killed, and nothing else.

    of: only what belongs to the file or folder with this name. The caller must hold a lock under which it is written.
    """
    for left in folder.iterdir():
        match = _TEMPORARY.match(left.name)
        if match and of in (None, match[1]) and not left.is_symlink():
            _delete(left)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.subgrid-part")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def require_regular(path: Path) -> None:
    """Raise FileNotFoundError if there is nothing at `path`, and DamagedFile for a folder, a pipe or a device.

    A pipe or a device must not be opened: reading it may never end.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a name that is too long, a null byte, a folder that cannot be searched
        raise DamagedFile(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(mode):
        raise DamagedFile(f"{path} is not a file but a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}")


Header = tuple[tuple[int, ...], np.dtype[Any]]


def array_headers(path: Path, names: Iterable[str]) -> dict[str, Header | None]:
    """Shape and type of the arrays of an .npz file in `names`, without their values; None for every other array.

    Raises as `read_arrays` does.
    """
    with _npz(path) as (archive, entries):
        return {name: _header(archive, entry) if name in set(names) else None for name, entry in entries.items()}


def read_arrays(path: Path, names: Iterable[str] | None = None, largest: int = LARGEST) -> dict[str, NDArray]:
    """The arrays of an .npz file by name; only those in `names`, if given.

    Raises DamagedFile if the file is not an intact .npz with arrays that need no pickling, or if the headers announce
    more than `largest` bytes in all; and FileNotFoundError.
    """
    with _npz(path) as (archive, entries):
        chosen = [n for n in entries if names is None or n in set(names)]
        headers = {name: _header(archive, entries[name]) for name in chosen}
        announced = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in headers.items()}
        if sum(announced.values()) > largest:
            sizes = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in announced.items())
            raise DamagedFile(f"{path} announces {sizes}, more than the {largest / 1e9:.3g} GB expected here")
        found = {}
        for name in chosen:
            with archive.open(entries[name]) as file:
                found[name] = np.lib.format.read_array(file, allow_pickle=False)
                file.read()  # to the end: the checksum is compared there
        return found


@contextmanager
def _npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An .npz file and its entries by array. Errors while it is read become DamagedFile."""
    require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive, {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    except (FileNotFoundError, DamagedFile, MemoryError):
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: the directory of the archive leads before its start
            raise
        raise DamagedFile(f"{path} is not an .npz file ({error})") from None
    except Exception as error:  # what zipfile, zlib and NumPy raise for a damaged file is not documented
        detail = _first_line(error)
        raise DamagedFile(f"{path} is not an intact .npz file with arrays of numbers ({detail})") from None


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Header:
    """Raises ValueError for arrays that hold objects, and for an entry that is longer than its header announces."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed in a way that NumPy does not use")
    with archive.open(entry) as file:
        shape, dtype = array_header(file)
        if entry.file_size > file.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{entry.filename} holds more than its header announces")
    return shape, dtype


def array_header(file: IO[bytes]) -> Header:
    """Shape and type of an array in the .npy format; the file is then at its values. Raises ValueError."""
    start = file.tell()
    header = io.BytesIO(file.read(MOST_HEADER))  # NumPy reads as much as the header announces, which may be 4 GB
    version = np.lib.format.read_magic(header)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format is not read")
    shape, _, dtype = read(header)
    file.seek(start + header.tell())
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
