"""CUDA kernels written in Numba, launched on the arrays and the stream of another library."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .arrays import Backend, BackendError

Array = Any
LOG = logging.getLogger("subgrid")
THREADS = 256  # of a block
NUMBERS = 64  # that are kept on the device


class Launcher:
    """Launches Numba kernels over (column, row, batch) on the device of a backend, on its library's current stream.

    A kernel is a Python function of arrays and numbers that takes its place from `numba.cuda.grid(3)` and returns
    beyond the ends. It is compiled for the types of its arguments when it is first launched with them.

    double: the backend in double precision, for arrays of coefficients.
    """

    def __init__(self, backend: Backend) -> None:
        from numba import config, cuda

        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]  # small grids are for tests and graphs
        self._cuda, self._library = cuda, backend.name
        self.double = replace(backend, precision="float64")
        self._known: dict[float, Any] = {}

    def __call__(self, kernel: Callable[..., None], shape: tuple[int, int, int], *arguments: Any) -> None:
        """Run `kernel` once for each place of shape (batch, row, column)."""
        batch, rows, columns = shape
        high = 8 if rows >= 8 else 1
        wide = THREADS // high
        blocks = (-(-columns // wide), -(-rows // high), batch)
        arrays = [a if isinstance(a, int | float) else self._cuda.as_cuda_array(a, sync=False) for a in arguments]
        _compiled(kernel)[blocks, (wide, high, 1), self._stream()](*arrays)

    def number(self, value: Any) -> Any:
        """A number or an array without axes as an array of one number, which a kernel reads when it runs."""
        return device_number(value, self.double, self._known)

    def _stream(self) -> Any:
        if self._library == "torch":
            import torch

            return self._cuda.external_stream(torch.cuda.current_stream().cuda_stream)
        import cupy

        return self._cuda.external_stream(cupy.cuda.get_current_stream().ptr)


@functools.cache
def _compiled(kernel: Callable[..., None]) -> Any:
    from numba import cuda

    return cuda.jit(kernel)


def launcher(backend: Backend) -> Launcher | None:
    """The launcher of a CUDA device that Numba finds too, else None: array code is used, and the log says why.

    By default of torch alone, with which kernels have run on a device. SUBGRID_CUDA_KERNELS=0 switches them off, and
    SUBGRID_CUDA_KERNELS=1 asks for them, with CuPy too; then BackendError is raised if Numba finds no device.
    """
    chosen = os.environ.get("SUBGRID_CUDA_KERNELS", "")
    if backend.name not in ("torch", "cupy") or not backend.device.startswith("cuda") or chosen == "0":
        return None
    if backend.name == "cupy" and chosen != "1":
        return None
    try:
        from numba import cuda

        missing = "" if cuda.is_available() else "it finds no device"
    except Exception as error:  # a version of numba-cuda that does not fit that of NumPy, say
        missing = f"{type(error).__name__}: {error}"
    if not missing:
        return Launcher(backend)
    if chosen == "1":
        raise BackendError(f"SUBGRID_CUDA_KERNELS=1: Numba's CUDA target: {missing}. Remedy: unset it, or numba-cuda")
    _say(missing)
    return None


@functools.cache
def _say(missing: str) -> None:
    """Once in a process."""
    LOG.warning(
        "steps on the device are array code, which is slower than kernels. Numba's CUDA target: %s. Remedy: numba-cuda "
        "in a version that fits NumPy's, or SUBGRID_CUDA_KERNELS=0 to leave the kernels out",
        missing,
    )


def device_number(value: Any, double: Backend, known: dict[float, Any]) -> Any:
    """A number, or an array without axes, as an array of one number in double precision on the device.

    known: the arrays of numbers made so far, so that a step of a fixed length sends nothing to the device. None of them
    is dropped, because a CUDA graph reads it again; beyond NUMBERS, as lengths of steps that differ, none is added.
    """
    if isinstance(value, float):
        if value in known:
            return known[value]
        made = double.asarray(np.array([value]))
        if len(known) < NUMBERS:
            known[value] = made
        return made
    return double.xp.astype(double.xp.reshape(value, (1,)), double.xp.float64)
