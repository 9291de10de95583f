"""The parts of a decoder that are fitted once the evolution is known.

They are chosen by roll-outs, so that another evolution has others. A correction by attention is therefore judged with
the decoder that belongs to it, against the model without it and the decoder that belongs to that.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .compression import Compression
from .model import Evolution, rollout
from .multistep import Multistep
from .refinement import refine
from .registered import Registered

if TYPE_CHECKING:
    from .training import Training


def completed(training: Training, evolution: Evolution) -> tuple[Compression | Registered, Evolution, dict[str, Any]]:
    """The compression with a complete decoder, the evolution without a correction that does not lower the error of the
    runs held out, and what was chosen, with this error."""
    if not isinstance(evolution, Multistep) or evolution.correction is None:
        return training.compression, evolution, _complete(training, evolution)
    unfinished = training.compression
    found: list[tuple[Compression | Registered, Evolution, dict[str, Any]]] = []
    for candidate in (replace(evolution, correction=None), evolution):
        training.compression = deepcopy(unfinished)
        refined = _complete(training, candidate)
        found.append((training.compression, candidate, refined))
    return min(found, key=lambda each: each[2]["held_out"])


def _complete(training: Training, evolution: Evolution) -> dict[str, Any]:
    """Complete the decoder of the training in place; what was chosen, and the error of the runs held out."""
    compression, options, held_out = training.compression, training.options, training.held_out

    def error() -> float:
        path = rollout(evolution, training.starts()[held_out], training.scaled[held_out], training.ahead)
        return training.state_error(path, held_out)

    if isinstance(compression, Compression):
        features = 0 if options.compression == "pod" else options.features
        return refine(compression, training.c, held_out, features, options.seed, error)
    if compression.pattern is None:
        return {"held_out": error()}
    path = rollout(evolution, training.starts()[held_out], training.scaled[held_out], training.ahead)
    refined = compression.complete(training.c, training.z, held_out, path, options.seed)
    return refined | {"held_out": error()}
