"""Arrays in files, read when they are indexed: views of them are made without reading, as NumPy makes views.

xarray wraps such an array by `wrapped`, so that a dataset larger than memory can be opened, selected and streamed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = tuple[slice, ...]


@dataclass(frozen=True)
class Lazy:
    """An array of `shape` and `dtype`; read(key) returns a part, key being one slice with start, stop and step > 0 for
    each axis.

    chunks: the extent of the blocks that the file stores, where it stores blocks.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Key], NDArray]
    chunks: tuple[int, ...] | None = None

    @classmethod
    def of(cls, array: Any, chunks: Sequence[int] | None = None) -> Lazy:
        """A view of an array of NumPy, h5py or Zarr, which is indexed by slices."""
        found = chunks or getattr(array, "chunks", None)
        return cls(
            tuple(int(n) for n in array.shape),
            np.dtype(array.dtype),
            lambda key: np.asarray(array[key] if key else array[()]),
            None if found is None else tuple(int(n) for n in found),
        )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> NDArray:
        """A part, by integers and slices."""
        given = () if key is Ellipsis else key if isinstance(key, tuple) else (key,)
        full: list[slice] = []
        order: list[Any] = []
        for axis, n in enumerate(self.shape):
            part = given[axis] if axis < len(given) else slice(None)
            if not isinstance(part, slice):
                index = range(n)[int(part)]
                full.append(slice(index, index + 1, 1))
                order.append(0)
                continue
            wanted = range(*part.indices(n))
            forward = wanted if wanted.step > 0 else wanted[::-1]
            full.append(slice(forward.start, max(forward.start, forward.stop), forward.step))
            order.append(slice(None) if wanted.step > 0 else slice(None, None, -1))
        return np.asarray(self.read(tuple(full)))[tuple(order)]

    def transpose(self, axes: Sequence[int]) -> Lazy:
        """Axis i of the view is axis axes[i] of the array."""
        order = tuple(axes)

        def read(key: Key) -> NDArray:
            inner = [slice(None)] * len(order)
            for i, axis in enumerate(order):
                inner[axis] = key[i]
            return self.read(tuple(inner)).transpose(order)

        chunks = None if self.chunks is None else tuple(self.chunks[a] for a in order)
        return Lazy(tuple(self.shape[a] for a in order), self.dtype, read, chunks)

    def pick(self, axis: int, index: int) -> Lazy:
        """One entry along an axis, which the view lacks."""

        def read(key: Key) -> NDArray:
            return self.read((*key[:axis], slice(index, index + 1, 1), *key[axis:])).squeeze(axis)

        return replace(self, shape=_without(self.shape, axis), read=read, chunks=_without(self.chunks, axis))

    def expand(self, axis: int) -> Lazy:
        """The array with a new axis of one entry."""

        def read(key: Key) -> NDArray:
            found = np.expand_dims(self.read((*key[:axis], *key[axis + 1 :])), axis)
            return found[(*[slice(None)] * axis, slice(0, len(range(*key[axis].indices(1)))))]

        chunks = None if self.chunks is None else (*self.chunks[:axis], 1, *self.chunks[axis:])
        return Lazy((*self.shape[:axis], 1, *self.shape[axis:]), self.dtype, read, chunks)

    def take(self, axis: int, indices: NDArray[np.intp]) -> Lazy:
        """The entries `indices` along an axis, in this order."""

        def read(key: Key) -> NDArray:
            wanted = indices[key[axis]]
            if not len(wanted):
                return self.read((*key[:axis], slice(0, 0, 1), *key[axis + 1 :]))
            low = int(wanted.min())
            step = int(np.gcd.reduce(wanted - low)) or 1
            found = self.read((*key[:axis], slice(low, int(wanted.max()) + 1, step), *key[axis + 1 :]))
            return np.take(found, (wanted - low) // step, axis=axis)

        shape = (*self.shape[:axis], len(indices), *self.shape[axis + 1 :])
        return replace(self, shape=shape, read=read)

    def apply(self, function: Callable[[NDArray], NDArray], dtype: Any) -> Lazy:
        """The array with a function of its values, element by element."""
        return replace(self, dtype=np.dtype(dtype), read=lambda key: function(self.read(key)))


def concatenate(parts: Sequence[Lazy], axis: int) -> Lazy:
    """The parts one after the other along an axis. Raises ValueError unless they agree along all others."""
    first = parts[0]
    shapes = {_without(p.shape, axis) for p in parts}
    if len(shapes) > 1:
        raise ValueError(f"shapes differ: {', '.join(str(p.shape) for p in parts[:4])}")
    dtype = np.result_type(*(p.dtype for p in parts))
    ends = np.cumsum([p.shape[axis] for p in parts])
    shape = (*first.shape[:axis], int(ends[-1]), *first.shape[axis + 1 :])

    def read(key: Key) -> NDArray:
        wanted = np.arange(*key[axis].indices(shape[axis]))
        found = []
        for part, end in zip(parts, ends, strict=True):
            inside = wanted[(wanted >= end - part.shape[axis]) & (wanted < end)] - (end - part.shape[axis])
            if len(inside):
                span = slice(int(inside[0]), int(inside[-1]) + 1, key[axis].step)
                found.append(part.read((*key[:axis], span, *key[axis + 1 :])))
        if not found:
            return first.read((*key[:axis], slice(0, 0, 1), *key[axis + 1 :])).astype(dtype)
        return np.concatenate(found, axis=axis, dtype=dtype, casting="same_kind")

    return Lazy(shape, dtype, read, first.chunks)


def stack(parts: Sequence[Lazy], axis: int) -> Lazy:
    """The parts along a new axis. Raises ValueError unless their shapes agree."""
    return concatenate([p.expand(axis) for p in parts], axis)


def _without(values: tuple[int, ...] | None, axis: int) -> Any:
    return None if values is None else (*values[:axis], *values[axis + 1 :])


def wrapped(array: Lazy) -> Any:
    """The array as xarray holds arrays of files: lazily, every kind of index being reduced to slices."""
    from xarray.backends import BackendArray
    from xarray.core.indexing import IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

    class Wrapped(BackendArray):
        shape, dtype = array.shape, array.dtype

        def __getitem__(self, key: Any) -> Any:
            return explicit_indexing_adapter(key, self.shape, IndexingSupport.BASIC, self._read)

        def _read(self, key: tuple[Any, ...]) -> NDArray:
            return array[key]

    return LazilyIndexedArray(Wrapped())
