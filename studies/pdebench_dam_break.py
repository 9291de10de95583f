"""PDEBench's radial dam break as the true solution, for coarse shallow water and for `regression` without an equation.

    python studies/pdebench_dam_break.py FOLDER [--points 128] [--samples 12] [--steps 1500]

FOLDER/2D_rdb_NA_NA.h5 has the layout of PDEBench's file: groups "0000", "0001", ... with `data` (time, x, y, channel),
the depth alone in single precision, `grid/x`, `grid/y`, `grid/t`, and the radius of the dam in the attribute `config`.
The domain is [-2.5, 2.5]^2, the depth 2 within the radius and 1 around it, gravity 1; 101 times to t = 1. PDEBench
computed its file with PyClaw. Here a scheme of this script solves the equations of radial flow on a fine grid.

Two cases read it. FOLDER/shallow-water.toml starts our shallow-water equations from its depth at rest, on a quarter of
the cells along each axis, and is scored by the depth, because the file has no momentum. FOLDER/depth-alone.toml knows
no equation. Its model is dh/dt = 0 (FOLDER/unknown.py), and `regression` learns differences between consecutive states.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tomli_w
from numpy.typing import NDArray

from subgrid import compare, train
from subgrid.solver.case.reading import read

LENGTH, TIMES = 5.0, np.linspace(0.0, 1.0, 101)
FILE = "2D_rdb_NA_NA.h5"
CONFIG = "sim:\n  T_end: 1.0\n  dam_radius: {radius}\n  gravity: 1.0\n  xdim: {n}\n  ydim: {n}\nseed: 0\n"
UNKNOWN = '''"""An equation that is not known: the model keeps the depth as it is."""

import numpy as np

from subgrid import Equation, Field


class Unknown(Equation):
    """dh/dt = 0 for the depth alone."""

    name = "unknown"
    dimensions = (2,)
    fields = (Field("depth", "length", "h"),)
    terms = ()

    @property
    def kind(self):
        return "balance-law"

    def periodic_axes(self, grid):
        return (False, False)

    def nonlinear(self, operators, u, t):
        return 0 * u

    def invariants(self, state, grid):
        return {"volume": state[:, 0].sum(axis=(-2, -1)) * np.prod(grid.spacing)}

    def signal_speed(self, state, grid):
        return (0.0, 0.0)
'''


def radial_depth(radius: float, cells: int = 1440, reach: float = 3.6) -> tuple[NDArray, NDArray]:
    """(r, depth (time, r)) of h_t + (r h u)_r / r = 0, (h u)_t + (r h u^2)_r / r + (h^2 / 2)_r = 0.

    Rusanov's fluxes of limited linear values, two-stage steps that preserve strong stability.
    """
    dr = reach / cells
    r, faces = (np.arange(cells) + 0.5) * dr, np.arange(cells + 1) * dr
    u = np.stack([1 + np.clip((radius - faces[:-1]) / dr, 0, 1), np.zeros(cells)])

    def rate(u: NDArray) -> NDArray:
        wide = np.concatenate([[[1.0], [-1.0]] * u[:, 1::-1], u, u[:, -1:], u[:, -1:]], axis=1)  # mirrored at r = 0
        low, high = wide[:, 1:-1] - wide[:, :-2], wide[:, 2:] - wide[:, 1:-1]
        slope = np.where(low * high > 0, np.where(abs(low) < abs(high), low, high), 0.0)
        left, right = (wide[:, 1:-1] + 0.5 * slope)[:, :-1], (wide[:, 1:-1] - 0.5 * slope)[:, 1:]
        speed = np.maximum(*(abs(a[1] / a[0]) + np.sqrt(a[0]) for a in (left, right)))
        mass = 0.5 * (left[1] + right[1]) - 0.5 * speed * (right[0] - left[0])
        momentum = 0.5 * (left[1] ** 2 / left[0] + right[1] ** 2 / right[0]) - 0.5 * speed * (right[1] - left[1])
        pressure = 0.25 * (left[0] ** 2 + right[0] ** 2)
        divergence = [np.diff(faces * f) / (r * dr) for f in (mass, momentum)]
        return -np.stack([divergence[0], divergence[1] + np.diff(pressure) / dr])

    kept = [u[0]]
    for interval in np.diff(TIMES):
        count = int(np.ceil(interval / (0.4 * dr / 2.5)))
        for _ in range(count):
            first = u + interval / count * rate(u)
            u = 0.5 * (u + first + interval / count * rate(first))
        kept.append(u[0])
    return r, np.stack(kept)


def write(path: Path, points: int, samples: int, cells: int = 1440, inner: int = 4) -> None:
    """The file, with the means of `inner` x `inner` values in each cell."""
    centres = -LENGTH / 2 + (np.arange(points) + 0.5) * LENGTH / points
    fine = -LENGTH / 2 + (np.arange(points * inner) + 0.5) * LENGTH / (points * inner)
    distance = np.hypot(fine[:, None], fine)
    radii = np.random.default_rng(0).uniform(0.3, 0.7, samples)
    with h5py.File(path, "w") as file:
        for i, radius in enumerate(radii):
            r, depth = radial_depth(radius, cells)
            values = [np.interp(distance, r, h).reshape(points, inner, points, inner).mean((1, 3)) for h in depth]
            group = file.create_group(f"{i:04d}")
            group["data"] = np.stack(values)[..., None].astype("f4")  # (time, x, y, channel)
            group["grid/x"] = group["grid/y"] = centres.astype("f4")
            group["grid/t"] = TIMES.astype("f4")
            group.attrs["config"] = CONFIG.format(radius=radius, n=points)


def cases(folder: Path, points: int, samples: int, steps: int) -> tuple[Path, Path]:
    """The files of the two cases. The last quarter of the samples, which no training sees, is the reference."""
    coarse, tests = points // 4, samples // 4
    rest = {"ensemble": {"members": tests}, "initial": {"kind": "reference"}}
    rest["grid"] = {"shape": [coarse, coarse], "length": [LENGTH, LENGTH], "origin": [-LENGTH / 2, -LENGTH / 2]}
    given = {"file": FILE, "select": {"trajectory": f"{samples - tests}:{samples}"}, "trajectories": tests}
    water: dict[str, Any] = rest | {
        "title": "Radial dam break of PDEBench",
        "equation": {"name": "shallow-water", "gravity": 1.0, "boundary": "open"},
        "time": {"end": 1.0, "step": 0.01, "stepper": "ssp-rk2"},
        "output": {"every": 0.1},
        "reference": given | {"unobserved": {"momentum_x": 0.0, "momentum_y": 0.0}},
        "compare": {"closures": [{"name": "smagorinsky", "coefficient": 0.05}]},
    }
    alone: dict[str, Any] = rest | {
        "title": "Radial dam break of PDEBench, without an equation",
        "equation": {"path": "unknown.py:Unknown"},
        "time": {"start": 0.1, "end": 1.0, "step": 0.05, "stepper": "ssp-rk2"},
        "output": {"every": 0.1},
        "reference": given,
        "training": {"file": FILE, "trajectories": samples - tests, "validation": max(1, tests // 2)}
        | {"start": 0.1, "end": 1.0, "every": 0.05},
        "train": {
            "regression": {
                "network": "cnn",
                "network_options": {"width": 16, "layers": 4, "kernel": 5},
                "features": "anomaly",
                "steps": steps,
                "batch": 16,
                "learning_rate": 0.004,
            }
        },
        "compare": {"frontier": False, "closures": [{"name": "regression", "weights": "depth-alone.safetensors"}]},
    }
    files = folder / "shallow-water.toml", folder / "depth-alone.toml"
    for file, data in zip(files, (water, alone), strict=True):
        file.write_text(tomli_w.dumps(data), encoding="utf-8")
    (folder / "unknown.py").write_text(UNKNOWN, encoding="utf-8")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1500, help="of the training")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / FILE).is_file():
        write(options.folder / FILE, options.points, options.samples)
    water, alone = cases(options.folder, options.points, options.samples, options.steps)
    print(compare(read(water), out=options.folder / "shallow-water").table.to_string())
    train(read(alone), "regression", out=options.folder / "depth-alone.safetensors")
    print(compare(read(alone), out=options.folder / "depth-alone").table.to_string())


if __name__ == "__main__":
    main()
