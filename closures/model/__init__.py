"""`model`: a network in an ONNX file as a closure."""

from .closure import Model

__all__ = ["Model"]
