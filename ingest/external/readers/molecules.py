"""MD17 and rMD17: .npz, `R` or `coords` (frame, atom, 3) in ångström, `E` or `energies` in kcal/mol, forces, charges.

One trajectory; x, y and z are fields of entities. The time between frames is not in the file; the frames of rMD17 were
drawn from MD17, so that they may lie in no order of time.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import DamagedFile, array_headers, read_arrays

from ..contents import ENTITY, TIME, Axis, Contents, DataError, Variable
from ..lazy import Key, Lazy
from ..options import Options
from ..recognise import Reader

POSITIONS, CHARGES = ("R", "coords"), ("z", "nuclear_charges")
ENERGIES, FORCES = ("E", "energies"), ("F", "forces")
LENGTH, ENERGY = "angstrom", "kcal/mol"


class MoleculeReader(Reader):
    """An .npz file of MD17 or rMD17."""

    name = "md17"
    order = 40

    def recognises(self, path: Path) -> bool:
        try:
            if not path.is_file() or not zipfile.is_zipfile(path):
                return False
            names = set(array_headers(path, ()))
        except (DamagedFile, OSError):
            return False
        return any({r, z} <= names for r, z in zip(POSITIONS, CHARGES, strict=True))

    def read(self, path: Path, options: Options) -> Contents:
        names = set(array_headers(path, ()))
        which = 0 if POSITIONS[0] in names else 1
        wanted = [group[which] for group in (POSITIONS, CHARGES, ENERGIES, FORCES) if group[which] in names]
        try:
            headers = {name: header for name, header in array_headers(path, wanted).items() if name in wanted}
        except DamagedFile as error:
            raise DataError(f"{error}. Remedy: a complete copy of the file, with numbers alone") from None
        shape = headers[POSITIONS[which]][0]  # type: ignore[index]
        if len(shape) != 3 or shape[-1] != 3:
            raise DataError(f"{path}: {POSITIONS[which]} has shape {shape}, expected (frame, atom, 3)")
        arrays = {name: _lazy(path, name, *header) for name, header in headers.items() if header is not None}
        if arrays[CHARGES[which]].shape != (shape[1],):
            raise DataError(
                f"{path}: {CHARGES[which]} has shape {arrays[CHARGES[which]].shape}, expected ({shape[1]},)"
            )
        dims = (TIME, ENTITY)
        fields = {a: Variable(dims, arrays[POSITIONS[which]].pick(2, i), LENGTH) for i, a in enumerate("xyz")}
        forces, energies = FORCES[which], ENERGIES[which]
        if forces in arrays:
            if arrays[forces].shape != shape:
                raise DataError(f"{path}: {forces} has shape {arrays[forces].shape}, expected {shape}")
            unit = f"{ENERGY}/{LENGTH}"
            fields |= {f"force_{a}": Variable(dims, arrays[forces].pick(2, i), unit) for i, a in enumerate("xyz")}
        if energies in arrays:
            data = arrays[energies]
            data = data.pick(1, 0) if data.ndim == 2 else data
            if data.shape != shape[:1]:
                raise DataError(f"{path}: {energies} has shape {arrays[energies].shape}, expected ({shape[0]},)")
            fields["energy"] = Variable((TIME,), data, ENERGY)
        fields["nuclear_charge"] = Variable((ENTITY,), arrays[CHARGES[which]], "1", "nuclear charge")
        found = Contents(self.name, fields, {ENTITY: Axis(kind="entities", periodic=False)}, files=[path])
        if which == 1:
            found.note(
                "order", f"{path.name} is rMD17: its frames were drawn from a trajectory, and may lie in no order"
            )
        return found


def _lazy(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Lazy:
    changed = path.stat().st_mtime_ns

    def read(key: Key) -> NDArray:
        return _array(path, name, changed)[key]

    return Lazy(shape, dtype, read)


@lru_cache(maxsize=8)
def _array(path: Path, name: str, changed: int) -> Any:
    """An array of an .npz file, kept: a part of a compressed array cannot be read alone."""
    return read_arrays(path, [name])[name]
