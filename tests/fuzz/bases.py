"""What is mutated: the shipped cases, made so small that they run in an instant, and folders made from them."""

from __future__ import annotations

import io
import itertools
import tomllib
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tomli_w

CASES = Path(__file__).parents[2] / "cases"
WHAT_TO_LEARN = {
    "regression": {
        "network": "cnn",
        "network_options": {"width": 2, "layers": 2},
        "steps": 4,
        "batch": 2,
        "threads": 1,
    },
    "lasdi": {"steps": 4, "stages": 1, "widths": [4], "latent": 2},
    "mi2a": {"steps": 4, "widths": [4], "features": 4, "random_features": 4, "window": 2, "validation": 2},
}


def cases() -> dict[str, dict[str, Any]]:
    """The shipped cases by name, shrunk: few points, members and steps, and no closure that was trained elsewhere."""
    return {path.stem: _shrunk(tomllib.loads(path.read_text())) for path in sorted(CASES.glob("*.toml"))}


def _shrunk(data: dict[str, Any]) -> dict[str, Any]:
    data.pop("expected", None)
    time, output = data["time"], data["output"]
    plane = len(data["grid"].get("shape", [0])) == 2
    if "shape" in data["grid"]:
        data["grid"]["shape"] = [min(n, 16 if plane else 32) for n in data["grid"]["shape"]]
    if "step" in time:
        output["every"] = 2 * time["step"]
    time["end"] = time.get("start", 0.0) + 3 * output["every"]
    data["closure"] = [c | {"every": 2} for c in data.get("closure", []) if c["name"] not in WHAT_TO_LEARN]
    compare = data.setdefault("compare", {})
    compare["closures"] = [c for c in compare.get("closures", []) if _classical(c)]
    compare["frontier"] = False
    compare.pop("parameter_plane", None)
    members = 1
    if "reference" in data:
        reference = data["reference"]
        if "shape" in reference and "shape" in data["grid"]:
            same = "sweep" in data
            reference["shape"] = [n if same else 2 * n for n in data["grid"]["shape"]]
        reference["trajectories"] = members = min(2, reference.get("trajectories", 1))
        reference.pop("step", None)
        if "start" in reference:
            reference["start"] = time.get("start", 0.0)
        if reference.get("initial", {}).get("kind") == "file":
            reference["initial"] = {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 5.0}
    data["ensemble"] = data.get("ensemble", {}) | {"members": members}
    if "training" in data:
        start = data["reference"].get("start", time.get("start", 0.0))
        every = output["every"]
        data["training"] |= {
            "trajectories": 2,
            "validation": 1,
            "start": start,
            "end": start + 3 * every,
            "every": every,
        }
    if "sweep" in data:
        data["sweep"] |= {"test_counts": [2] * len(data["sweep"]["parameters"])}
        if "counts" in data["sweep"]:
            data["sweep"]["counts"] = [2] * len(data["sweep"]["counts"])
    data["train"] = {name: WHAT_TO_LEARN[name] for name in data.get("train", {}) if name in WHAT_TO_LEARN}
    return data


def _classical(row: Any) -> bool:
    return isinstance(row, dict) and row.get("name", "regression") not in {*WHAT_TO_LEARN, "latent-diffusion"}


def commands(data: dict[str, Any]) -> list[list[str]]:
    """The commands that the case is made for."""
    found = [["run"], ["run"], ["check"]]
    if "reference" in data:
        found.append(["compare"])
    if "sweep" in data or "shape" in data.get("reference", {}):
        found.append(["data"])
    found += [["train", "--closure", name] for name in data["train"]]
    return [[verb, "case.toml", *options] for verb, *options in found]


