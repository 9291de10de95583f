"""Array backends: the namespace that right-hand sides are written against."""

from __future__ import annotations

from types import ModuleType

AVAILABLE = ("numpy",)


class BackendError(ValueError):
    """A backend that is unknown or not in this version."""


def namespace(name: str) -> ModuleType:
    """The array-API namespace of a backend.

    Raises BackendError for anything but "numpy": every right-hand side is written against the array API and
    runs on other namespaces, but the steppers and the coupling of this version run on NumPy with Numba alone.
    """
    if name not in AVAILABLE:
        raise BackendError(
            f"backend {name!r} is not available in this version; available: {', '.join(AVAILABLE)}. "
            "Remedy: --backend numpy"
        )
    import array_api_compat.numpy as xp

    return xp
