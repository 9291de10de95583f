"""What the solver uses of the machine: array libraries and compiled kernels (arrays), threads (pool), and files (files)."""

from .arrays import NAMES, NUMPY, Backend, BackendError, available_threads, keep_freed_memory, kernel, select
from .pool import share, sharing
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
    "Precision",
    "available_threads",
    "in_single",
    "in_two_parts",
    "keep_freed_memory",
    "kernel",
    "real_type",
    "rounded",
    "select",
    "share",
    "sharing",
]
