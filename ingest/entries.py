"""An array of trajectories in a file that is written part by part, so that none of it stays in memory."""

from __future__ import annotations

import math
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import DamagedFile, array_header
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.schedule import Schedule

BLOCK = 2**20  # bytes of a file that are read or written at a time


class Entries:
    """An array (trajectory, entry, ...) in a file, allocated in full and written part by part, none of it in memory.

    Trajectories are written in blocks of `block`, one block after the other, and each block entry by entry. schedule:
    steps of the entries. shape: that of the file, which for a single entry lacks its axis.
    """

    def __init__(
        self, path: Path, schedule: Schedule, shape: tuple[int, ...], dtype: str, single: bool, block: int
    ) -> None:
        self.path, self.schedule, self.shape, self.dtype, self._block = path, schedule, shape, np.dtype(dtype), block
        self._count = 1 if single else schedule.count  # entries of a trajectory
        self.bytes = math.prod(shape) * self.dtype.itemsize
        self.checksums: list[int] = []  # of the entries of all blocks that are written
        self._header = 0  # bytes before the values

    def allocate(self) -> None:
        """Make the file. Its space is allocated now, so that a full disk is noticed before anything is computed."""
        self.checksums = []
        try:
            with open(self.path, "xb") as file:
                form = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
                np.lib.format.write_array_header_1_0(file, form)
                file.flush()
                allocate_space(file.fileno(), file.tell(), self.bytes)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.open()

    def open(self) -> None:
        """Raise DamagedFile unless the file is a regular one of the right size, shape and type."""
        try:
            with open(self.path, "rb") as file:
                right = array_header(file) == (self.shape, self.dtype) and not self.path.is_symlink()
                self._header = file.tell()
                if not right or self.path.stat().st_size != self._header + self.bytes:
                    raise DamagedFile(f"{self.path} has another size, shape or type than it was given")
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, DamagedFile):
                raise
            raise DamagedFile(f"{self.path} is not what it was ({error})") from None

    def verify(self, checksums: NDArray, block: int, step: int) -> None:
        """Raise DamagedFile unless these are the checksums of the blocks before this one and of its entries so far."""
        if len(checksums) != block * self._count + min(self.schedule.index(step + 1), self._count):
            raise DamagedFile(f"{self.path}: the number of checksums does not fit step {step}")
        size = self._stride()
        with open(self.path, "rb") as file:
            for number, known in enumerate(checksums):
                found = 0
                for place in self._places(*divmod(number, self._count)):
                    file.seek(place)
                    found = zlib.crc32(file.read(size), found)
                if found != known:
                    raise DamagedFile(f"{self.path} is damaged: entry {number} is not the one that was written")
        self.checksums = checksums.tolist()

    def write(self, block: int, n: int, values: NDArray) -> None:
        """Write the entry of step n of a block. Raises BlowUp for values that are not finite."""
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(values, dtype=self.dtype)
        if not np.isfinite(values).all():
            raise BlowUp(f"{self.path.stem} of the reference run holds values that are not finite in {self.dtype}")
        index = self.schedule.index(n)
        with open(self.path, "r+b") as file:
            for place, row in zip(self._places(block, index), values, strict=True):
                file.seek(place)
                file.write(row.data)
        self.checksums[block * self._count + index :] = [zlib.crc32(values.data)]

    def copy(self, path: Path, first: int) -> None:
        """Write the entries of the trajectories from number `first` on, which are all values of another file."""
        with open(path, "rb") as source, open(self.path, "r+b") as file:
            array_header(source)
            file.seek(self._header + first * self._count * self._stride())
            shutil.copyfileobj(source, file, BLOCK)

    def flush(self) -> None:
        """Wait until what is written is on the disk."""
        with open(self.path, "r+b") as file:
            os.fsync(file.fileno())

    def _stride(self) -> int:
        """Bytes of an entry of one trajectory."""
        return self.bytes // (self.shape[0] * self._count)

    def _places(self, block: int, index: int) -> list[int]:
        """Where an entry of each trajectory of a block begins, in bytes."""
        rows = range(block * self._block, min((block + 1) * self._block, self.shape[0]))
        return [self._header + (row * self._count + index) * self._stride() for row in rows]


def allocate_space(file: int, offset: int, count: int) -> None:
    """Reserve bytes of an open file on the disk. Raises OSError where there is no space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, offset, max(count, 1))
        return
    for start in range(0, count, BLOCK):
        os.pwrite(file, bytes(min(BLOCK, count - start)), offset + start)
