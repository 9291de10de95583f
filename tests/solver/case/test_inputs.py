"""The contents of the files that a case names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from subgrid.solver.case.inputs import differences, with_contents


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    (tmp_path / "package").mkdir()
    contents = {
        "plugin.py": "import json\nfrom package.inner import f\nimport near",
        "near.py": "from far import *",
        "far.py": "a = 1",
        "package/__init__.py": "",
        "package/inner.py": "from . import beside",
        "package/beside.py": "b = 1",
        "stranger.py": "c = 1",
        "state.npz": "d",
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {name: tmp_path / name for name in contents}


def described(files: dict[str, Path]) -> dict:
    data = {
        "title": str(files["stranger.py"]),
        "initial": {"kind": "file", "path": str(files["state.npz"])},
        "closure": [{"path": f"{files['plugin.py']}:Name", "every": 2, "hold": "linear"}],
        "time": {"end": 1.0},
    }
    return json.loads(json.dumps(with_contents(data)))


def test_equal_files_give_no_difference(files):
    assert differences(described(files), described(files)) == []


@pytest.mark.parametrize("name", ["plugin.py", "near.py", "far.py", "package/beside.py", "package/__init__.py"])
def test_a_changed_neighbour_of_a_plug_in_is_named(name, files):
    before = described(files)
    files[name].write_bytes(files[name].read_bytes() + b"\n")
    assert differences(before, described(files)) == [f"closure.0.path: {files[name]} changed"]


def test_missing_files_and_other_values_are_named(files):
    before = described(files)
    files["state.npz"].unlink()
    files["stranger.py"].write_text("changed", encoding="utf-8")
    after = described(files)
    after["time"]["end"] = 2.0
    after["closure"][0]["extra"] = True
    assert differences(before, after) == [
        f"initial.path: {files['state.npz']} is missing",
        "closure.0.extra: is True, was absent",
        "time.end: is 2.0, was 1.0",
    ]


def test_files_that_moved_with_equal_contents_give_no_difference(files, tmp_path):
    before = described(files)
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    after = described({name: moved / path.relative_to(tmp_path) for name, path in files.items()})
    before.pop("title"), after.pop("title")
    assert differences(before, after) == []
