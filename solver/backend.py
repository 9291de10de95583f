"""Array backends: the library and the device of a run's arrays, and conversion to and from them."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
NAMES = ("numpy", "cupy", "torch")


class BackendError(ValueError):
    """The backend is unknown, or not available on this machine."""


@dataclass(frozen=True)
class Backend:
    """One array library on one device.

    "numpy" steps batches of members with Numba kernels; the others step all members at once with the array code of the
    equations. Arrays of other libraries are converted by DLPack, without a copy if they are on the same device.
    """

    name: str = "numpy"
    device: str = "cpu"

    @property
    def compiled(self) -> bool:
        """True if the backend steps with Numba kernels."""
        return self.name == "numpy"

    @cached_property
    def xp(self) -> Any:
        """The namespace of the library, compatible with the Python array API."""
        return importlib.import_module(f"array_api_compat.{self.name}")

    def asarray(self, values: Any) -> Array:
        """The values as an array of this backend, floats in double precision; memory is shared where possible."""
        if self.name == "torch":
            import torch

            if isinstance(values, np.ndarray):
                if not values.flags.writeable:
                    values = values.copy()
                tensor = torch.from_numpy(values)
            else:
                tensor = torch.from_dlpack(values)
            narrow = tensor.is_floating_point() or tensor.is_complex()
            wide = (torch.complex128 if tensor.is_complex() else torch.float64) if narrow else tensor.dtype
            return tensor.to(self.device, wide)
        if self.name == "cupy":
            found = self.xp.asarray(values) if isinstance(values, np.ndarray) else self.xp.from_dlpack(values)
        else:
            found = values if isinstance(values, np.ndarray) else np.from_dlpack(values)
        return found.astype({"c": "complex128", "f": "float64"}.get(found.dtype.kind, found.dtype), copy=False)

    def to_numpy(self, array: Array) -> NDArray:
        """The array as a NumPy array; memory is shared if the array is in host memory."""
        if self.name == "torch":
            return array.detach().cpu().numpy()
        return self.xp.asnumpy(array) if self.name == "cupy" else array

    def copy(self, array: Array) -> Array:
        """A copy of the array on the same device."""
        return array.clone() if self.name == "torch" else array.copy()


NUMPY = Backend()


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system.

    Array code allocates at every operation. By default glibc requests every array above 128 kB from the system and
    returns it after use, which costs more than the transforms.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 32 * 2**20)  # the largest value that glibc accepts
    mallopt(trim_threshold, 2**31 - 1)


def select(text: str) -> Backend:
    """The backend named "numpy", "cupy" or "torch[:device]". Raises BackendError, with the remedy."""
    name, _, device = text.partition(":")
    if name not in NAMES or (device and name != "torch"):
        raise BackendError(f"backend {text!r} is not known; expected one of: numpy, cupy, torch, torch:DEVICE")
    if name == "numpy":
        return NUMPY
    if name == "cupy":
        try:
            cupy = importlib.import_module("cupy")
            devices = cupy.cuda.runtime.getDeviceCount()
        except ImportError:
            raise BackendError("backend 'cupy' needs CuPy. Remedy: pip install 'subgrid[cuda]'") from None
        except Exception as error:
            raise BackendError(f"backend 'cupy' finds no CUDA device ({error}). Remedy: --backend numpy") from None
        if not devices:
            raise BackendError("backend 'cupy' finds no CUDA device. Remedy: --backend numpy")
        return Backend("cupy", "cuda")
    import torch

    keep_freed_memory()
    try:
        chosen = torch.device(device or "cpu")
        torch.zeros(1, device=chosen, dtype=torch.float64)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise BackendError(f"backend {text!r} is not available here ({reason}). Remedy: --backend torch:cpu") from None
    return Backend("torch", str(chosen))
