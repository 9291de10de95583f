"""A comparison: its scores, its fields, and what is made of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from subgrid.solver.backend.files import replace, replace_folder, write_json
from subgrid.solver.simulation.folder import RunFolderError
from subgrid.solver.simulation.store import write_dataset

from ..report import page, table
from ..terminal import printable
from .results import Metrics

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

REMEDY = "Remedy: `subgrid resume FOLDER`, or make it again with `subgrid compare CASE`"
NEEDED = ("relative_l2", "correlation", "spectrum", "frames", "frame_time")


@dataclass(frozen=True, repr=False)
class Comparison:
    """The runs of one comparison, scored against the reference.

    metrics: the scores of each run, the contents of metrics.json. dataset: scores over time, spectra and frames by
    source (the reference, then the runs), the contents of comparison.zarr.
    """

    metrics: Metrics
    dataset: xr.Dataset

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Comparison:
        """The comparison in a folder that `compare` or `save` wrote.

        Raises ValueError, which names the file and the remedy, if metrics.json or comparison.zarr is missing or
        malformed.
        """
        metrics = _read_metrics(Path(folder) / "metrics.json")
        return cls(metrics, _read_dataset(Path(folder) / "comparison.zarr", metrics))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write metrics.json and comparison.zarr to a new folder. Raises RunFolderError if it is not empty."""
        target = Path(folder)
        if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
            raise RunFolderError(f"{target} is not empty; a comparison has a folder of its own. Remedy: another folder")
        return self.write(target)

    def write(self, folder: Path) -> Path:
        """Write metrics.json and comparison.zarr, in the place of those in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        replace_folder(folder / "comparison.zarr", lambda new: write_dataset(self.dataset, new))
        write_json(folder / "metrics.json", self.metrics.model_dump())
        return folder

    @property
    def table(self) -> pd.DataFrame:
        """The scores of each run: one line per run, with its kind and the reason of a failure; nan where none."""
        return table.frame(self.metrics)

    @property
    def verdict(self) -> str:
        """Which closure is best, what it beats and what it loses to, in one paragraph."""
        return page.verdict(self.metrics)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names that `figure` takes."""
        return tuple(page.plots(self.metrics, self.dataset))

    def figure(self, name: str) -> Figure:
        """A picture of the report as a Matplotlib figure. Raises ValueError for a name that is not in `figures`."""
        plots = page.plots(self.metrics, self.dataset)
        if name not in plots:
            raise ValueError(f"this comparison has no figure {name!r}. Expected one of: {', '.join(plots)}")
        return plots[name].figure()

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one HTML page with its pictures embedded, to `path`; returns the path."""
        target = Path(path)
        replace(target, page.html(self.metrics, self.dataset))
        return target

    def __repr__(self) -> str:
        scores = self.table.rename(index=printable).to_string(float_format="{:.3g}".format)
        return printable(f"Comparison of {self.metrics.case!r}\n{scores}", keep="\n")

    def _repr_html_(self) -> str:
        """The table of scores with the best values marked, for notebooks."""
        return table.html(self.metrics)


def _read_metrics(path: Path) -> Metrics:
    if not path.is_file():
        raise ValueError(f"{path} is missing. {REMEDY}")
    try:
        return Metrics.model_validate_json(path.read_bytes())
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path} is malformed ({found}). {REMEDY}") from error


def _read_dataset(path: Path, metrics: Metrics) -> xr.Dataset:
    import xarray as xr

    if not path.is_dir():
        raise ValueError(f"{path} is missing. {REMEDY}")
    try:
        dataset = xr.open_dataset(path, engine="zarr", chunks=None, consolidated=False).load()
    except Exception as error:  # damaged bytes raise any error in zarr and its codecs
        raise ValueError(f"{path} cannot be read ({error}). {REMEDY}") from error
    # particles have no wavenumbers, and a spectrum needs every field of the reference
    spectral = "entity" not in dataset.dims and "unobserved" not in dataset.attrs
    if absent := [name for name in NEEDED if name not in dataset and (spectral or name != "spectrum")]:
        raise ValueError(f"{path} lacks {', '.join(absent)}. {REMEDY}")
    sources = [str(name) for name in dataset["source"].values]
    if len(set(sources)) < len(sources):
        raise ValueError(f"{path} has two sources of one name: {', '.join(sources)}. {REMEDY}")
    if absent := [name for name in ("reference", *(row.name for row in metrics.rows)) if name not in sources]:
        raise ValueError(f"{path} has no source named {', '.join(absent)}, which metrics.json lists. {REMEDY}")
    return dataset
