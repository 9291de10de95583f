"""The cache: where generated data lie, and the locks under which one process at a time makes an entry.

A process that needs an entry which another one is making waits for it, says so once through the logger "subgrid", and
then uses the result.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from subgrid.solver.backend.files import FolderLock

LOG = logging.getLogger("subgrid")


class CacheError(ValueError):
    """The folder of the cache is unknown or cannot be used; the message names the remedy."""


def cache() -> Path:
    """Folder of generated data: SUBGRID_CACHE, or ~/.cache/subgrid. Raises CacheError.

    A relative SUBGRID_CACHE refers to the working directory of its first use; "~" at its beginning is the home
    directory.
    """
    return _absolute(os.environ.get("SUBGRID_CACHE") or "~/.cache/subgrid")


@functools.cache
def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise CacheError(
            f"the cache {path} is unknown, because there is no home directory. "
            "Remedy: set SUBGRID_CACHE to a folder that can be written"
        ) from None


def say_waiting(what: str) -> Callable[[], None]:
    """A function that says, once, that this process waits for another one that makes `what`."""

    @functools.cache
    def say() -> None:
        LOG.warning("waiting for another process, which makes %s", what)

    return say


@contextmanager
def locked(folder: Path, wait: Callable[[], None], temporary: bool = False) -> Iterator[None]:
    """Make a folder of the cache, if it is missing, and hold its lock.

    wait: called once if another process has the lock. temporary: remove the folder at the end; nothing is written into
    it. Raises CacheError if the folder cannot be made, and if a file beside or in it cannot be written or vanishes.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(error, folder) from None
        try:
            lock = FolderLock(folder, wait)
        except FileNotFoundError:  # deleted since
            continue
        with lock:
            if not lock.current():  # deleted, and perhaps made again, while this process waited
                continue
            try:
                yield
            except OSError as error:
                raise _explained(error, folder) from None
            finally:
                if temporary:
                    with suppress(OSError):
                        folder.rmdir()
            return


def _explained(error: OSError, folder: Path) -> Exception:
    """A CacheError for a file of the cache that cannot be written or was deleted; any other error as it is."""
    within = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder.parent)
    if within and isinstance(error, FileNotFoundError):
        return CacheError(f"{error.filename} was deleted while it was in use. Remedy: run the command again")
    return _unusable(error, folder) if within and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else error


def _unusable(error: OSError, folder: Path) -> CacheError:
    return CacheError(
        f"the cache cannot be used: {folder}: {error.strerror}. "
        "Remedy: set SUBGRID_CACHE to a folder that can be read and written"
    )
