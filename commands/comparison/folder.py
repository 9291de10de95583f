"""The folder of one comparison, in which an interrupted or killed comparison continues.

case.toml          the case, with every default written out; its presence means that the comparison can be resumed
comparison.json    the command, and whether every row is finished
inputs.json        hashes of the files that the case names, and the reference; `subgrid resume` compares them
rows/NNN.npz       a finished row: its scores over time, spectrum, frames and cost
metrics.json, comparison.zarr    the scores and fields of the rows so far
report.html, pictures/           made of these at the end
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from subgrid.solver.backend.files import (
    DamagedFile,
    FolderInUse,
    FolderLock,
    read_json,
    remove_temporary,
    replace,
    write_json,
)
from subgrid.solver.case.tables import Case
from subgrid.solver.simulation.folder import (
    COMPARISON,
    UNUSED_IN_COMPARISONS,
    RunFolderError,
    case_inputs,
    require_no_links,
)

from .row_files import Shapes, load_run, save_run
from .rows import Run


def require_vacant(folder: Path) -> None:
    """Raise RunFolderError unless the folder is absent, empty, or left by a comparison that was killed at its start."""
    left = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {folder.name}
    if not folder.exists() or all(name in (COMPARISON, "inputs.json") or name[0] == "." for name in left):
        return
    resumed = f", or `subgrid resume {folder}`" if (folder / COMPARISON).exists() else ""
    raise RunFolderError(f"{folder} is not empty; a comparison has a folder of its own. Remedy: another --out{resumed}")


def begun(folder: Path, case: Case) -> bool:
    """Whether the folder holds a comparison of this case, with its step and the names of its rows, that is not done."""
    import tomli_w

    if not (folder / COMPARISON).is_file() or not (folder / "case.toml").is_file():
        return False
    facts = read_json(folder / COMPARISON)
    done = isinstance(facts, dict) and facts.get("done") is True
    return not done and (folder / "case.toml").read_bytes() == tomli_w.dumps(case.resolved()).encode()


class ComparisonFolder:
    """The folder of a comparison, locked until `close`. Raises RunFolderError if another process has the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._lock = FolderLock(folder)
        except FolderInUse as error:
            raise RunFolderError(str(error)) from None

    def close(self) -> None:
        """Release the lock on the folder."""
        self._lock.close()

    @classmethod
    def create(cls, folder: Path, case: Case, command: str, reference: Path | None) -> ComparisonFolder:
        """The folder of a new comparison. Raises RunFolderError if it is not vacant, see `require_vacant`.

        reference: the folder of the trajectories of the reference.
        """
        import tomli_w

        require_vacant(folder)
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        require_vacant(folder)
        remove_temporary(folder)
        text = tomli_w.dumps(case.resolved())
        write_json(folder / COMPARISON, {"command": command, "done": False})
        write_json(folder / "inputs.json", case_inputs(tomllib.loads(text), reference, UNUSED_IN_COMPARISONS))
        replace(folder / "case.toml", text.encode())
        return made

    @classmethod
    def open(cls, folder: Path) -> ComparisonFolder:
        """The folder of an existing comparison, whose inputs `require_inputs` compares. Raises RunFolderError."""
        if not (folder / COMPARISON).is_file() or not (folder / "case.toml").is_file():
            raise RunFolderError(
                f"{folder} holds no comparison. Remedy: `subgrid compare CASE --out {folder}`, or the folder of one"
            )
        opened = cls(folder)
        try:
            require_no_links(folder)
        except BaseException:
            opened.close()
            raise
        return opened

    def go_on(self) -> None:
        """Delete the remains of interrupted writes; the first write of a comparison that is resumed."""
        for place in (self.folder, self._rows()):
            if place.is_dir():
                remove_temporary(place)

    def _rows(self) -> Path:
        return self.folder / "rows"

    def _facts(self) -> dict[str, Any]:
        facts = read_json(self.folder / COMPARISON)
        if not (isinstance(facts, dict) and isinstance(facts.get("command"), str)):
            raise DamagedFile(f"{self.folder / COMPARISON} has no command. Remedy: make the comparison again")
        return facts

    @property
    def command(self) -> str:
        return str(self._facts()["command"])

    @property
    def done(self) -> bool:
        """Whether every row is finished and written."""
        return self._facts().get("done") is True

    def finish(self) -> None:
        """Note that every row is finished and written."""
        write_json(self.folder / COMPARISON, self._facts() | {"done": True})

    def save(self, index: int, run: Run) -> None:
        """Keep a finished row that has been scored."""
        self._rows().mkdir(exist_ok=True)
        save_run(self.row(index), run)

    def load(self, index: int, shapes: Shapes) -> Run | None:
        """A finished row, or None. Raises DamagedFile for a file that is damaged or belongs to another case."""
        path = self.row(index)
        if not path.is_file():
            return None
        return load_run(path, shapes, f"Remedy: delete {path}; `subgrid resume` then computes this row again")

    def row(self, index: int) -> Path:
        """The file of a row."""
        return self._rows() / f"{index:03d}.npz"
