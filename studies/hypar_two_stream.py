"""`lasdi` trained on runs in HyPar's format: the case rom-two-stream, with a folder of files in the place of its sweep.

    python studies/hypar_two_stream.py FOLDER [--set KEY=VALUE ...]

FOLDER/runs/00_T0.9_k1.0, ..., are folders as HyPar leaves them: solver.inp, physics.inp, boundary.inp, and a file
op_00000.bin, ... for each output. They hold the runs of the sweep, written by the definition in HyPar's
src/IOFunctions/WriteBinary.c; the code shares nothing with the reader. The parameters are in the names of the folders
alone, because HyPar's own files do not have them. FOLDER/two-stream.toml reads the folders by `[sweep] files`.

The command trains `lasdi` on them, compares as the test of the shipped case does, and prints each row with its
interval. It then trains on the runs themselves, and prints the largest difference between the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from subgrid import compare, train
from subgrid.closures.learning import weights_file
from subgrid.ingest.prepare import with_step
from subgrid.ingest.sweep import interval, runs
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case

CASE = Path(__file__).parent.parent / "cases" / "rom-two-stream.toml"
PATTERN = "T{temperature}_k{wavenumber}"


def write_output(path: Path, x: NDArray, v: NDArray, f: NDArray) -> None:
    """One output: ndims, nvars, sizes, coordinates, values with x fastest. f: (v, x)."""
    with path.open("wb") as file:
        np.array([2, 1, len(x), len(v)], dtype="<i4").tofile(file)
        for values in (x, v, f):
            np.ascontiguousarray(values, dtype="<f8").tofile(file)


def write_run(folder: Path, x: NDArray, v: NDArray, states: NDArray, step: float, every: int) -> None:
    """A folder as HyPar leaves it. states: (time, v, x), one each `every` steps."""
    folder.mkdir(parents=True)
    lines = {
        "ndims": 2, "nvars": 1, "size": f"{len(x)} {len(v)}", "iproc": "1 1", "ghost": 3,
        "n_iter": (len(states) - 1) * every, "time_scheme": "rk", "time_scheme_type": 44, "hyp_space_scheme": "weno5",
        "dt": repr(step), "file_op_iter": every, "op_file_format": "binary", "op_overwrite": "no", "model": "vlasov",
    }  # fmt: skip
    text = "".join(f"    {key:20}{value}\n" for key, value in lines.items())
    (folder / "solver.inp").write_text(f"begin\n{text}end\n", encoding="utf-8")
    (folder / "physics.inp").write_text("begin\n    self_consistent_electric_field  1\nend\n", encoding="utf-8")
    (folder / "boundary.inp").write_text(
        "4\nperiodic 0 1 0 0 -7.0 7.0\nperiodic 0 -1 0 0 -7.0 7.0\n"
        "dirichlet 1 1 0 6.3 0 0\n0.0\ndirichlet 1 -1 0 6.3 0 0\n0.0\n",
        encoding="utf-8",
    )
    for k, f in enumerate(states):
        write_output(folder / f"op_{k:05d}.bin", x, v, f)


def write_runs(case: Case, folder: Path) -> None:
    """The runs of the sweep of the case, one folder each, named by the parameters."""
    assert case.sweep is not None
    sweep = runs(case, case.sweep.points())
    axes = case.build_equation().coordinates(case.grid.grid())
    for i, (temperature, wavenumber) in enumerate(sweep.parameters.tolist()):
        name = PATTERN.format(temperature=temperature, wavenumber=wavenumber)
        where = folder / f"{i:02d}_{name}"  # in the order of the sweep, which that of the numbers as text is not
        write_run(where, axes["x"], axes["v"], sweep.state(i)[:, 0], case.step, interval(case))


def on_files(case: Case, folder: Path, runs: str = "runs") -> Path:
    """The file of the same case with the folder `runs` in the place of the design of its sweep."""
    data = case.resolved()
    kept = {k: v for k, v in data["sweep"].items() if k not in ("counts", "design")}
    data["sweep"] = kept | {"files": runs, "data": {"pattern": PATTERN}}
    for row in data["compare"]["closures"]:
        for closure in row["closures"]:
            closure["weights"] = "two-stream-lasdi.safetensors"
    (folder / "two-stream.toml").write_text(tomli_w.dumps(data), encoding="utf-8")
    return folder / "two-stream.toml"


def difference(one: Path, other: Path) -> float:
    """The largest difference between the arrays of two files of weights."""
    mine, theirs = weights_file.load(one)[0], weights_file.load(other)[0]
    assert mine.keys() == theirs.keys()
    return max(float(np.abs(np.asarray(mine[k], dtype=np.float64) - theirs[k]).max(initial=0)) for k in mine)


def rows(case: Case) -> dict[str, float]:
    """The relative L2 error of each row at the end, in the short version of the case that has its intervals."""
    return {row.name: row.relative_l2[-1] for row in compare(case).metrics.rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    options = parser.parse_args()
    own = with_step(read(CASE, options.set))
    if not (options.folder / "runs").exists():
        write_runs(own, options.folder / "runs")
    file = on_files(own, options.folder)
    train(read(file), "lasdi", out=options.folder / "two-stream-lasdi.safetensors")
    expected: dict[str, Any] = own.expected
    found = rows(read(file, expected["set"]))
    for name, value in found.items():
        low, high = expected.get(name, {}).get("relative_l2", (None, None))
        print(f"{name:24}{value:12.5f}" + (f"   [{low}, {high}]" if low is not None else ""))
    train(own, "lasdi", out=options.folder / "own-lasdi.safetensors")
    weights = [options.folder / f"{name}-lasdi.safetensors" for name in ("two-stream", "own")]
    print(f"weights differ by {difference(*weights):.3g}")


if __name__ == "__main__":
    main()
