"""MI2A: waves predicted from a window of past states by attention that takes the form of a multistep method."""

from .closure import MI2A

__all__ = ["MI2A"]
