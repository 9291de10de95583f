"""The base class of closures that are trained: their weights, their training data and their training."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from subgrid.solver.case.mistakes import CaseError
from subgrid.solver.case.tables import ClosureTable
from subgrid.solver.closure import Closure, FileOrName, Kind, Problem

from .compatibility import find_weights, locate, mismatch
from .options import read_options

if TYPE_CHECKING:
    from subgrid.ingest.sweep import Sweep
    from subgrid.ingest.training_set import Dataset

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainingJob:
    """What `subgrid train` hands to a closure.

    options: the table [train.NAME] as plain data. data: the training set, or the runs of [sweep], as the closure's
    `learns_from` says. target: the weights file to write. work: folder of checkpoints; a job with the same one resumes.
    folder: folder of the case file, against which paths in the options are resolved. origin: `training_case` and
    `training_command` for the header. device: of torch, on which networks are trained. progress(done, total, metrics)
    is called after each step.
    """

    options: dict[str, Any]
    data: Dataset | Sweep
    target: Path
    work: Path
    folder: Path
    origin: dict[str, str]
    progress: Progress
    device: str = "cpu"


class NoOptions(BaseModel):
    """A table [train.NAME] without entries."""

    model_config = ConfigDict(extra="forbid")


class LearnedClosure(Closure, ABC):
    """A closure whose answer depends on trained weights.

    A subclass sets `method`, the name that headers of its weights hold under "closure", and `learns_from`: "training"
    for pairs of states and missing terms, "sweep" for runs of the case's own model over the parameters of [sweep].
    It overrides `train` if `subgrid train` can train it, and `mismatch` if its weights are not those of a term on one
    grid. `start` reads the file that `find_weights` returns. It sets `by_descent` if its training takes steps of
    gradient descent, whose numbers are options as in `options.brief`: the memory of the training is then predicted.

    weights: a .safetensors file (relative to the case file) or the name of one that ships; by default the first shipped
    file that fits the problem.
    """

    kind: ClassVar[Kind] = "learned"
    method: ClassVar[str]
    learns_from: ClassVar[Literal["training", "sweep"]] = "training"
    by_descent: ClassVar[bool] = False
    weights: Annotated[str, FileOrName()] | None = None

    @classmethod
    def training_options(cls) -> type[BaseModel]:
        """The pydantic model of [train.NAME]."""
        return NoOptions

    @classmethod
    def all_options(cls, table: dict[str, Any]) -> dict[str, Any]:
        """The table [train.NAME] with every default. Raises ValueError that names each wrong option."""
        return read_options(cls.method, cls.training_options(), table).model_dump()

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Train on `job.data`, write the weights to `job.target`, and return the scores.

        A job whose work folder holds a checkpoint resumes. Raises ValueError for options that training does not have.
        """
        raise ValueError(f"{cls.__name__} has no training of its own. Remedy: give it trained weights = FILE")

    @classmethod
    def mismatch(cls, header: dict[str, Any], problem: Problem, strict: bool) -> str | None:
        """How weights with this header and the problem differ, by name; None if they fit.

        strict: the weights were not named but found, so parameters of the equation must be equal too.
        """
        return mismatch(header, problem, grid_independent=False, strict=strict)

    def find_weights(self, problem: Problem) -> Path:
        """The weights file for a problem. Only headers are read. Raises ClosureError, with the remedy."""
        return find_weights(self.method, self.weights, problem, self.mismatch)

    def training_points(self) -> NDArray | None:
        """Parameters of the runs that the weights learned from, (run, parameter), after `start`.

        None if they learned from no sweep, or do not say: the points of [sweep] then count as those of the training.
        """
        return None

    def latent_trajectories(self, states: NDArray, interval: float) -> dict[str, NDArray] | None:
        """`encoded`, `predicted` and `deviation`, each (time, latent), of states (time, field, *grid) of one run.

        The states are `interval` apart in time. None for a closure without latent variables that evolve in time.
        """
        return None


def require_weights(source: str, tables: Iterable[ClosureTable], folder: Path) -> None:
    """Raise CaseError for weights that tables of `source` name and that do not exist, before anything is computed."""
    mistakes = []
    for table in tables:
        found = table.find(folder)
        if issubclass(found, LearnedClosure) and (weights := table.options.get("weights")) is not None:
            try:
                locate(str(weights), folder, found.method)
            except ValueError as error:
                mistakes.append(f"weights of {table.label}: {error}")
    if mistakes:
        raise CaseError(source, list(dict.fromkeys(mistakes)))
