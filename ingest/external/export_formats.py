"""Writers of the formats that a case's data are exported to. Arrays are streamed, but for .npz."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import LARGEST, write_arrays

from .contents import ENTITY, TIME, TRAJECTORY, Contents, DataError
from .lazy import Lazy
from .open import Inspection
from .options import Options
from .schema import dataset
from .values import blocks, moving
from .write import write

if TYPE_CHECKING:
    import h5py

SPACE = ("x", "y", "z")
Set = dict[str, Any]


def require_axes(form: str, axes: Iterable[str]) -> None:
    """Raise DataError, before anything is computed, unless the format can hold fields with these axes."""
    if form not in ("zarr", "npz"):
        _h5py()
    if form == "the-well" and ENTITY in axes:
        raise DataError("--format the-well: holds fields on grids, not particles. Remedy: --format zarr or npz")
    if form == "pdebench" and not set(axes) <= set(SPACE):
        raise DataError(
            f"--format pdebench: has the axes x, y and z, this case has {', '.join(axes)}. Remedy: --format zarr or npz"
        )


def require_size(form: str, sets: dict[str, Contents]) -> None:
    """Raise DataError, before anything is written, for sets that are too large for the format."""
    for name, contents in sets.items():
        size = sum(v.data.nbytes for v in contents.fields.values())
        if form == "npz" and size > LARGEST:
            raise DataError(f"--format npz: {name} has {size / 1e9:.3g} GB, which a file takes at once. Remedy: zarr")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError("--format: HDF5 needs h5py. Remedy: pip install 'subgrid[data]'") from None
    return h5py


def _write_zarr(folder: Path, name: str, contents: Contents, about: Set) -> None:
    write(Inspection(contents, None, False, Options()), folder / f"{name}.zarr")


def _write_npz(folder: Path, name: str, contents: Contents, about: Set) -> None:
    from .readers.own import npz_arrays

    write_arrays(folder / f"{name}.npz", npz_arrays(dataset(contents)))


def _write_well(folder: Path, name: str, contents: Contents, about: Set) -> None:
    """data/SET/CASE.hdf5 by The Well's docs/data_format.md: all fields as scalars, x first, float32."""
    target = folder / "data" / name
    target.mkdir(parents=True)
    space = _first_axis_first(contents)
    sizes = contents.sizes
    with _h5py().File(target / f"{_slug(about)}.hdf5", "w") as file:
        numbers = {k: v for k, v in contents.parameters.items() if not isinstance(v, np.ndarray)}
        file.attrs["dataset_name"], file.attrs["grid_type"] = _slug(about), "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = len(space), sizes[TRAJECTORY]
        file.attrs["simulation_parameters"] = _texts(list(numbers))
        file.attrs.update(numbers)
        file.attrs["provenance"] = json.dumps(contents.origin)
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = _texts(space)
        for axis in (TIME, *space):
            dimensions[axis] = np.asarray(contents.axes[axis].values, dtype=np.float32)
            dimensions[axis].attrs.update({"sample_varying": False, "time_varying": False})
        for axis in space:
            boundary = file.create_group(f"boundary_conditions/{axis}_boundary")
            boundary.attrs["associated_dims"], boundary.attrs["associated_fields"] = _texts([axis]), _texts([])
            boundary.attrs["bc_type"] = _boundary(contents, axis)
            boundary.attrs.update({"sample_varying": False, "time_varying": False})
            mask = np.zeros(sizes[axis], dtype=bool)
            mask[[0, -1]] = True
            boundary["mask"] = mask
            boundary["values"] = np.zeros(2, dtype=np.float32)
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = _texts(list(contents.parameters))
        for key, value in contents.parameters.items():
            scalars[key] = np.asarray(value, dtype=np.float32)
            scalars[key].attrs.update({"sample_varying": isinstance(value, np.ndarray), "time_varying": False})
        names = moving(contents)
        fields = {rank: file.create_group(f"t{rank}_fields") for rank in range(3)}
        for rank, group in fields.items():
            group.attrs["field_names"] = _texts(list(names) if rank == 0 else [])
        for key in names:
            _stream(fields[0], key, _to_first(contents.fields[key].data), contents)
            fields[0][key].attrs.update(
                {"sample_varying": True, "time_varying": True, "units": contents.fields[key].units}
            )
            fields[0][key].attrs["dim_varying"] = np.ones(len(space), dtype=bool)


