"""Trajectories in pieces: data of their own until they are joined, which a command without workers continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from subgrid.ingest import trajectories
from subgrid.ingest.cache import cache
from subgrid.ingest.cluster import GONE, WorkersLost
from subgrid.ingest.pieces import generate_in_pieces
from subgrid.ingest.requests import reference_request, start_request
from subgrid.ingest.trajectories import Trajectories, generate
from subgrid.solver.case.reading import check
from subgrid.solver.case.tables import Case

WAVES = {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 3.0}


class Pool:
    """The workers of a cluster, in this process, of whose tasks the first `most` are done."""

    def __init__(self, most: int = 99) -> None:
        self._most = most

    def require_shared(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def carry_out(self, function, tasks):
        for i, task in enumerate(tasks):
            if i == self._most:
                raise WorkersLost(GONE)
            yield i, function(*task)


def waves(pulse: dict, count: int, oracle: bool = True) -> Case:
    """The pulse of the other tests as so many waves, from t = 0.1 of their reference."""
    time = {"start": 0.1, "end": 0.2, "step": 0.001, "stepper": "rk4"}
    own = {"time": time, "initial": {"kind": "reference"}, "ensemble": {"members": count, "seed": 1}}
    own |= {"reference": {"shape": [32], "start": 0.0, "initial": WAVES, "trajectories": count, "seed": 1}}
    kept = {k: v for k, v in pulse.items() if k not in ("training", "sweep", "closure")}
    return check(kept | own | ({"closure": pulse["closure"]} if oracle else {}), "case", Path())


def in_pieces(case: Case, kind: str = "reference", most: int = 99) -> Trajectories:
    request = start_request(case) if kind == "start" else reference_request(case)
    return generate_in_pieces(kind, case, request, Pool(most), lambda done, total, what: None)


def contents() -> dict[str, bytes]:
    return {str(p.relative_to(cache())): p.read_bytes() for p in cache().rglob("*") if p.is_file()}


def test_pieces_that_are_left_of_the_whole_reference_are_not_those_of_its_start(pulse):
    with pytest.raises(WorkersLost):
        in_pieces(waves(pulse, 5), most=2)
    assert in_pieces(waves(pulse, 5, oracle=False), "start").fine.shape == (5, 1, 32)


@pytest.mark.parametrize("oracle", [True, False])
def test_a_reference_with_the_trajectories_of_a_piece_stays(pulse, oracle):
    """Whether it holds more than the piece or the same, and also while another command reads it."""
    small = waves(pulse, 1, oracle)
    kept = generate(small, reference_request(small))
    before = {path: path.read_bytes() for path in kept.directory.iterdir()}
    in_pieces(waves(pulse, 5, oracle=False))
    assert {path: path.read_bytes() for path in kept.directory.iterdir()} == before


def test_one_process_continues_the_pieces_that_workers_have_begun(pulse, tmp_path, monkeypatch):
    case, made = waves(pulse, 5), []
    generate(case, reference_request(case))
    whole = contents()
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "other"))
    with pytest.raises(WorkersLost):
        in_pieces(case, most=3)
    run = trajectories._generate
    monkeypatch.setattr(trajectories, "_generate", lambda *given: made.append(given[1].first) or run(*given))
    generate(case, reference_request(case))
    assert made == [3, 4] and contents() == whole
