"""The store of the outputs: damage of its frames is noticed, and its metadata are written again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from subgrid.solver.backend.files import DamagedFile
from subgrid.solver.equations.base import Field
from subgrid.solver.simulation.store import chunk, empty_store, require_frames, write_store


@pytest.fixture
def files() -> dict[str, bytes]:
    dataset = xr.Dataset(coords={"time": [0.0, 1.0], "member": [0], "x": np.arange(16.0)})
    return empty_store(dataset, [Field("u", "1", "a field")], ("time", "member", "x"), "float64")


@pytest.fixture
def frame(files, tmp_path) -> Path:
    """The file of a frame of random numbers, which do not compress."""
    write_store(tmp_path, files)
    zarr.open_group(tmp_path, mode="r+")["u"][0] = np.random.default_rng(0).normal(size=(1, 16))  # type: ignore[index]
    return tmp_path / chunk("u", 0, 3)


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
