import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from subgrid.closures.learning.weights_file import KEY, REQUIRED, load, load_header, read_header, save

HEADER = {
    "closure": "regression",
    "version": "1",
    "equation": "kolmogorov",
    "fields": ["vorticity"],
    "shape": [64, 64],
    "length": [6.25, 6.25],
    "normalisation": {"state": [1.5], "term": [0.1]},
    "training_case": "cases/kolmogorov.toml",
    "training_command": "subgrid train kolmogorov.toml",
    "seeds": [0, 1],
    "scores": {"relative_error": 0.007},
}


@pytest.fixture
def tensors():
    generator = np.random.default_rng(0)
    return {
        "network.b": generator.standard_normal((3, 4)).astype(np.float32),
        "network.a": generator.standard_normal((4, 3)).T,
        "count": np.array(7, dtype=np.int64),
    }


def test_a_file_returns_what_was_saved(tmp_path, tensors):
    save(tmp_path / "w.safetensors", tensors, HEADER | {"extra": [None, True]})
    found, header = load(tmp_path / "w.safetensors")
    assert header == HEADER | {"extra": [None, True]}
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_equal_content_gives_equal_bytes(tmp_path, tensors):
    save(tmp_path / "a", tensors, HEADER)
    save(tmp_path / "b", dict(reversed(tensors.items())), dict(reversed(HEADER.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named_and_nothing_is_written(tmp_path, tensors, key):
    header = {name: value for name, value in HEADER.items() if name != key}
    with pytest.raises(ValueError, match=f"lacks {key}$"):
        save(tmp_path / "w", tensors, header)
    assert not list(tmp_path.iterdir())


def test_a_header_that_is_not_json_is_refused_and_the_old_file_stays(tmp_path, tensors):
    save(tmp_path / "w", tensors, HEADER)
    for value in (np.float32(1), float("nan")):
        with pytest.raises(ValueError, match="not JSON"):
            save(tmp_path / "w", tensors, HEADER | {"scores": value})
    assert load(tmp_path / "w")[1] == HEADER


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-5])


def overwritten(path):
    path.write_bytes(b"\x80\x04 a pickle, say")


def foreign(path):
    save_file({"a": np.zeros(2)}, path, metadata={"format": "pt"})


def header_of_another_kind(path):
    save_file({"a": np.zeros(2)}, path, metadata={"subgrid": '{"closure": "regression"}'})


def header_not_an_object(path):
    save_file({"a": np.zeros(2)}, path, metadata={"subgrid": "3"})


@pytest.mark.parametrize("damage", [cut_short, overwritten, foreign, header_of_another_kind, header_not_an_object])
def test_a_file_that_is_not_ours_is_refused_with_path_and_remedy(tmp_path, tensors, damage):
    path = tmp_path / "w.safetensors"
    save(path, tensors, HEADER)
    damage(path)
    with pytest.raises(ValueError, match=r"w\.safetensors.*subgrid train"):
        load(path)


def test_a_bit_that_is_flipped_anywhere_is_noticed(tmp_path, tensors):
    """In the length of the header, the header, and the tensors; never another error than the one with the remedy.

    A flip within the name of the checksums makes a file without checksums, whose contents are intact.
    """
    path, accepted = tmp_path / "w.safetensors", []
    save(path, tensors, HEADER)
    whole, expected = path.read_bytes(), load(path)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            found, header = load(path)
        except ValueError as error:
            assert "w.safetensors" in str(error) and "Remedy: train the closure again" in str(error)
            continue
        accepted.append(place)
        assert found.keys() == tensors.keys() and all(np.array_equal(found[k], tensors[k]) for k in tensors)
        assert HEADER.items() <= header.items()
    name = whole.index(b"crc32")
    assert expected[1] == HEADER and set(accepted) <= set(range(name, name + 5))


@pytest.mark.parametrize("part", range(0, 100, 7))
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, tensors, part):
    path = tmp_path / "w.safetensors"
    save(path, tensors, HEADER)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * part // 100])
    with pytest.raises(ValueError, match=r"w\.safetensors.*Remedy: train the closure again"):
        load(path)


def test_weights_that_are_not_finite_are_refused(tmp_path, tensors):
    for value in (np.nan, np.inf):
        save(tmp_path / "w.safetensors", tensors | {"network.b": np.array([1.0, value])}, HEADER)
        with pytest.raises(ValueError, match=r"w\.safetensors: the tensor network\.b holds values that are not finite"):
            load(tmp_path / "w.safetensors")


def test_files_without_checksums_are_read(tmp_path, tensors):
    """Such as those of earlier versions, among them the shipped ones."""
    contiguous = {name: np.array(array, order="C") for name, array in tensors.items()}
    save_file(contiguous, tmp_path / "w", metadata={KEY: json.dumps(HEADER)})
    found, header = load(tmp_path / "w")
    assert header == HEADER and all(np.array_equal(found[k], tensors[k]) for k in tensors)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent")


def test_the_header_is_read_alone_and_weights_of_another_closure_are_refused(tmp_path, tensors):
    save(tmp_path / "w", tensors, HEADER)
    assert read_header(tmp_path / "w") == load_header(tmp_path / "w", "regression") == HEADER
    for read in (load, load_header):
        with pytest.raises(ValueError, match=r"w is for the closure regression, not for lasdi. Remedy"):
            read(tmp_path / "w", "lasdi")


def test_a_file_larger_than_any_weights_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # a sparse file
    with pytest.raises(ValueError, match=r"2\.15 GB, more than the 2.15 GB of the largest weights"):
        load_header(path)


def test_headers_of_shipped_weights_hold_no_path_of_a_machine():
    from importlib.resources import files

    shipped = [f for f in files("subgrid.closures.weights").iterdir() if f.name.endswith(".safetensors")]
    assert len(shipped) > 10
    for file in shipped:
        command = read_header(file)["training_command"]
        assert command.startswith(("subgrid train cases/", "subgrid train studies/")), file.name
        assert " /" not in command, file.name


def test_the_command_in_a_header_is_that_of_the_training_without_the_place_of_its_results(monkeypatch):
    import sys

    from subgrid.commands import cli

    for place in (["--out", "/tmp/x.safetensors"], ["--out=/tmp/x.safetensors"]):
        monkeypatch.setattr(sys, "argv", ["subgrid", "train", "a b.toml", *place, "--closure", "lasdi", "--json"])
        assert cli._command_of_training() == "subgrid train 'a b.toml' --closure lasdi"
