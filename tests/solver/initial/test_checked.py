"""Initial states are checked in every member before anything is written; a wrong value is named by its place."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray

from subgrid.commands import cli
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.equations import Burgers, ChargedParticles, Kolmogorov, ShallowWater
from subgrid.solver.equations.base import Equation, Field
from subgrid.solver.grid import Grid
from subgrid.solver.initial.checked import checked_state, require_values
from subgrid.solver.initial.file import File
from subgrid.solver.initial.profiles import Sine

WATER: dict[str, Any] = {
    "title": "water",
    "equation": {"name": "shallow-water", "boundary": "wall"},
    "grid": {"shape": [4, 8], "length": [0.5, 1.0]},
    "time": {"end": 0.1, "step": 0.05, "cfl": 0.4, "stepper": "ssp-rk2"},
    "initial": {"kind": "file", "path": "start.npz"},
    "ensemble": {"members": 3},
    "output": {"every": 0.05},
}
GRID = Grid((4, 8), (0.5, 1.0))


def lake() -> np.ndarray:
    state = np.zeros((3, 3, 4, 8))
    state[:, 0] = 1.0 + 0.1 * np.random.default_rng(0).random((3, 4, 8))
    return state


def written(folder: Path, case: dict[str, Any], **arrays: Any) -> Path:
    np.savez(folder / "start.npz", **arrays)
    (folder / "case.toml").write_text(tomli_w.dumps(case))
    return folder / "case.toml"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Standard error of a command that must end with exit code 2."""
    capsys.readouterr()
    assert cli.execute(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("member", [0, 1, 2])
@pytest.mark.parametrize(("field", "value"), [(0, -0.1), (0, np.nan), (1, np.inf), (2, 1e13)])
def test_a_wrong_value_in_any_member_of_a_file_is_named(tmp_path, member, field, value):
    state = lake()
    state[member, field, 2, 5] = value
    np.savez(tmp_path / "start.npz", state=state)
    name = ShallowWater.fields[field].name
    words = rf"initial: member {member}: {name} is {value:g} at \(y, x\) = \(0\.3125, 0\.6875\), index \[2, 5\]"
    with pytest.raises(ValueError, match=words.replace("+", r"\+")):
        checked_state(File(path=tmp_path / "start.npz"), ShallowWater(), GRID, (0, 1, 2), 0)
    with pytest.raises(CaseError, match=words.replace("+", r"\+")):
        check(WATER, "case", tmp_path)


def test_only_the_members_of_the_run_are_checked(tmp_path):
    state = lake()
    state[2, 0] = -1.0
    np.savez(tmp_path / "start.npz", state=state)
    check(WATER | {"ensemble": {"members": 2}}, "case", tmp_path)


def test_files_are_checked_at_any_size(tmp_path):
    """On a grid with more points than those on which formulas are tried, a negative depth is found in member 0."""
    state = np.zeros((2, 3, 512, 520), dtype="f4")
    state[:, 0] = 1.0
    state[0, 0, 17, 300] = -1e-3
    np.savez(tmp_path / "start.npz", state=state)
    large = WATER | {"grid": {"shape": [512, 520], "length": [1.0, 1.0]}, "ensemble": {"members": 2}}
    with pytest.raises(CaseError, match=r"member 0: depth is -0.001 at .*index \[17, 300\]"):
        check(large, "case", tmp_path)


START = """
import numpy as np
from subgrid import InitialState

class Start(InitialState):
    bad: int

    def state(self, equation, grid, members, seed, folder=None):
        state = np.zeros((len(members), 3, *grid.shape))
        state[:, 0] = 1.0
        for i, member in enumerate(members):
            state[i, 0, 1, 2] = -1.0 if member == self.bad else 1.0
        return state
"""


def test_a_formula_is_checked_in_every_member_before_a_run_writes(tmp_path, capsys):
    """`check` looks at the first and the last member, `run` at all."""
    (tmp_path / "start.py").write_text(START)
    for bad in (0, 1, 2):
        path = written(tmp_path, WATER | {"initial": {"path": "start.py:Start", "bad": bad}})
        error = refused(["run", str(path), "--out", str(tmp_path / "run")], capsys)
        assert f"initial: member {bad}: depth is -1 at (y, x) = (0.1875, 0.3125), index [1, 2]" in error
        assert not (tmp_path / "run").exists()


FLOW: dict[str, Any] = {
    "title": "flow",
    "equation": {"name": "burgers", "viscosity": 0.05},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.1, "step": 0.01, "stepper": "rk4"},
    "initial": {"kind": "reference"},
    "ensemble": {"members": 4},
    "output": {"every": 0.1},
    "closure": ["hyperviscosity"],
    "reference": {"shape": [32], "trajectories": 2, "initial": {"kind": "file", "path": "start.npz"}},
    "training": {"trajectories": 3, "start": 0.0, "end": 0.1, "every": 0.02},
    "compare": {"frontier": False, "closures": []},
}


