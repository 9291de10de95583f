"""Array backends that a case can be run on."""

from __future__ import annotations

AVAILABLE = ("numpy",)


class BackendError(ValueError):
    """A backend that is unknown or not in this version."""


def require(name: str) -> None:
    """Raise BackendError for anything but "numpy".

    Every right-hand side is written against the array API and runs in other namespaces, but the steppers and the
    coupling of this version run on NumPy with Numba alone.
    """
    if name not in AVAILABLE:
        raise BackendError(
            f"backend {name!r} is not available in this version; available: {', '.join(AVAILABLE)}. "
            "Remedy: --backend numpy"
        )
