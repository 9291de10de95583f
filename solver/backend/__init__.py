"""What the solver uses of the machine: array libraries and compiled kernels (arrays), and files (files)."""

from .arrays import NAMES, NUMPY, Backend, BackendError, available_threads, keep_freed_memory, kernel, select

__all__ = ["NAMES", "NUMPY", "Backend", "BackendError", "available_threads", "keep_freed_memory", "kernel", "select"]
