"""The peak memory of `subgrid train`: predicted by a process of its own, and compared with that of this machine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from subgrid.closures.learning.learned_closure import LearnedClosure
from subgrid.ingest.pieces import source
from subgrid.solver.case.tables import Case

from .exit_codes import PROCESSES
from .memory import available
from .short_training import TrainingMemory, Trial

LOG = logging.getLogger("subgrid")
NEGLIGIBLE = 1e-3  # of the memory of this machine
BAR = "memory, by short trainings"
REMEDY = "a smaller batch, fewer unrolled steps, a smaller network, or fewer trajectories or runs"


class Unknown(ValueError):
    """Why the memory of a training is not predicted."""


def predicted(case: Case, closure: str, options: dict[str, Any], processes: int = 1) -> TrainingMemory:
    """The memory of one of the processes of a training, from short trainings in a process that does nothing else.

    options: the table [train.NAME] with the objective, as `TrainingJob` has it. Raises Unknown where no short training
    is possible.
    """
    if not os.access("/proc/self/clear_refs", os.W_OK):
        raise Unknown("it is read from /proc/self/status, which this system does not have")
    asked = {"source": source(case), "closure": closure, "options": options, "processes": processes}
    code = "from subgrid.commands.short_training import answer; answer()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
    )
    said = (done.stdout.strip() or "{}").splitlines()[-1]
    if done.returncode or said == "{}":
        raise Unknown("a short training ended: " + (done.stderr.strip().splitlines() or ["without a message"])[-1])
    found = json.loads(said)
    if "error" in found:
        raise Unknown(found["error"])
    return TrainingMemory(**found)


def require(
    case: Case,
    closure: str,
    found: type[LearnedClosure],
    options: dict[str, Any],
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> None:
    """Raise ValueError, with the predicted number, for a training on the processor that does not fit into this machine.

    A training whose states and batch are a thousandth of the memory is not looked at, and one whose closure does not
    learn by descent neither. Where the memory is not predicted the logger "subgrid" says so. Under torchrun the
    processes of this machine count together.
    """
    if not found.by_descent:
        return
    trial = Trial(case, found, options, PROCESSES)
    if 8 * (trial.values + trial.batch_values) < NEGLIGIBLE * available():
        return
    progress(0, 1, BAR)
    try:
        memory = predicted(case, closure, options, PROCESSES)
    except Unknown as error:
        LOG.warning("the memory of the training of %s is not known in advance: %s", closure, error)
        return
    finally:
        progress(1, 1, BAR)
    _refuse(closure, memory, int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if PROCESSES > 1 else 1)


def needs_of_training(case: Case, closure: str, found: type[LearnedClosure], options: dict[str, Any]) -> str:
    """The peak memory of `subgrid train` in words.

    Raises ValueError, with the number, if it does not fit into this machine, for options that the training does not
    have, and for a closure whose memory is not predicted.
    """
    if not found.by_descent:
        raise ValueError(f"--memory: {closure} is not trained by gradient descent. Remedy: leave out --closure")
    Trial(case, found, options)
    try:
        memory = predicted(case, closure, options)
    except Unknown as error:
        raise ValueError(f"--memory: the memory of the training of {closure} is not known: {error}") from None
    _refuse(closure, memory, 1)
    files = f"{memory.mapped / 2**30:.2f} GiB of files where there is room"
    return f"about {memory.needed / 2**30:.2f} GiB of memory, {files}"


def _refuse(closure: str, memory: TrainingMemory, processes: int) -> None:
    needed, most = processes * memory.needed, available()
    if needed > most:
        shared = f" in {processes} processes" if processes > 1 else ""
        raise ValueError(
            f"memory: the training of {closure} needs about {needed / 2**30:.1f} GiB{shared}, this machine has "
            f"{most / 2**30:.1f} GiB. Remedy: {REMEDY}"
        )
