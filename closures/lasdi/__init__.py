"""`lasdi`: a reduced-order model with latent-space dynamics that answers with a leap."""

from .closure import Lasdi

__all__ = ["Lasdi"]
