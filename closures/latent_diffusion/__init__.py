"""`latent-diffusion`: a generative closure that samples the missing term in a latent space."""

from .closure import LatentDiffusion

__all__ = ["LatentDiffusion"]
