"""CUDA kernels written in Numba, launched on the arrays and the stream of another library."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from .arrays import Backend, BackendError

Array = Any
THREADS = 256  # of a block


class Launcher:
    """Launches Numba kernels over (column, row, batch) on the device of a backend, on its library's current stream.

    A kernel is a Python function of arrays and whole numbers that takes its place from `numba.cuda.grid(3)` and returns
    beyond the ends. It is compiled for the types of its arguments when it is first launched with them.
    """

    def __init__(self, backend: Backend) -> None:
        from numba import config, cuda

        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]  # small grids are for tests and graphs
        self._cuda, self._library = cuda, backend.name

    def __call__(self, kernel: Callable[..., None], shape: tuple[int, int, int], *arguments: Any) -> None:
        """Run `kernel` once for each place of shape (batch, row, column)."""
        batch, rows, columns = shape
        high = 8 if rows >= 8 else 1
        wide = THREADS // high
        blocks = (-(-columns // wide), -(-rows // high), batch)
        arrays = [a if isinstance(a, int) else self._cuda.as_cuda_array(a, sync=False) for a in arguments]
        _compiled(kernel)[blocks, (wide, high, 1), self._stream()](*arrays)

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
    """The launcher of a CUDA device where SUBGRID_CUDA_KERNELS=1 asks for the kernels, else None: array code is used.

    They are not the default, because on a device only the kernels of Kolmogorov flow alone have run. Raises
    BackendError if they are asked for and Numba finds no device.
    """
    if backend.name not in ("torch", "cupy") or not backend.device.startswith("cuda"):
        return None
    if os.environ.get("SUBGRID_CUDA_KERNELS") != "1":
        return None
    from numba import cuda

    if not cuda.is_available():
        raise BackendError(
            "SUBGRID_CUDA_KERNELS=1: Numba finds no CUDA device. Remedy: pip install numba-cuda, or unset it"
        )
    return Launcher(backend)
