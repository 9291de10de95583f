"""What the solver uses of the machine: array libraries and kernels (arrays), threads (pool), and files (files)."""

from .arrays import NAMES, NUMPY, Backend, BackendError, available_threads, keep_freed_memory, kernel, select
from .launching import Launcher, launcher
from .pool import allowed_threads, divided, pays, share, sharing
from .precision import COMPLEX, FLUSHED, PRECISIONS, ByPrecision, Precision, in_single, in_two_parts, real_type, rounded

__all__ = [
    "COMPLEX",
    "FLUSHED",
    "NAMES",
    "NUMPY",
    "PRECISIONS",
    "Backend",
    "BackendError",
    "ByPrecision",
    "Launcher",
    "Precision",
    "allowed_threads",
    "available_threads",
    "divided",
    "in_single",
    "in_two_parts",
    "keep_freed_memory",
    "kernel",
    "launcher",
    "pays",
    "real_type",
    "rounded",
    "select",
    "share",
    "sharing",
]
