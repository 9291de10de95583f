"""Whether the arrays of a file can be the checkpoint of a simulation."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ..backend.files import DamagedFile

Arrays = dict[str, NDArray]
TAKEN = "taken"  # steps by Courant number; checkpoints of earlier versions have none
UNKNOWN = -(2**62)  # of such a checkpoint, so that the count stays negative
_OF_CLOSURE = re.compile(r"^closure\.(\d+)\.(memory\..+|change\.\w+|held\.(?:step|value|slope|noise))$")


def below(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with the prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def require_checkpoint(arrays: Arrays, now: Arrays, closures: int) -> None:
    """Raise DamagedFile unless the simulation, whose checkpoint is `now` before its first step, can have come here.

    Compared are names, shapes, types, and that the state and the held tendencies are finite. The memory of a closure
    may have any shape, as the closure decides on it.
    """
    wanted = {k: v for k, v in now.items() if not _OF_CLOSURE.match(k)}
    if missing := sorted(wanted.keys() - arrays.keys() - {TAKEN}):
        raise DamagedFile(f"the array {missing[0]} is missing")
    for name, array in arrays.items():
        if (match := _OF_CLOSURE.match(name)) is not None and int(match[1]) < closures:
            kind = match[2].removeprefix("held.")
            like = {"step": now["step"], "value": now["state"], "slope": now["state"]}.get(kind)
            if kind.startswith("change."):
                like = np.zeros(len(now["state"]))
        elif name in wanted:
            like = wanted[name]
        elif name.startswith("history."):
            like = now["state"]
        elif name.startswith("carrier.history.") and "carrier.state" in now:
            like = now["carrier.state"]
        else:
            raise DamagedFile(f"the array {name} is not part of this run")
        if like is not None and (array.shape != like.shape or array.dtype != like.dtype):
            raise DamagedFile(f"{name} is {array.dtype} {array.shape}, expected {like.dtype} {like.shape}")
        finite = name in ("state", "carrier.state") or name.endswith((".held.value", ".held.slope"))
        if finite and not np.isfinite(array).all():
            raise DamagedFile(f"{name} holds values that are not finite")
    for i in range(closures):
        held = {"step", "value"} & {k.rpartition(".")[2] for k in arrays if k.startswith(f"closure.{i}.held.")}
        if len(held) == 1:
            raise DamagedFile(f"the held tendency of closure {i} is not complete")
        if (arrays[f"closure.{i}.counts"] < 0).any():
            raise DamagedFile(f"the counts of closure {i} are negative")
    if int(arrays["step"]) < 0:
        raise DamagedFile(f"the step {int(arrays['step'])} is negative")
