"""Array backends: the library and the device of a run's arrays, and conversion to and from them."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .precision import COMPLEX, KernelCompiler, Precision

Array = Any
NAMES = ("numpy", "cupy", "torch")


class BackendError(ValueError):
    """The backend is unknown, or not available on this machine."""


@dataclass(frozen=True)
class Backend:
    """One array library on one device.

    "numpy" steps batches of members with Numba kernels; the others step all members at once with the array code of the
    equations. Arrays of other libraries are converted by DLPack, without a copy if they are on the same device.

    precision: type of the real arrays of a run, "float64" or "float32"; times and steps are always in double precision.
    """

    name: str = "numpy"
    device: str = "cpu"
    precision: Precision = "float64"

    @property
    def compiled(self) -> bool:
        """True if the backend steps with Numba kernels."""
        return self.name == "numpy"

    @cached_property
    def xp(self) -> Any:
        """The namespace of the library, compatible with the Python array API."""
        return importlib.import_module(f"array_api_compat.{self.name}")

    def asarray(self, values: Any) -> Array:
        """The values as an array of this backend, floats in its precision; memory is shared where possible."""
        if self.name == "torch":
            import torch

            if isinstance(values, np.ndarray):
                if not values.flags.writeable:
                    values = values.copy()
                tensor = torch.from_numpy(values)
            else:
                tensor = values if isinstance(values, torch.Tensor) else torch.from_dlpack(values)
            if not (tensor.is_floating_point() or tensor.is_complex()):
                return tensor.to(self.device)
            kind = COMPLEX[self.precision] if tensor.is_complex() else self.precision
            return tensor.to(self.device, getattr(torch, kind))
        if self.name == "cupy":
            found = self.xp.asarray(values) if isinstance(values, np.ndarray) else self.xp.from_dlpack(values)
        else:
            found = values if isinstance(values, np.ndarray) else np.from_dlpack(values)
        return self._rounded(found)

    def _rounded(self, values: Array) -> Array:
        """Floats in the precision of the backend; what is too large for it becomes infinite, and the guard says so."""
        kinds: dict[str, Any] = {"c": COMPLEX[self.precision], "f": self.precision}
        with np.errstate(over="ignore"):
            return values.astype(kinds.get(values.dtype.kind, values.dtype), copy=False)

    def on_host(self, values: NDArray) -> NDArray:
        """Real NumPy numbers as floats of the precision of the backend."""
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(self.precision, copy=False)

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


def select(text: str, precision: Precision = "float64") -> Backend:
    """The backend named "numpy", "cupy" or "torch[:device]". Raises BackendError, with the remedy."""
    name, _, device = text.partition(":")
    if name not in NAMES or (device and name != "torch"):
        raise BackendError(f"backend {text!r} is not known; expected one of: numpy, cupy, torch, torch:DEVICE")
    if name == "numpy":
        return replace(NUMPY, precision=precision)
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
        return Backend("cupy", "cuda", precision)
    import torch

    keep_freed_memory()
    try:
        chosen = torch.device(device or "cpu")
        torch.zeros(1, device=chosen, dtype=torch.float64).cpu()  # "meta" makes arrays without values
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise BackendError(f"backend {text!r} is not available here ({reason}). Remedy: --backend torch:cpu") from None
    return Backend("torch", str(chosen), precision)


def available_threads() -> int:
    """SUBGRID_THREADS, or the number of cores that this process may use. Raises ValueError for a wrong number."""
    chosen = os.environ.get("SUBGRID_THREADS", "").strip()
    if not chosen:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not chosen.isascii() or not chosen.isdigit() or not int(chosen[:9]) >= 1 or len(chosen) > 9:
        raise ValueError(
            f"SUBGRID_THREADS: expected a whole number >= 1, found {chosen[:40]!r}. Remedy: unset it to use every core"
        )
    return int(chosen)


def kernel(double: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba.njit(cache=True, nogil=True, **options), with an on-disk cache that covers inlined functions.

    For arrays in single precision the kernel is compiled in single precision, see precision.py; with `double` it
    computes in double precision all the same.

    Numba stamps cached machine code with the hash of the file of the compiled function. Functions and constants that
    the file imports are part of the machine code too. The stamp is therefore extended by the hash of every source file
    that the file imports by relative imports, directly or through other files. Use the decorator at module level.

    A cache that cannot be read or written costs compilation and nothing else: one warning, which names the remedy.
    """
    import numba

    if not double:
        options["pipeline_class"] = KernelCompiler

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            compiled = numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _warn_uncached("no folder for them can be written")
            return numba.njit(nogil=True, **options)(function)
        if compiled is not function:  # it is the function itself under NUMBA_DISABLE_JIT
            file = compiled._cache._cache_file
            file._source_stamp = (file._source_stamp, source_hash(Path(function.__code__.co_filename)))
            _use_where_possible(compiled._cache)
        return compiled

    return decorate


_warned: list[str] = []


def _use_where_possible(stored: Any) -> None:
    """Make a kernel's cache compile again where its files are damaged, and not store what cannot be written."""
    load, save = stored.load_overload, stored.save_overload

    def load_intact(signature: Any, context: Any) -> Any:
        try:
            return load(signature, context)
        except Exception:  # damaged bytes raise any error in numba's reader
            with contextlib.suppress(OSError):
                stored.flush()
            return None

    def save_if_possible(signature: Any, result: Any) -> None:
        try:
            save(signature, result)
        except OSError as error:
            _warn_uncached(str(error))

    stored.load_overload, stored.save_overload = load_intact, save_if_possible


def _warn_uncached(reason: str) -> None:
    """Warn, once in a process."""
    if _warned:
        return
    _warned.append(reason)
    warnings.warn(
        f"kernels are compiled for this process and not cached: {reason}. Remedy: set NUMBA_CACHE_DIR to a folder that "
        "can be written",
        stacklevel=2,
    )


@cache
def source_hash(path: Path) -> str:
    """Hash of a source file and of all files that it imports by relative imports, directly or through other files."""
    found, open_files = {path}, [path]
    while open_files:
        more = _read_source(open_files.pop())[1] - found
        found |= more
        open_files += more
    return hashlib.sha256(b"".join(_read_source(p)[0] for p in sorted(found))).hexdigest()


_RELATIVE_IMPORT = re.compile(r"^[ \t]*from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE)


@cache
def _read_source(path: Path) -> tuple[bytes, set[Path]]:
    """Hash of a source file, and the files that it imports: modules, and modules that are imported as names."""
    content = path.read_bytes()
    imported = set()
    for dots, module, names in _RELATIVE_IMPORT.findall(content.decode()):
        target = path.parents[len(dots) - 1].joinpath(*module.split("."))
        candidates = [target.with_suffix(".py"), target / "__init__.py"] if module else [target / "__init__.py"]
        candidates += [target / f"{name}.py" for name in re.findall(r"\w+", names)]
        imported |= {file for file in candidates if file.is_file()}
    return hashlib.sha256(content).digest(), imported
