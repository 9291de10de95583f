"""LaM-SLidE: trajectories of many entities drawn in a latent space of fixed size, traced by identifiers."""

from .closure import LamSlide

__all__ = ["LamSlide"]
