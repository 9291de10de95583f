"""`regression`: a deterministic, non-local network for the missing term."""

from .closure import Regression

__all__ = ["Regression"]