@pytest.mark.parametrize("command", ["run", "compare", "data", "train"])
def test_every_command_checks_the_initial_state_of_the_reference_before_it_writes(
    tmp_path, command, capsys, monkeypatch
):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    state = np.random.default_rng(0).random((3, 1, 32))
    state[2 if command in ("data", "train") else 1, 0, 7] = np.nan
    path = written(tmp_path, FLOW, state=state)
    extra = {"data": [], "train": ["--closure", "regression"]}.get(command, ["--out", str(tmp_path / "out")])
    error = refused([command, str(path), *extra], capsys)
    member = 2 if command in ("data", "train") else 1
    assert f"reference.initial: member {member}: velocity is nan at (x) = (0.21875), index [7]" in error
    assert sorted(os.listdir(tmp_path)) == ["case.toml", "start.npz"]


def test_check_reads_the_file_of_the_reference_on_its_grid(tmp_path):
    with pytest.raises(CaseError, match=r"reference\.initial\.path: there is no file"):
        check(FLOW, "case", tmp_path)
    np.savez(tmp_path / "start.npz", state=np.zeros((1, 16)))
    with pytest.raises(CaseError, match=r"reference\.initial\.path: .*on a grid of shape \(16,\), expected \(32,\)"):
        check(FLOW, "case", tmp_path)
    np.savez(tmp_path / "start.npz", state=np.zeros((1, 32)))
    check(FLOW, "case", tmp_path)
    shared = FLOW | {"initial": FLOW["reference"]["initial"], "reference": {"shape": [32], "trajectories": 2}}
    with pytest.raises(CaseError, match=r"initial\.path: .*on a grid of shape \(32,\), expected \(16,\)"):
        check(shared, "case", tmp_path)
    np.savez(tmp_path / "start.npz", state=np.zeros((1, 16)))
    with pytest.raises(CaseError, match=r"reference\.initial: missing, and \[initial\] does not fit the reference: "):
        check(shared, "case", tmp_path)


# -- one correct result for every way to store numbers ------------------------------------------------------


def outputs(folder: Path, name: str, case: dict[str, Any], **arrays: Any) -> list[bytes]:
    path = written(folder, case, **arrays)
    assert cli.execute(["run", str(path), "--out", str(folder / name)]) == 0
    with xarray.open_zarr(folder / name / "fields.zarr", consolidated=False) as found:
        return [found[f.name].values.tobytes() for f in ShallowWater.fields]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("stepper", ["ssp-rk2", "dimension-split"])
def test_the_way_numbers_are_stored_does_not_change_a_run(tmp_path, backend, stepper):
    case = WATER | {"backend": backend, "time": WATER["time"] | {"stepper": stepper}}
    state = np.round(3 * lake())
    state[:, 0, :2, 3] = 0.0
    expected = outputs(tmp_path, "f8", case, state=state)
    negative = np.where(state == 0, -0.0, state)
    assert np.signbit(negative).any()
    coordinates = dict(zip("yx", GRID.coordinates(centres=True), strict=True))
    variants = {
        "big-endian": {"state": state.astype(">f8")},
        "fortran": {"state": np.asfortranarray(state)},
        "f4": {"state": state.astype("f4")},
        "f2": {"state": state.astype(">f2")},
        "i8": {"state": state.astype("i8")},
        "u1": {"state": state.astype("u1")},
        "negative-zeros": {"state": negative},
        "subnormals": {"state": np.where(state == 0, 5e-324, state)},
        "tiny": {"state": np.where(state == 0, np.where(np.arange(8) % 2, 1e-290, 1e-310), state)},
        "coordinates": {"state": state, **coordinates},
        "mirrored": {"state": state[..., ::-1, ::-1], "y": coordinates["y"][::-1], "x": coordinates["x"][::-1]},
    }
    for name, arrays in variants.items():
        assert outputs(tmp_path, name, case, **arrays) == expected, name


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lake().astype(complex), "must be real numbers, found complex128"),
        (lake() > 0.5, "must be real numbers, found bool"),
        (lake().astype(str), "must be real numbers, found <U"),
        (lake().astype("f4").view("V4"), "must be real numbers, found"),
        (np.zeros((0, 3, 4, 8)), "holds 0 members, but the run needs member 2"),
        (np.zeros((3, 3, 8, 4)), r"on a grid of shape \(8, 4\), expected \(4, 8\)"),
        (np.full((3, 4, 8), np.longdouble("1e400")), "depth is inf"),
    ],
)
def test_other_arrays_are_refused(tmp_path, state, words):
    np.savez(tmp_path / "start.npz", state=state)
    with pytest.raises(CaseError, match=words):
        check(WATER, "case", tmp_path)


