"""The pictures of a report for papers: PDF and PNG, one or two columns wide, in `pictures/STYLE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from subgrid.solver.backend.files import FolderLock, remove_temporary, replace

from .drawing import Plot, sized

KINDS: tuple[Literal["png", "pdf"], ...] = ("png", "pdf")


def require_no_link(*places: Path) -> None:
    """Raise ValueError for a symbolic link, and for a file in the place of a folder."""
    for place in places:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise ValueError(f"{place} is not a folder, or a symbolic link, which is not followed. Remedy: delete it")


def write(plots: Mapping[str, Plot], folder: Path, style: str) -> tuple[Path, dict[str, str]]:
    """Write every picture; returns their folder, and those that could not be drawn with the reasons.

    Raises ValueError for a style that is not known, with nothing written, and FolderInUse.
    """
    place, failed = folder / "pictures" / style, {}
    with sized(style), FolderLock(folder):
        require_no_link(place.parent, place)
        place.mkdir(parents=True, exist_ok=True)
        remove_temporary(place)
        for name, plot in plots.items():
            try:
                made = {kind: plot.file(kind) for kind in KINDS}
            except Exception as error:  # whatever a picture needs, the others do not
                failed[name] = f"{type(error).__name__}: {error}"
                continue
            for kind, content in made.items():
                replace(place / f"{name}.{kind}", content)
    return place, failed
