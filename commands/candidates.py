"""Candidates of a tuning as tasks of the workers of a cluster."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from typing import Any

from subgrid.ingest.cache import cache
from subgrid.ingest.cluster import Cluster
from subgrid.ingest.pieces import Source, cache_at, case_of, generate_in_pieces, source
from subgrid.ingest.requests import training_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.backend.files import read_json, write_json
from subgrid.solver.case.inputs import with_contents
from subgrid.solver.case.tables import Case, ClosureTable

from .progress import Bars
from .rollouts import Rollouts, Score

Candidate = tuple[tuple[ClosureTable, ...], float]  # closures, and the perturbation of the initial states


class Candidates:
    """Errors of candidates, each a task that writes a file of its own; without workers this process has them all.

    The files lie in the cache, in a folder whose name depends on the case, on the score and on the contents of the
    files that they name; an interrupted tuning finds them. `delete` removes them, also under another command that tunes
    the same, which computes again what it still asks for.
    """

    def __init__(
        self, workers: Cluster | None, case: Case, tables: Sequence[ClosureTable], score: Score, bars: Bars
    ) -> None:
        if workers is None:
            generate(case, training_request(case), bars)
        else:
            generate_in_pieces("training", case, training_request(case), workers, bars)
        self._workers, self._score, self._source = workers, score, source(case)
        self.failure = ""  # why the last run that failed did
        self._key = _hash(with_contents([tomllib.loads(self._source[0]), [plain(table) for table in tables], score]))
        self._folder = cache() / f"tune-{self._key}"
        if workers is not None:
            workers.require_shared(self._folder)

    def errors(self, candidates: Sequence[Candidate]) -> list[float]:
        """The error of each candidate; infinite for a run that fails."""
        found: list[Any] = []
        tasks: dict[int, tuple[Any, ...]] = {}
        for i, (tables, perturbation) in enumerate(candidates):
            entry = ([plain(table) for table in tables], perturbation)
            file = self._folder / f"{_hash(entry)}.json"
            found.append(_kept(file))
            if found[i] is None:
                tasks[i] = (self._source, self._score, self._key, *entry, str(file))
        places, given = list(tasks), list(tasks.values())
        carried = enumerate(starmap(_candidate, given))
        for i, answer in carried if self._workers is None else self._workers.carry_out(_candidate, given):
            found[places[i]] = answer
        self.failure = next((entry["failure"] for entry in found if entry["failure"]), self.failure)
        return [math.inf if entry["error"] is None else float(entry["error"]) for entry in found]

    def delete(self) -> None:
        """Delete the files of the candidates."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _kept(file: Path) -> dict[str, Any] | None:
    """What a task has found; None if its file is not there."""
    with suppress(FileNotFoundError):
        return dict(read_json(file))
    return None


def plain(table: ClosureTable) -> dict[str, Any]:
    """A table of a closure as plain data, without defaults."""
    return table.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:20]


@lru_cache(maxsize=1)
def _rollouts(source: Source, score: Score, key: str) -> Rollouts:
    """The rollouts of a tuning, for the tasks of one worker. key: tells contents of files apart."""
    return Rollouts(case_of(source), score, Bars(quiet=True))


def _candidate(
    source: Source, score: Score, key: str, tables: list[dict[str, Any]], perturbation: float, file: str
) -> dict[str, Any]:
    """Write the error of a candidate, which is the answer too. Run by a worker."""
    with cache_at(Path(file).parent.parent):
        if (kept := _kept(Path(file))) is not None:
            return kept
        rollouts = _rollouts(source, score, key)
        rollouts.failure = ""
        error = rollouts(tuple(ClosureTable.model_validate(table) for table in tables), perturbation)
        found = {"error": error if math.isfinite(error) else None, "failure": rollouts.failure}
        with suppress(FileNotFoundError):  # deleted in this moment, by the end of the same tuning elsewhere
            Path(file).parent.mkdir(exist_ok=True)
            write_json(Path(file), found)
        return found