def test_foreign_coordinates_are_refused(tmp_path):
    np.savez(tmp_path / "start.npz", state=lake(), x=np.arange(8) / 8)
    with pytest.raises(CaseError, match=r"initial\.path: coordinates x of .*found 0 to 0.875, expected .* 0.0625 to"):
        check(WATER, "case", tmp_path)


# -- files that are no files, and sizes ----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["initial", "reference.initial", "bathymetry"])
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "long", "null", "below a file", "text"])
def test_paths_that_name_no_file_are_refused_at_once(tmp_path, place, kind, capsys):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no arrays")
    names = {"device": "/dev/zero", "long": "n" * 300 + ".npz", "null": "a\0b", "below a file": "text/x.npz"}
    named = {"kind": "file", "path": names.get(kind, kind)}
    case, key = WATER | {"initial": named}, "initial.path"
    if place == "bathymetry":
        case = WATER | {"equation": WATER["equation"] | {"bathymetry": named}, "initial": {"kind": "lake-at-rest"}}
        key = "equation.bathymetry.path"
    elif place == "reference.initial":
        case = FLOW | {"reference": FLOW["reference"] | {"initial": named}}
        key = "reference.initial.path"
    error = refused(["check", str(written(tmp_path, case))], capsys)
    assert error.count(f"{key}: ") == 1
    assert "1 mistake" in error and ("Remedy" in error or "NUL character" in error)


def bomb(path: Path, shape: tuple[int, ...], announced: tuple[int, ...] | None = None) -> None:
    """A small .npz file of many zeros, whose header may announce fewer."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("state.npy", "w") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": announced or shape}
        np.lib.format.write_array_header_1_0(file, header)
        block = bytes(2**20)
        for _ in range(8 * int(np.prod(shape)) // 2**20):
            file.write(block)


@pytest.mark.parametrize("announced", [None, (3, 4, 8)])
def test_a_small_file_cannot_fill_the_memory(tmp_path, announced):
    """400 MB of zeros in a file of 400 kB: refused by the header, or as longer than the header says."""
    resource = pytest.importorskip("resource")
    bomb(tmp_path / "start.npz", (2**19, 3, 4, 8), announced)
    assert (tmp_path / "start.npz").stat().st_size < 10**6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CaseError, match=r"announces state 0.403 GB, more than|holds more than its header announces"):
        check(WATER, "case", tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


# -- the check itself -------------------------------------------------------------------------------------------


class Gas(Equation):
    """Density and energy, in this order of fields reversed: the density must be positive."""

    name = "gas"
    dimensions = (1,)
    fields = (Field("energy", "J", "energy"), Field("density", "kg", "density"))
    terms = ()

    def invariants(self, state, grid):
        return {}

    def signal_speed(self, state, grid):
        return (1.0,)

    def nonlinear(self, operators, u, t):
        return 0 * u

    def admissible(self, state):
        return bool((state[:, 1] > 0).all())


def test_the_field_that_makes_a_state_inadmissible_is_found_by_the_equations_own_condition():
    state = np.ones((5, 2, 8)) + np.arange(8) / 100
    require_values(state, Gas(), Grid((8,), (1.0,)), (3, 4, 5, 6, 7), "initial")
    state[2, 1, 6] = -0.5
    state[2, 0, 6] = -9.0
    with pytest.raises(
        ValueError, match=r"initial: member 5: density is -0.5 at \(x\) = \(0.75\), index \[6\], which is"
    ):
        require_values(state, Gas(), Grid((8,), (1.0,)), (3, 4, 5, 6, 7), "initial")


def test_entities_are_named():
    state = np.ones((1, 7, 5))
    state[0, 3, 4] = np.nan
    with pytest.raises(ValueError, match="member 0: velocity_x of entity 4 is nan, which is not finite"):
        require_values(state, ChargedParticles(), Grid((5,), (5.0,)), (0,), "initial")


@pytest.mark.parametrize("equation", [Burgers(viscosity=0.1), Kolmogorov(viscosity=0.1)])
def test_correct_states_pass_unchanged(equation):
    grid = Grid((16,) * equation.dimensions[0], (1.0,) * equation.dimensions[0])
    if isinstance(equation, Burgers):
        initial = Sine()
        state = checked_state(initial, equation, grid, (0, 1), 0)
        assert state.tobytes() == initial.state(equation, grid, (0, 1), 0).tobytes()
    require_values(np.zeros((2, 1, *grid.shape)), equation, grid, (0, 1), "initial")