WATER: dict[str, Any] = {
    "title": "water",
    "equation": {"name": "shallow-water", "boundary": "wall", "bathymetry": {"kind": "file", "path": "bottom.npz"}},
    "grid": {"shape": [8, 12], "length": [1.0, 1.0]},
    "time": {"end": 0.04, "step": 0.02, "cfl": 0.4, "stepper": "ssp-rk2"},
    "initial": {"kind": "file", "path": "state.npz"},
    "ensemble": {"members": 2},
    "output": {"every": 0.02},
}
FILES = {  # file or folder that is mutated -> the commands that read it
    "state.npz": [["run", "water.toml"], ["check", "water.toml"]],
    "bottom.npz": [["run", "water.toml"], ["check", "water.toml"]],
    "bottom.nc": [["run", "water.toml", "--set", "equation.bathymetry.path=bottom.nc"]],
    "weights.safetensors": [["run", "learned.toml"], ["compare", "learned.toml"]],
    "learned.toml": [["run", "learned.toml"], ["check", "learned.toml"]],
    "cache": [
        ["run", "learned.toml"],
        ["compare", "learned.toml"],
        ["data", "learned.toml"],
        ["data", "sweep.toml"],
        ["train", "learned.toml", "--closure", "regression"],
    ],
    "compared": [["report", "compared"], ["resume", "compared"]],
}
RUNS = ("burgers-forced", "kolmogorov-les", "shallow-water-thacker", "charged-particles", "two-stream")


def make_files(folder: Path) -> None:
    """A file of every kind that is read, in `folder`, which is the working directory, and the cases that read them."""
    from scipy.io import netcdf_file

    small = cases()
    water = np.ones((3, 8, 12))
    water[1:] = 0.0
    y, x = (np.arange(8) + 0.5) / 8, (np.arange(12) + 0.5) / 12
    bottom = 0.1 * np.sin(6 * y)[:, None] * np.cos(6 * x)
    np.savez(folder / "state.npz", state=water)
    np.savez(folder / "bottom.npz", bathymetry=bottom)
    with netcdf_file(folder / "bottom.nc", "w") as file:
        for name, values in (("y", y), ("x", x)):
            file.createDimension(name, len(values))
            file.createVariable(name, "f8", (name,))[:] = values
        file.createVariable("bathymetry", "f8", ("y", "x"))[:] = bottom
    (folder / "water.toml").write_text(tomli_w.dumps(WATER))
    (folder / "sweep.toml").write_text(tomli_w.dumps(small["rom-burgers-1d"]))
    learned = small["burgers-forced"] | {"closure": []}
    (folder / "learned.toml").write_text(tomli_w.dumps(learned))
    done(["train", "learned.toml", "--closure", "regression", "--out", "weights.safetensors"])
    use = [{"name": "regression", "every": 2, "weights": "weights.safetensors"}]
    learned |= {"closure": use, "compare": {"closures": use, "frontier": False}}
    (folder / "learned.toml").write_text(tomli_w.dumps(learned))
    done(["compare", "learned.toml", "--out", "compared"])
    done(["data", "sweep.toml"])


def make_runs(folder: Path) -> None:
    """Run folders in `folder`: of each case one that is finished and one that was interrupted after three calls."""
    from subgrid.commands import execution

    small = cases()
    for name in RUNS:
        case = small[name]
        case["output"]["checkpoint_every"] = case["output"]["every"]
        (folder / f"{name}.toml").write_text(tomli_w.dumps(case))
        done(["run", f"{name}.toml", "--out", f"{name}-finished"])
        whole, execution.interruptible = execution.interruptible, lambda: nullcontext(_after_calls(2))
        try:
            done(["run", f"{name}.toml", "--out", f"{name}-interrupted"], 130)
        finally:
            execution.interruptible = whole


def _after_calls(count: int) -> Any:
    """An event that is set from the call number `count` of is_set on."""
    calls = itertools.count()
    return SimpleNamespace(is_set=lambda: next(calls) >= count)


def done(arguments: list[str], expected: int = 0) -> None:
    """Run a command whose exit code is known, without what it prints."""
    from subgrid.commands import cli

    with redirect_stdout(io.StringIO()):
        code = cli.execute([*arguments, "--json"])
    assert code == expected, f"{arguments}: exit {code}"
