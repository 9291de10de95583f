"""Fourier transforms with plans and preallocated arrays, and the distribution of one over threads."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import COMPLEX, kernel, pays, share
from ..grid import Grid

DUCC_VALUES = 2000  # in columns, from which ducc0 is faster
FFTW_LENGTHS = (2, 4, 8, 16, 32, 64, 128)  # of columns, for which FFTW is faster: it has code for them
BLOCK_BYTES = 262144  # of a block: it and its rows fit into the second-level cache
VECTOR = 16  # values, of the widest vectors in single precision
PIECE_BYTES = 1024  # of a row in a piece of columns; with half as many the transforms take 3 % longer
ROW_COST, COLUMN_COST = 2.7, 1.7  # nanoseconds per value of both passes over rows, and of one over columns, 256^2


@functools.cache
def library() -> str:
    """Name of the FFT library: SUBGRID_FFT, or the first installed one of fftw, ducc, scipy."""
    choice = os.environ.get("SUBGRID_FFT")
    if choice not in (None, "fftw", "ducc", "scipy"):
        raise ValueError(f"SUBGRID_FFT is {choice!r}; expected fftw, ducc or scipy")
    for name, module in (("fftw", "pyfftw"), ("ducc", "ducc0"), ("scipy", "scipy")):
        if choice in (None, name):
            try:
                __import__(module)
            except ImportError:
                if choice:
                    raise ValueError(f"SUBGRID_FFT={name} needs {module}: pip install 'subgrid[fast]'") from None
                continue
            return name
    raise AssertionError("scipy is a dependency")


def empty(shape: tuple[int, ...], dtype: str = "float64") -> NDArray:
    """An array of zeros, aligned to 64 bytes for SIMD."""
    dt = np.dtype(dtype)
    size = math.prod(shape) * dt.itemsize
    raw = np.zeros(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size].view(dt).reshape(shape)


def _line(source: NDArray, target: NDArray, axis: int, forward: bool, by_ducc: bool = False) -> Callable[[], Any]:
    """Plan an unnormalised complex transform along one axis. The contents of `source` are destroyed."""
    chosen = "ducc" if by_ducc else library()
    if chosen == "fftw":
        import pyfftw

        flags = ("FFTW_ESTIMATE", "FFTW_DESTROY_INPUT")
        direction = "FFTW_FORWARD" if forward else "FFTW_BACKWARD"
        return pyfftw.FFTW(source, target, axes=(axis,), direction=direction, flags=flags, threads=1).execute
    if chosen == "ducc":
        import ducc0

        return lambda: ducc0.fft.c2c(source, axes=(axis,), forward=forward, out=target, nthreads=1)
    import scipy.fft

    def run() -> None:
        target[...] = scipy.fft.fft(source, axis=axis) if forward else scipy.fft.ifft(source, axis=axis, norm="forward")

    return run


def _columns_by_ducc(columns: NDArray) -> bool:
    """Whether ducc0 transforms the columns of a member in the place of FFTW.

    With its estimated plans FFTW takes 1.3 to 3 times as long for lengths as 80, 96 and 160, and from 256. Calls of
    ducc0 take longer to start, and a library that was chosen is used for all transforms.
    """
    if columns.shape[-2] in FFTW_LENGTHS or columns.size < DUCC_VALUES or os.environ.get("SUBGRID_FFT"):
        return False
    return importlib.util.find_spec("ducc0") is not None


def _pieces(columns: int, width: int) -> list[tuple[int, int]]:
    """Ranges of at most `width` columns, in multiples of VECTOR: ducc0 rounds those left over differently."""
    count = math.ceil(columns / width)
    each = -(-columns // (count * VECTOR)) * VECTOR
    return [(start, min(start + each, columns)) for start in range(0, columns, each)]


class Transforms:
    """Transforms of a batch of fields on one grid, shape (*batch, *grid).

    `inverse`, `forward` and `through` plan transforms of fixed arrays and return a function without arguments that
    executes them. Planned forward transforms are not normalised: the caller multiplies by `scale` = 1/N together with
    another factor.

    FFTW plans are estimated, not timed, so that results are bitwise the same in every process.

    dtype: "float64" or "float32", the type of real values here; `real` and `complex` are the types of both kinds.
    """

    def __init__(self, grid: Grid, dtype: str = "float64") -> None:
        self.grid, self.real, self.complex = grid, dtype, COMPLEX[dtype]
        self.scale = 1.0 / grid.points
        self._axes = tuple(range(-grid.dimensions, 0))

    def inverse(self, spectrum: NDArray, physical: NDArray) -> Callable[[], Any]:
        """Plan spectrum -> physical. The contents of `spectrum` are destroyed."""
        across = self._axes[:-1]
        if library() == "fftw":
            import pyfftw

            flags = ("FFTW_ESTIMATE", "FFTW_DESTROY_INPUT")
            backward: dict[str, Any] = {"direction": "FFTW_BACKWARD", "flags": flags}
            if not across and len(physical.reshape(-1, physical.shape[-1])) == 1:
                return _one_line(spectrum, physical, backward)
            last = pyfftw.FFTW(spectrum, physical, axes=(-1,), threads=1, **backward).execute
            if not across:
                return last
            first = pyfftw.FFTW(
                spectrum, spectrum, axes=across, direction="FFTW_BACKWARD", flags=flags[:1], threads=1
            ).execute

            def in_two_passes() -> None:
                first()
                last()

            return in_two_passes
        n = self.grid.shape[-1]
        if library() == "ducc":
            import ducc0

            def by_ducc() -> None:
                if across:
                    ducc0.fft.c2c(spectrum, axes=across, forward=False, out=spectrum, nthreads=1)
                ducc0.fft.c2r(spectrum, axes=(-1,), lastsize=n, forward=False, out=physical, nthreads=1)

            return by_ducc
        import scipy.fft

        def run() -> None:
            physical[...] = scipy.fft.irfftn(spectrum, s=self.grid.shape, axes=self._axes, norm="forward")

        return run

    def forward(self, physical: NDArray, spectrum: NDArray) -> Callable[[], Any]:
        """Plan physical -> spectrum, unnormalised. The contents of `physical` may be destroyed."""
        across = self._axes[:-1]
        if library() == "fftw":
            import pyfftw

            if not across and len(physical.reshape(-1, physical.shape[-1])) == 1:
                return _one_line(physical, spectrum, {"flags": ("FFTW_ESTIMATE",)})
            last = pyfftw.FFTW(physical, spectrum, axes=(-1,), flags=("FFTW_ESTIMATE",), threads=1).execute
            if not across:
                return last
            first = pyfftw.FFTW(spectrum, spectrum, axes=across, flags=("FFTW_ESTIMATE",), threads=1).execute

            def in_two_passes() -> None:
                last()
                first()

            return in_two_passes
        if library() == "ducc":
            import ducc0

            def by_ducc() -> None:
                ducc0.fft.r2c(physical, axes=(-1,), out=spectrum, nthreads=1)
                if across:
                    ducc0.fft.c2c(spectrum, axes=across, out=spectrum, nthreads=1)

            return by_ducc
        import scipy.fft

        def run() -> None:
            spectrum[...] = scipy.fft.rfftn(physical, axes=self._axes)

        return run

    def through(self, batch: int, pointwise: Callable[[NDArray], Any]) -> tuple[NDArray, Callable[[], None]]:
        """Plan spectrum -> physical, `pointwise`, physical -> spectrum for complex fields u + i v on two axes.

        Returns the spectrum (batch, *grid), with columns in the order 0, 1, ..., -2, -1, and the function that
        transforms it in place. `pointwise` changes a flat array of values in place. A complex
        field represents two real ones at little more than the cost of one. Modes above the 2/3 cut of the last axis
        must be zero before and are undefined afterwards, which saves a sixth of the work.

        Rows are processed in blocks that fit into the second-level cache. They are padded, because columns at a
        distance of a power of two would evict each other from the cache. Blocks of rows and pieces of the columns are
        distributed over threads; how many there are depends on the grid alone.
        """
        (height, width), dtype = self.grid.shape, np.dtype(self.complex)
        padded = empty((batch, height, width + 16 // dtype.itemsize), self.complex)
        spectrum = padded[..., :width]
        cut = self.grid.cuts[-1]
        by_ducc = _columns_by_ducc(spectrum[0, :, : cut + 1])
        pieces = []
        # ducc0 counts columns through all members: by themselves a member has the bits that it has in a batch
        for members in spectrum if by_ducc else [spectrum]:
            for kept in (members[..., : cut + 1], members[..., width - cut :]):
                for first, last in _pieces(kept.shape[-1], PIECE_BYTES // dtype.itemsize):
                    piece = kept[..., first:last]
                    pieces.append([_line(piece, piece, -2, forward, by_ducc) for forward in (False, True)])
        rows = padded.reshape(-1, padded.shape[-1])[:, :width]
        size = max(1, BLOCK_BYTES // (width * dtype.itemsize))
        starts = range(0, len(rows), size)
        values: dict[int, NDArray] = {}
        plans: dict[tuple[int, int], tuple[Any, ...]] = {}  # by block and place, which has its own values
        scale = dtype.itemsize / 16

        def plan(block: int, place: int) -> tuple[Any, ...]:
            if place not in values:
                values[place] = empty((min(size, len(rows)), width), self.complex)
            row = rows[starts[block] : starts[block] + size]
            v = values[place][: len(row)]
            plans[block, place] = _line(row, v, -1, False), v.reshape(-1), _line(v, row, -1, True)
            return plans[block, place]

        def to_rows(first: int, last: int, place: int) -> None:
            for inverse, _ in pieces[first:last]:
                inverse()

        def through_rows(first: int, last: int, place: int) -> None:
            for block in range(first, last):
                inverse, v, forward = plans.get((block, place)) or plan(block, place)
                inverse()
                pointwise(v)
                forward()

        def from_rows(first: int, last: int, place: int) -> None:
            for _, forward in pieces[first:last]:
                forward()

        column_cost = scale * COLUMN_COST * batch * height * 2 * (cut + 1) / len(pieces)
        row_cost = scale * ROW_COST * size * width

        def run() -> None:
            share(to_rows, len(pieces), column_cost)
            share(through_rows, len(starts), row_cost)
            share(from_rows, len(pieces), column_cost)

        def run_undivided() -> None:
            for inverse, _ in pieces:
                inverse()
            for inverse, v, forward in plans.values():
                inverse()
                pointwise(v)
                forward()
            for _, forward in pieces:
                forward()

        if not pays(len(pieces), column_cost) and not pays(len(starts), row_cost):
            for block in range(len(starts)):
                plan(block, 0)
            return spectrum, run_undivided
        return spectrum, run

    def to_physical(self, spectrum: NDArray) -> NDArray:
        """u(x) = sum_k u_hat_k exp(i k x); new array (*batch, *grid)."""
        work = empty(spectrum.shape, self.complex)
        out = empty((*spectrum.shape[: -self.grid.dimensions], *self.grid.shape), self.real)
        run = self.inverse(work, out)
        work[...] = spectrum
        run()
        return out

    def to_spectrum(self, physical: NDArray) -> NDArray:
        """u_hat_k = (1/N) sum_x u(x) exp(-i k x); new array (*batch, *spectral_shape)."""
        work = empty(physical.shape, self.real)
        out = empty((*physical.shape[: -self.grid.dimensions], *self.grid.spectral_shape), self.complex)
        run = self.forward(work, out)
        work[...] = physical
        run()
        out *= self.scale
        return out


def _one_line(source: NDArray, target: NDArray, options: dict[str, Any]) -> Callable[[], None]:
    """Plan the transform of a single line beside a line of zeros.

    For some lengths FFTW takes another algorithm for a single line than for several, with other bits; a member alone
    would differ from the member in a batch.
    """
    import pyfftw

    given, found = (np.zeros((2, a.shape[-1]), a.dtype) for a in (source, target))
    execute = pyfftw.FFTW(given, found, axes=(-1,), threads=1, **options).execute

    def run() -> None:
        given[0] = source.reshape(-1)
        execute()
        target[...] = found[0].reshape(target.shape)

    return run


@kernel(error_model="numpy", fastmath={"contract"})
def square(u):
    """In place: u -> u^2, (points,)."""
    for i in range(u.shape[0]):
        u[i] = u[i] * u[i]
