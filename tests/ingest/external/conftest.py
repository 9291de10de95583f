"""Files in the formats of other codes, made by these codes' own definitions and not by our writers."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

TIMES = 0.25 * np.arange(5)


def wave(*axes: NDArray, times: NDArray = TIMES, shift: float = 0.0) -> NDArray:
    """(time, *axes): no two states, axes or samples are alike."""
    grids = np.meshgrid(*axes, indexing="ij")
    return np.stack([
        1.5 + sum((i + 1) * np.sin((i + 1) * g + 0.3 * i - t + shift) for i, g in enumerate(grids)) for t in times
    ])  # fmt: skip


def points(n: int, length: float = 2 * np.pi) -> NDArray:
    return np.arange(n) * length / n


def centres(n: int, length: float = 1.0, start: float = 0.0) -> NDArray:
    return start + (np.arange(n) + 0.5) * length / n


def hypar_binary(path: Path, axes: list[NDArray], u: NDArray) -> None:
    """Point by point, as WriteBinary.c does. u: (variable, axis 0, axis 1, ...)."""
    sizes = [len(x) for x in axes]
    with path.open("wb") as file:
        file.write(struct.pack(f"<{2 + len(sizes)}i", len(sizes), len(u), *sizes))
        for x in axes:
            file.write(struct.pack(f"<{len(x)}d", *x))
        for p in range(int(np.prod(sizes))):
            index, rest = [], p
            for n in sizes:  # p = i0 + n0 (i1 + n1 (...))
                index.append(rest % n)
                rest //= n
            file.write(struct.pack(f"<{len(u)}d", *(float(v[tuple(index)]) for v in u)))


def hypar_text(path: Path, axes: list[NDArray], u: NDArray) -> None:
    """Line by line, as WriteText.c does."""
    lines = []
    for index in np.ndindex(*(len(x) for x in reversed(axes))):
        index = index[::-1]
        words = [f"{i:4d} " for i in index]
        words += [f"{x[i]:+1.16E} " for x, i in zip(axes, index, strict=True)]
        words += [f"{float(v[index]):+1.16E} " for v in u]
        lines.append("".join(words) + "\n")
    path.write_text("".join(lines))


def hypar_inputs(folder: Path, size: list[int], model: str = "vlasov", **solver: Any) -> None:
    keys = {"ndims": len(size), "nvars": 1, "size": " ".join(map(str, size)), "iproc": "1 1", "ghost": 3}
    keys |= {"n_iter": 10, "dt": 0.125, "file_op_iter": 2, "op_file_format": "binary", "op_overwrite": "no"}
    keys |= {"model": model, **solver}
    text = "".join(f"    {k}    {v}\n" for k, v in keys.items())
    (folder / "solver.inp").write_text(f"begin\n{text}end\n")
    (folder / "physics.inp").write_text("begin\n    self_consistent_electric_field  1\n    temperature 0.97\nend\n")
    (folder / "boundary.inp").write_text(
        "4\nperiodic 0  1 0 0 -7.0 7.0\nperiodic 0 -1 0 0 -7.0 7.0\n"
        "dirichlet 1 1 0 1 0 0\n0.0\ndirichlet 1 -1 0 1 0 0\n0.0\n"
    )


def hypar_folder(folder: Path, text: bool = False, shift: float = 0.0) -> NDArray:
    """A Vlasov run, x periodic on 8 points, v on 6; returns (time, x, v)."""
    folder.mkdir()
    x, v = points(8), -7 + 14 / 6 * np.arange(6)
    u = wave(x, v / 3, times=0.25 * np.arange(6), shift=shift)
    hypar_inputs(folder, [8, 6], op_file_format="text" if text else "binary")
    for k, state in enumerate(u):
        write = hypar_text if text else hypar_binary
        write(folder / f"op_{k:05d}.{'dat' if text else 'bin'}", [x, v], state[None])
    return u


def pdebench_tensor(path: Path, samples: int = 3, nx: int = 16, extra_time: bool = True) -> NDArray:
    """(sample, time, x), float32."""
    x = centres(nx)
    u = np.stack([wave(2 * np.pi * x, shift=s) for s in range(samples)]).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["tensor"] = u
        file["x-coordinate"] = x.astype(np.float32)
        times = 0.25 * np.arange(len(TIMES) + extra_time)
        file["t-coordinate"] = times.astype(np.float32)
    return u


def pdebench_flow(path: Path, nx: int = 12, ny: int = 8) -> NDArray:
    """(field, sample, time, x, y), float32."""
    x, y = centres(nx), centres(ny)
    u = np.stack([[wave(2 * np.pi * x, 2 * np.pi * y, shift=s + 5 * f) for s in range(2)] for f in range(4)])
    u = u.astype(np.float32)
    with h5py.File(path, "w") as file:
        for name, values in zip(("density", "pressure", "Vx", "Vy"), u, strict=True):
            file[name] = values
        file["x-coordinate"], file["y-coordinate"] = x.astype("f4"), y.astype("f4")
        file["t-coordinate"] = (0.25 * np.arange(len(TIMES) + 1)).astype("f4")
        file.attrs["eta"], file.attrs["zeta"], file.attrs["M"] = 0.01, 0.02, 0.1
    return u


def pdebench_groups(path: Path, nx: int = 12, ny: int = 8, samples: tuple[int, ...] = (0, 1, 2)) -> NDArray:
    """Shallow water: (sample, time, x, y), float32."""
    x, y = centres(nx, 5.0, -2.5), centres(ny, 5.0, -2.5)
    u = np.stack([wave(x, y, shift=s) for s in samples]).astype(np.float32)
    with h5py.File(path, "w") as file:
        for s, values in zip(samples, u, strict=True):
            group = file.create_group(f"{s:04d}")
            group["data"] = values[..., None]
            group["grid/x"], group["grid/y"] = x.astype("f4"), y.astype("f4")
            group["grid/t"] = TIMES.astype("f4")
            group.attrs["config"] = f"sim:\n  dam_radius: {0.3 + 0.1 * s}\n  gravity: 1.0\n  xdim: {nx}\nname: rdb\n"
    return u


def pdebench_incompressible(path: Path, nx: int = 12, ny: int = 8) -> NDArray:
    """velocity (sample, time, x, y, 2), float32."""
    x, y = centres(nx), centres(ny)
    u = np.stack([[wave(2 * np.pi * x, 2 * np.pi * y, shift=s + 5 * c) for c in range(2)] for s in range(2)])
    velocity = np.moveaxis(u, 1, -1).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["velocity"] = velocity
        file["particles"] = velocity[..., :1] ** 2
        file["force"] = velocity[:, 0]
        file["t"] = np.stack([TIMES, TIMES]).astype("f4")
    return velocity


def the_well(path: Path, nx: int = 12, ny: int = 8, trajectories: int = 2) -> dict[str, NDArray]:
    """By docs/data_format.md: a scalar field, a velocity, a stress, a mask, and a field that does not vary along y."""
    x, y = points(nx), points(ny)
    s = np.stack([wave(x, y, shift=i) for i in range(trajectories)]).astype("f4")
    v = np.stack([s + 1, s - 1], axis=-1)
    t = np.stack([[s, s + 2], [s + 3, s + 4]]).transpose(2, 3, 4, 5, 0, 1)
    still, line = s[0, 0], s[:, :, :, 0]
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"], file.attrs["grid_type"] = "waves", "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = 2, trajectories
        file.attrs["simulation_parameters"], file.attrs["viscosity"] = ["viscosity"], 0.01
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, values in (("time", TIMES), ("x", x), ("y", y)):
            dimensions[name] = values.astype("f4")
            dimensions[name].attrs["sample_varying"] = dimensions[name].attrs["time_varying"] = False
        for axis, kind in (("x", "PERIODIC"), ("y", "WALL")):
            boundary = file.create_group(f"boundary_conditions/{axis}_boundary")
            boundary.attrs["bc_type"], boundary.attrs["associated_dims"] = kind, [axis]
            boundary["mask"] = np.zeros(len(x if axis == "x" else y), bool)
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["height"]
        scalars["height"] = np.arange(trajectories, dtype="f4")
        scalars["height"].attrs["sample_varying"], scalars["height"].attrs["time_varying"] = True, False
        for group, name, values, sample, time, dims in (
            ("t0_fields", "tracer", s, True, True, (True, True)),
            ("t0_fields", "mask", still, False, False, (True, True)),
            ("t0_fields", "wind", line, True, True, (True, False)),
            ("t1_fields", "velocity", v, True, True, (True, True)),
            ("t2_fields", "stress", t, True, True, (True, True)),
        ):
            made = file.require_group(group)
            made[name] = values
            made[name].attrs.update({"sample_varying": sample, "time_varying": time, "dim_varying": list(dims)})
            made.attrs["field_names"] = sorted(set(made))
    return {"tracer": s, "velocity": v, "stress": t, "mask": still, "wind": line}


def navier_stokes_mat(path: Path, version: str = "5") -> dict[str, NDArray]:
    """The Fourier neural operator's layout: a (N, x, y), u (N, x, y, T), t (1, T)."""
    u = np.stack([wave(points(8), points(6), times=1 + TIMES, shift=s) for s in range(3)])
    u = np.moveaxis(u, 1, -1)
    data = {"a": u[..., 0] - 1, "u": u, "t": (1 + TIMES)[None]}
    if version == "5":
        from scipy.io import savemat

        savemat(path, data)
        return data
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in data.items():
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return data


def pedestrians(path: Path) -> None:
    path.write_text("780\t1.0\t8.46\t3.59\n790\t1.0\t9.57\t3.79\n790\t2.0\t1.5\t2.5\n810\t2.0\t1.75\t2.25\n")


def n_body(folder: Path, entity_last: bool = True, name: str = "train", samples: int = 2) -> NDArray:
    """loc (sample, time, 3, entity), or with the last two axes exchanged; returns the first."""
    rng = np.random.default_rng(samples)
    loc, vel = rng.normal(size=(2, samples, 7, 3, 5))
    for word, values in (("loc", loc), ("vel", vel)):
        np.save(folder / f"{word}_{name}.npy", values if entity_last else values.swapaxes(2, 3))
    np.save(folder / f"charges_{name}.npy", rng.choice([-1.0, 1.0], (samples, 5, 1)))
    np.save(folder / f"edges_{name}.npy", np.ones((samples, 5, 5)))
    return loc


@pytest.fixture(scope="session")
def formats() -> SimpleNamespace:
    """The functions of this file."""
    return SimpleNamespace(**globals())
