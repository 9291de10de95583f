"""What the solver uses of the machine: array libraries and compiled kernels (arrays), and files (files)."""

from .arrays import NAMES, NUMPY, Backend, BackendError, available_threads, keep_freed_memory, kernel, select
from .precision import COMPLEX, FLUSHED, PRECISIONS, ByPrecision, Precision, high_and_low, in_single, real_type

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
    "high_and_low",
    "in_single",
    "keep_freed_memory",
    "kernel",
    "real_type",
    "select",
]
