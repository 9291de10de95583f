"""Candidates of a tuning as tasks of the workers of a cluster."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from subgrid.ingest.cache import cache
from subgrid.ingest.cluster import Cluster
from subgrid.ingest.pieces import Source, cache_at, case_of, generate_in_pieces, source
from subgrid.ingest.requests import training_request
from subgrid.solver.backend.files import read_json, write_json
from subgrid.solver.case.inputs import with_contents
from subgrid.solver.case.tables import Case, ClosureTable

from .progress import Bars
from .rollouts import Rollouts, Score

Candidate = tuple[tuple[ClosureTable, ...], float]  # closures, and the perturbation of the initial states


class Candidates:
    """Errors of candidates, each a task that writes a file of its own.

    The files lie in the cache, in a folder whose name depends on the case, on the score and on the contents of the
    files that they name; an interrupted tuning finds them. `delete` removes them.
    """

    def __init__(self, workers: Cluster, case: Case, tables: Sequence[ClosureTable], score: Score, bars: Bars) -> None:
        generate_in_pieces("training", case, training_request(case), workers, bars)
        self._workers, self._bars, self._score, self._source = workers, bars, score, source(case)
        self.failure = ""  # why the last run that failed did
        about = [tomllib.loads(self._source[0]), [plain(table) for table in tables], score]
        self._key = _hash(with_contents(about))
        self._folder = cache() / f"tune-{self._key}"
        workers.require_shared(self._folder)

    def errors(self, candidates: Sequence[Candidate]) -> list[float]:
        """The error of each candidate; infinite for a run that fails."""
        given = [([plain(table) for table in tables], perturbation) for tables, perturbation in candidates]
        files = [self._folder / f"{_hash(entry)}.json" for entry in given]
        tasks = [
            (self._source, self._score, self._key, *entry, str(file))
            for entry, file in zip(given, files, strict=True)
            if not file.is_file()
        ]
        for _ in self._workers.carry_out(_candidate, tasks):
            pass
        found = [read_json(file) for file in files]
        self.failure = next((entry["failure"] for entry in found if entry["failure"]), self.failure)
        return [math.inf if entry["error"] is None else float(entry["error"]) for entry in found]

    def delete(self) -> None:
        """Delete the files of the candidates."""
        shutil.rmtree(self._folder, ignore_errors=True)


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
) -> None:
    """Write the error of a candidate. Run by a worker."""
    with cache_at(Path(file).parent.parent):
        if Path(file).is_file():
            return
        rollouts = _rollouts(source, score, key)
        rollouts.failure = ""
        error = rollouts(tuple(ClosureTable.model_validate(table) for table in tables), perturbation)
        write_json(Path(file), {"error": error if math.isfinite(error) else None, "failure": rollouts.failure})
