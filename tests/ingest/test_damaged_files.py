"""Damaged files of the cache: never read, computed again, and the user is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from subgrid.ingest import files
from subgrid.ingest.cache import cache
from subgrid.ingest.missing_term import MissingTerm
from subgrid.ingest.requests import reference_request
from subgrid.ingest.sweep import runs
from subgrid.ingest.trajectories import Trajectories, generate
from subgrid.solver.backend.files import DamagedFile, read_arrays, write_arrays
from subgrid.solver.simulation import BlowUp


def contents(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


class Killed(Exception):
    pass


def killing(step):
    def progress(done, total, what):
        if done >= step:
            raise Killed

    return progress


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_header(path):
    content = bytearray(path.read_bytes())
    content[25] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(999))


def not_a_number(path):
    """In the last value, whatever the format."""
    array = np.load(path)
    array[(-1,) * array.ndim] = np.nan
    np.save(path, array)


DAMAGES = {
    **{
        f"{name} {how.__name__}": (f"{name}.npy", how)
        for name in ("state", "term", "fine")
        for how in (cut, flip, flip_header, empty, random_bytes, not_a_number, Path.unlink)
    },
    **{f"{name} {how.__name__}": (name, how) for name in ("request.json", "done.json") for how in (cut, flip, empty)},
    "request.json missing": ("request.json", Path.unlink),
    "done.json of another kind": ("done.json", lambda path: path.write_text("[3]")),
    "done.json without checksums of the arrays": ("done.json", lambda path: path.write_text('{"checksums": {}}')),
    "done.json deeply nested": ("done.json", lambda path: path.write_text("[" * 100_000)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_computed_again_and_the_user_is_told(damage, case, caplog):
    name, harm = DAMAGES[damage]
    request = reference_request(case)
    directory = generate(case, request).directory
    whole = contents(directory)
    harm(directory / name)
    with pytest.raises(DamagedFile, match=r"request\.json|done\.json|state\.npy|term\.npy|fine\.npy"):
        Trajectories(directory)
    assert generate(case, request).directory == directory
    assert contents(directory) == whole
    (said,) = caplog.records
    assert "computed again" in said.getMessage() and str(directory) in said.getMessage()


@pytest.mark.parametrize("name", ["state", "term", "fine"])
def test_values_that_are_not_finite_are_not_read_from_a_reference_without_checksums(name, case, caplog):
    """Earlier versions stored none: their data are used if they are finite, and computed again if not."""
    request = reference_request(case)
    directory = generate(case, request).directory
    (directory / "done.json").write_text('{"steps": 200}')
    before = contents(directory)
    assert generate(case, request).directory == directory
    assert contents(directory) == before and not caplog.records
    not_a_number(directory / f"{name}.npy")
    assert np.isfinite(getattr(generate(case, request), name)).all()
    assert len(caplog.records) == 1


def test_values_that_are_not_finite_are_not_stored(case, monkeypatch):
    """A term may overflow in single precision although the state is finite."""
    real = MissingTerm.__call__
    monkeypatch.setattr(MissingTerm, "__call__", lambda self, state, t: 1e300 * (1 + real(self, state, t)))
    request = reference_request(case)
    with pytest.raises(BlowUp, match=r"term of the reference run .* not finite"):
        generate(case, request)
    assert not (request.directory() / "done.json").exists()


@pytest.mark.parametrize("how", [cut, flip, empty, random_bytes])
def test_a_damaged_run_of_a_sweep_is_computed_again_and_the_user_is_told(how, case, caplog):
    made = runs(case, case.sweep.points())
    whole = contents(made.directory)
    how(made.files[1])
    assert np.isfinite(runs(case, case.sweep.points()).states()).all()
    assert contents(made.directory) == whole
    (said,) = caplog.records
    assert "computed again" in said.getMessage() and made.files[1].name in said.getMessage()


@pytest.mark.parametrize("change", ["not finite", "too short", "another request", "no state"])
def test_a_run_of_a_sweep_with_wrong_contents_is_computed_again(change, case):
    made = runs(case, case.sweep.points())
    whole = contents(made.directory)
    arrays = read_arrays(made.files[1])
    if change == "not finite":
        arrays["state"][-1, 0, 0] = np.inf
    elif change == "too short":
        arrays = {k: v if k == "request" else v[:-1] for k, v in arrays.items()}
    elif change == "another request":
        arrays = read_arrays(made.files[0])
    else:
        del arrays["state"]
    write_arrays(made.files[1], arrays)
    runs(case, case.sweep.points())
    assert contents(made.directory) == whole


def interrupted(case, request, monkeypatch):
    """A generation that was interrupted after a checkpoint at step 100, and the bytes of a finished one."""
    directory = request.directory()
    whole = contents(generate(case, request).directory)
    shutil.rmtree(directory)
    with monkeypatch.context() as patch:
        patch.setattr(files, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(Killed):
            generate(case, request, killing(100))
    assert read_arrays(directory / "checkpoint.npz")["step"] == 100
    return directory, whole


def changed(**entries):
    def change(path):
        write_arrays(path, {k: v for k, v in (read_arrays(path) | entries).items() if v is not None})

    change.__name__ = f"changed {entries}"
    return change


def state_not_finite(path):
    arrays = read_arrays(path)
    arrays["state"][...] = np.nan
    write_arrays(path, arrays)


INTERRUPTED = [
    *[("checkpoint.npz", how) for how in (cut, flip, empty, random_bytes, state_not_finite)],
    *[("checkpoint.npz", changed(**{k: None})) for k in ("step", "state", "entries.state", "entries.fine")],
    *[("checkpoint.npz", changed(step=np.array(n))) for n in (-1, 201, 2**60)],
    ("checkpoint.npz", changed(state=np.zeros(3))),
    *[(f"{name}.npy", how) for name in ("state", "term", "fine") for how in (flip_header, cut, empty, Path.unlink)],
    ("fine.npy", flip),
    ("state.npy", lambda path: np.save(path, 2 * np.load(path))),
]


@pytest.mark.parametrize(("name", "harm"), INTERRUPTED, ids=lambda v: getattr(v, "__name__", str(v)))
def test_an_interrupted_generation_with_a_damaged_file_starts_again(name, harm, case, monkeypatch, caplog):
    """Not only the checkpoint: an entry before it that is damaged or lost would otherwise be read as zeros."""
    directory, whole = interrupted(case, reference_request(case), monkeypatch)
    harm(directory / name)
    generate(case, reference_request(case))
    assert contents(directory) == whole
    (said,) = caplog.records
    assert "starts again" in said.getMessage() and str(directory) in said.getMessage()


def test_an_interrupted_generation_with_intact_files_continues(case, monkeypatch, caplog):
    directory, whole = interrupted(case, reference_request(case), monkeypatch)
    stops = []
    generate(case, reference_request(case), lambda done, total, what: stops.append(done))
    assert contents(directory) == whole and stops[0] == 100 and not caplog.records


def test_files_that_a_killed_process_left_are_removed(case):
    request = reference_request(case)
    request.directory().mkdir(parents=True)
    (cache() / "sweep").mkdir()
    file = runs(case, case.sweep.points()[:1]).files[0]
    file.unlink()
    left = [
        request.directory() / ".done.json.123-0123abcd.subgrid-part",
        file.parent / f".{file.name}.123-0123abcd.subgrid-part",
    ]
    kept = [request.directory() / "other.part", file.parent / ".another.npz.123-0123abcd.subgrid-part"]
    for path in (*left, *kept):
        path.write_bytes(b"")
    generate(case, request)
    runs(case, case.sweep.points()[:1])
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


# -- verification costs little ---------------------------------------------------------------------------------


def test_a_file_is_verified_once_per_process_and_again_if_it_changes(case, monkeypatch):
    directory = generate(case, reference_request(case)).directory
    for file in directory.iterdir():  # otherwise they are too young to be trusted by their time
        os.utime(file, (1e9, 1e9))
    read = []
    monkeypatch.setattr(files, "checksum", lambda path, real=files.checksum: (read.append(path.name), real(path))[1])
    for _ in range(3):
        Trajectories(directory)
    assert sorted(read) == ["fine.npy", "request.json", "state.npy", "term.npy"]
    flip(directory / "term.npy")
    with pytest.raises(DamagedFile, match=r"term\.npy"):
        Trajectories(directory)
