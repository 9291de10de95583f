"""Functions of one number or two in CUDA kernels. Imported by kernels alone: it needs Numba's CUDA target."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba import cuda


@cuda.jit(device=True)
def smaller(a, b):
    """min(a, b): Numba's own CUDA target does not compile `min` of two numbers."""
    return a if a < b else b


@cuda.jit(device=True)
def larger(a, b):
    """max(a, b)."""
    return a if a > b else b


def device_function(compiled: Any) -> Any:
    """A function that Numba inlines into kernels of a processor, and those that it calls, for kernels of a device."""
    function = compiled.py_func
    names = {"min": smaller, "max": larger}
    called = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    names |= {name: device_function(value) for name, value in called.items() if hasattr(value, "py_func")}
    copy = FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    return cuda.jit(device=True)(copy)
