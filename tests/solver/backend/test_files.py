"""Files: a writer leaves the old file or the new one, a reader is bounded by the header, a folder has one user."""

import io
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from subgrid.solver.backend.files import (
    DamagedFile,
    FolderInUse,
    FolderLock,
    array_header,
    array_headers,
    read_arrays,
    remove_temporary,
    replace,
    replace_folder,
    write_arrays,
)


def test_arrays_survive_a_round_trip_and_can_be_read_by_name(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(True), "c": np.zeros((0, 3), dtype="i4")}
    write_arrays(tmp_path / "x.npz", arrays)
    found = read_arrays(tmp_path / "x.npz")
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    assert list(read_arrays(tmp_path / "x.npz", names=["b"])) == ["b"]
    assert os.listdir(tmp_path) == ["x.npz"]


@pytest.mark.parametrize(
    "damage", ["empty", "truncated", "text", "bit", "header", "pickle", "folder", "not an archive"]
)
def test_a_damaged_array_file_is_reported_by_name(tmp_path, damage):
    path = tmp_path / "x.npz"
    write_arrays(path, {"a": np.arange(1000.0)})
    content = bytearray(path.read_bytes())
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "header":
        content[content.index(b"<f8")] = ord("?")
        path.write_bytes(content)
    elif damage == "pickle":
        np.savez(path, a=np.array([{}], dtype=object))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", b"\x93NUMPY")
    with pytest.raises(DamagedFile, match=r"x\.npz") as caught:
        read_arrays(path)
    assert "allow_pickle" not in str(caught.value)


def test_a_directory_of_an_archive_that_leads_before_its_start_is_damage(tmp_path):
    write_arrays(tmp_path / "a.npz", {"u": np.zeros(3)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    place = content.rindex(b"PK\x05\x06") + 16  # where the directory begins
    content[place + 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"a\.npz"):
        read_arrays(tmp_path / "a.npz")


def test_a_compressed_file_is_refused_by_its_header_before_it_is_expanded(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state.npy", header.getvalue())
    with pytest.raises(DamagedFile, match="announces state 8e"):
        read_arrays(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "y.npz", state=np.zeros(1000))
    with pytest.raises(DamagedFile, match="more than"):
        read_arrays(tmp_path / "y.npz", largest=7999)
    assert read_arrays(tmp_path / "y.npz", largest=8000)["state"].size == 1000


def test_replace_keeps_the_old_file_on_an_error_and_follows_no_link(tmp_path, monkeypatch):
    path = tmp_path / "x"
    replace(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        replace(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
    (tmp_path / "elsewhere").write_bytes(b"kept")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert (tmp_path / "elsewhere").read_bytes() == b"kept"


def test_only_the_remains_of_replace_are_removed(tmp_path):
    ours = tmp_path / ".state.npz.123-0123abcd.subgrid-part"
    for name in ("state.npz.part", "x.part", "notes.txt", ours.name):
        (tmp_path / name).write_bytes(b"")
    remove_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "state.npz.part", "x.part"]


def test_a_folder_has_one_user_and_the_next_one_can_wait(tmp_path):
    first = FolderLock(tmp_path)
    with pytest.raises(FolderInUse, match="in use by another process"):
        FolderLock(tmp_path)
    said = threading.Event()
    threading.Thread(target=lambda: (said.wait(30), first.close())).start()
    with FolderLock(tmp_path, wait=said.set):
        assert said.is_set()
    FolderLock(tmp_path).close()


def npz(path, header, values=b"", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", header + values)


def test_an_entry_longer_than_its_header_announces_is_refused_before_it_is_read(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2,)})
    npz(tmp_path / "x.npz", header.getvalue(), bytes(16))
    assert read_arrays(tmp_path / "x.npz")["a"].tolist() == [0, 0]
    npz(tmp_path / "x.npz", header.getvalue(), bytes(10**8))
    with pytest.raises(DamagedFile, match="holds more than its header announces"):
        read_arrays(tmp_path / "x.npz")


def test_a_header_that_announces_a_header_of_gigabytes_is_not_read_whole():
    class Bounded(io.BytesIO):
        def read(self, size=-1):
            assert 0 <= size <= 2**16
            return super().read(size)

    file = Bounded(b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b" " * 10**5)
    with pytest.raises(ValueError):
        array_header(file)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_does_not_use_is_refused(tmp_path, method):
    npz(tmp_path / "x.npz", b"", method=method)
    with pytest.raises(DamagedFile, match="compressed in a way that NumPy does not use"):
        read_arrays(tmp_path / "x.npz")


def test_headers_are_read_without_values(tmp_path):
    write_arrays(tmp_path / "x.npz", {"a": np.zeros((2, 3), dtype=">f4"), "b": np.zeros(1)})
    assert array_headers(tmp_path / "x.npz", ["a"]) == {"a": ((2, 3), np.dtype(">f4")), "b": None}


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "a device or pipe"),
        (Path("/dev/zero"), "a device or pipe"),
        (tmp_path, "a folder"),
        (tmp_path / ("n" * 300), "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
    ):
        with pytest.raises(DamagedFile, match=words):
            read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "missing.npz")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    """An error leaves the old folder; a symbolic link in its place is replaced, and what it names is untouched."""
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    replace_folder(folder, lambda new: (new / "a").write_text("1"))
    replace_folder(folder, lambda new: (new / "b").write_text("2"))
    assert [p.name for p in folder.iterdir()] == ["b"]

    def fail(new):
        (new / "c").write_text("3")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_folder(folder, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["data"] and [p.name for p in folder.iterdir()] == ["b"]
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    replace_folder(folder, lambda new: (new / "d").write_text("4"))
    assert not folder.is_symlink() and [p.name for p in elsewhere.iterdir()] == ["b"]


def test_folders_that_a_killed_process_left_are_removed_and_links_are_not_followed(tmp_path):
    place, kept = tmp_path / "place", tmp_path / "kept"
    left = place / ".comparison.zarr.123-0123abcd.subgrid-part"
    left.mkdir(parents=True)
    (left / "chunk").write_text("1")
    kept.mkdir()
    (kept / "file").write_text("2")
    (place / ".link.123-0123abcd.subgrid-part").symlink_to(kept)
    (place / "data.part").write_text("3")
    remove_temporary(place)
    assert sorted(p.name for p in place.iterdir()) == [".link.123-0123abcd.subgrid-part", "data.part"]
    assert (kept / "file").read_text() == "2"


def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    """Renaming a file to the name of a device deletes the device, which an administrator is allowed to do."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a device or a pipe, expected a file"):
        replace(tmp_path / "pipe", b"content")
    assert (tmp_path / "pipe").is_fifo() and [p.name for p in tmp_path.iterdir()] == ["pipe"]