def _write_pdebench(folder: Path, name: str, contents: Contents, about: Set) -> None:
    """SET.hdf5 in PDEBench's layouts: `tensor` for one field, else a group per sample with the fields as channels."""
    space = _first_axis_first(contents)
    names = moving(contents)
    own = [v for v in contents.parameters.values() if isinstance(v, np.ndarray)]
    times = np.asarray(contents.axes[TIME].values, dtype=np.float32)
    with _h5py().File(folder / f"{name}.hdf5", "w") as file:
        file.attrs["provenance"] = json.dumps(contents.origin)
        file.attrs["channels"] = _texts(list(names))
        file.attrs["grid"] = contents.axes[space[0]].kind
        file.attrs["periodic"] = _texts([a for a in space if contents.axes[a].periodic])
        file.attrs.update({k: v for k, v in contents.parameters.items() if not isinstance(v, np.ndarray)})
        if len(names) == 1 and not own:
            _stream(file, "tensor", _to_first(contents.fields[names[0]].data), contents)
            for axis in space:
                file[f"{axis}-coordinate"] = np.asarray(contents.axes[axis].values, dtype=np.float32)
            file["t-coordinate"] = times
            return
        for sample in range(contents.sizes[TRAJECTORY]):
            group = file.create_group(f"{sample:04d}")
            lines = [
                f"  {k}: {float(v[sample]):.17g}" for k, v in contents.parameters.items() if isinstance(v, np.ndarray)
            ]
            group.attrs["config"] = "\n".join(["sim:", *lines, ""])
            for axis in space:
                group[f"grid/{axis}"] = np.asarray(contents.axes[axis].values, dtype=np.float32)
            group["grid/t"] = times
            shape = (len(times), *(contents.sizes[a] for a in space), len(names))
            data = group.create_dataset("data", shape, "f4")
            for channel, key in enumerate(names):
                array = _to_first(contents.fields[key].data)
                for n in range(len(times)):
                    data[n, ..., channel] = array[sample, n]


WRITERS: dict[str, Callable[[Path, str, Contents, Set], None]] = {
    "zarr": _write_zarr,
    "the-well": _write_well,
    "pdebench": _write_pdebench,
    "npz": _write_npz,
}


def write_statistics(path: Path, statistics: dict[str, dict[str, float]]) -> None:
    """stats.yaml as The Well's normalisation reads it: statistic -> field -> number."""
    lines = []
    for key in ("mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"):
        lines.append(f"{key}:")
        lines += [f"  {name}: {values[key]:.9e}" for name, values in statistics.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stream(group: h5py.Group, name: str, data: Lazy, contents: Contents) -> None:
    """Write a field (trajectory, time, *axes) in single precision, block by block."""
    made = group.create_dataset(name, data.shape, "f4")
    for block in blocks(contents):
        made[block] = data[block].astype(np.float32)


def _first_axis_first(contents: Contents) -> list[str]:
    """The axes of the grid, x first."""
    return list(reversed(contents.space))


def _to_first(data: Lazy) -> Lazy:
    """(trajectory, time, *axes) with the axes reversed, x first."""
    return data.transpose((0, 1, *reversed(range(2, data.ndim))))


def _boundary(contents: Contents, axis: str) -> str:
    """The Well's word for the boundaries of an axis; walls are those that the case calls walls."""
    if contents.axes[axis].periodic:
        return "PERIODIC"
    return "WALL" if "wall" in json.dumps(contents.origin["case"]["equation"]) else "OPEN"


def _slug(about: Set) -> str:
    words = "".join(c if c.isalnum() else " " for c in about["case"]["title"].lower()).split()
    return "_".join(words) or "case"


def _texts(values: list[str]) -> NDArray | Any:
    """Texts as an attribute of HDF5; an empty list has a type as well."""
    return values if values else np.array([], dtype=_h5py().string_dtype())
