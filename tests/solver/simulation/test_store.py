"""The store of the outputs: damage of its frames is noticed, and its metadata are written again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from subgrid.solver.backend.files import DamagedFile
from subgrid.solver.simulation.store import Chunks, Variable, Writer, empty_store, require_frames, write_store


@pytest.fixture
def files() -> dict[str, bytes]:
    dataset = xr.Dataset(coords={"time": [0.0, 1.0], "member": [0], "x": np.arange(16.0)})
    return empty_store(dataset, [Variable("u", ("time", "member", "x"), "1", "a field")])


@pytest.fixture
def frame(files, tmp_path) -> Path:
    """The file of a frame of random numbers, which do not compress."""
    write_store(tmp_path, files)
    zarr.open_group(tmp_path, mode="r+")["u"][0] = np.random.default_rng(0).normal(size=(1, 16))  # type: ignore[index]
    return tmp_path / "u" / "c" / "0" / "0" / "0"


def test_intact_frames_pass_and_frames_that_were_not_written_do_not(files, frame, tmp_path):
    require_frames(tmp_path, files, "u", 1)
    with pytest.raises(DamagedFile, match="is missing"):
        require_frames(tmp_path, files, "u", 2)


def test_every_bit_flip_in_a_frame_is_noticed(files, frame, tmp_path):
    intact = frame.read_bytes()
    missed = []
    for bit in range(8 * len(intact)):
        content = bytearray(intact)
        content[bit // 8] ^= 1 << bit % 8
        frame.write_bytes(content)
        try:
            require_frames(tmp_path, files, "u", 1)
        except DamagedFile:
            continue
        frame_now = np.asarray(zarr.open_group(tmp_path, mode="r")["u"][0])  # type: ignore[index]
        frame.write_bytes(intact)
        if not np.array_equal(frame_now, np.asarray(zarr.open_group(tmp_path, mode="r")["u"][0])):  # type: ignore[index]
            missed.append(bit)
    assert missed == []


def test_a_frame_that_announces_another_size_is_not_decompressed(files, frame, tmp_path):
    from numcodecs import Zstd

    bomb = Zstd(level=9).encode(np.zeros(10**8, np.uint8))
    assert len(bomb) < 10**5
    frame.write_bytes(bomb)
    with pytest.raises(DamagedFile, match="announces 100000000 bytes, expected 128"):
        require_frames(tmp_path, files, "u", 1)


def test_what_differs_is_written_and_nothing_else(files, tmp_path):
    assert sorted(write_store(tmp_path, files)) == sorted(files)
    assert write_store(tmp_path, files) == []
    (tmp_path / "u" / "zarr.json").unlink()
    (tmp_path / "time" / "c" / "0").write_bytes(b"damaged")
    assert sorted(write_store(tmp_path, files)) == ["time/c/0", "u/zarr.json"]
    assert {key: (tmp_path / key).read_bytes() for key in files} == files


COUNT, LENGTH = 23, 8


@pytest.fixture
def long() -> dict[str, bytes]:
    """23 frames of 5 numbers in chunks of 8."""
    dataset = xr.Dataset(coords={"time": np.arange(float(COUNT)), "member": [0], "x": np.arange(5.0)})
    return empty_store(dataset, [Variable("u", ("time", "member", "x"), "1", "a field", chunk=LENGTH)])


def values(index: int) -> dict[str, np.ndarray]:
    return {"u": index + np.arange(5.0)[None]}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_flushes_and_restarts_at_any_output_end_with_the_same_bytes(long, tmp_path):
    """A chunk that is not full is written again; the frames after a restart are those of the run without it."""
    write_store(tmp_path / "whole", long)
    writer = Writer(tmp_path / "whole", long, ["u"])
    for index in range(COUNT):
        writer.put(index, values(index))
    writer.flush()
    expected = contents(tmp_path / "whole")
    assert sum("/c/" in name and name.startswith("u") for name in expected) == 3
    for restart in range(COUNT):
        place = tmp_path / f"restart-{restart}"
        write_store(place, long)
        writer = Writer(place, long, ["u"])
        for index in range(COUNT):
            if index == restart:
                writer.put(index, {"u": np.full((1, 5), -1.0)})  # what a killed run wrote after its checkpoint
                writer.flush()
                require_frames(place, long, "u", restart)
                writer = Writer(place, long, ["u"])
            writer.put(index, values(index))
            if index % 3 == 0:
                writer.flush()
        writer.flush()
        assert contents(place) == expected


def test_outputs_that_are_cut_off_leave_the_bytes_of_a_shorter_run(long, tmp_path):
    for count in range(COUNT + 1):
        folders = [tmp_path / f"{name}-{count}" for name in ("cut", "short")]
        for folder, written in zip(folders, (COUNT, count), strict=True):
            write_store(folder, long)
            writer = Writer(folder, long, ["u"])
            for index in range(written):
                writer.put(index, values(index))
            writer.flush()
        Writer(folders[0], long, ["u"]).cut(count)
        assert contents(folders[0]) == contents(folders[1])


def test_outputs_behind_a_chunk_of_nan_are_cut_off_too(long, tmp_path):
    """A chunk of nan alone has no file, and is not the end of the store."""
    for folder, written in ((tmp_path / "cut", COUNT), (tmp_path / "short", 2)):
        write_store(folder, long)
        writer = Writer(folder, long, ["u"])
        for index in range(written):
            hole = LENGTH <= index < 2 * LENGTH
            writer.put(index, {"u": np.full((1, 5), np.nan)} if hole else values(index))
        writer.flush()
    assert not Chunks(tmp_path / "cut", long, "u").path(1).is_file()
    assert Chunks(tmp_path / "cut", long, "u").path(2).is_file()
    Writer(tmp_path / "cut", long, ["u"]).cut(2)
    assert contents(tmp_path / "cut") == contents(tmp_path / "short")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_chunks_have_the_bytes_that_zarr_writes_and_are_read_back(dtype, tmp_path):
    """A full chunk, one of nan alone, which has no file, and one that is not full and has a frame of nan."""
    dataset = xr.Dataset(coords={"time": np.arange(20.0), "member": [0, 1], "x": np.arange(5.0)})
    made = empty_store(dataset, [Variable("u", ("time", "member", "x"), "1", "a field", dtype, LENGTH)])
    frames = np.random.default_rng(1).normal(size=(19, 2, 5)).astype(dtype)
    frames[8:16] = frames[17] = np.nan
    for place in ("ours", "zarr"):
        write_store(tmp_path / place, made)
    writer = Writer(tmp_path / "ours", made, ["u"])
    for index, frame in enumerate(frames):
        writer.put(index, {"u": frame})
    writer.flush()
    zarr.open_group(tmp_path / "zarr", mode="r+")["u"][:19] = frames  # type: ignore[index]
    assert contents(tmp_path / "ours") == contents(tmp_path / "zarr")
    found = Chunks(tmp_path / "ours", made, "u").read(2, 3)
    assert found.dtype == dtype and np.array_equal(found, frames[16:], equal_nan=True)
    found[:] = 0  # it can be written to, and is a copy


def test_all_files_of_a_store_are_forced_to_the_disk(files, tmp_path, monkeypatch):
    """A run that is done must be complete after a power failure, for readers of a single array, too."""
    forced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: forced.add(os.fstat(descriptor).st_ino))
    write_store(tmp_path, files)
    assert {key for key in files if (tmp_path / key).stat().st_ino in forced} == set(files)
