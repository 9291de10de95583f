"""`equation-discovery`: the missing term as a sum of a few physical candidates."""

from .closure import EquationDiscovery

__all__ = ["EquationDiscovery"]
