"""ETH-UCY: text, a line for each pedestrian in a frame: frame id x y, in metres, separated by tabs or blanks.

The annotated frames are ten apart, which is 0.4 s. One trajectory; entities are pedestrians in the order of their
numbers, and their positions are missing (nan) in frames without them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..contents import ENTITY, TIME, Axis, Contents, DataError, Variable
from ..lazy import Lazy
from ..options import Options
from ..recognise import Reader

SECONDS_PER_FRAME = 0.04
MOST_VALUES = 2**28  # of the table of all frames and pedestrians


class PedestrianReader(Reader):
    """A text file of four columns."""

    name = "eth-ucy"
    order = 80

    def recognises(self, path: Path) -> bool:
        try:
            if not path.is_file():
                return False
            with path.open("rb") as file:
                head = file.read(4096)
            lines = head.decode("ascii").splitlines()[:3]
            rows = [[float(word) for word in line.split()] for line in lines]
        except (OSError, ValueError):
            return False
        return bool(rows) and len(rows[0]) == 4 and rows[0][0].is_integer() and rows[0][1].is_integer()

    def read(self, path: Path, options: Options) -> Contents:
        try:
            table = np.loadtxt(path, ndmin=2)
        except ValueError as error:
            detail = str(error).partition(";")[0]
            raise DataError(f"{path} is damaged ({detail}). Remedy: lines of `frame id x y`, four numbers") from None
        if table.shape[1] != 4 or not np.isfinite(table).all():
            raise DataError(f"{path} has lines with other than four finite numbers. Remedy: lines of `frame id x y`")
        frames, numbers = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
        if (frames != table[:, 0]).any() or (numbers != table[:, 1]).any():
            raise DataError(f"{path} has frames or pedestrians that are no whole numbers. Remedy: `frame id x y`")
        pairs, counts = np.unique(np.stack([frames, numbers], 1), axis=0, return_counts=True)
        if (counts > 1).any():
            frame, number = pairs[counts.argmax()]
            raise DataError(f"{path}: pedestrian {number} is twice in frame {frame}. Remedy: remove one of the lines")
        seen = np.unique(frames)
        step = math.gcd(*(int(d) for d in np.diff(seen))) if len(seen) > 1 else 10
        count = int(seen[-1] - seen[0]) // step + 1
        ids = np.unique(numbers)
        if count * len(ids) > MOST_VALUES:
            raise DataError(f"{path} spans {count} frames with {len(ids)} pedestrians. Remedy: split the file")
        values = np.full((2, count, len(ids)), np.nan)
        place = ((frames - seen[0]) // step, np.searchsorted(ids, numbers))
        values[0][place], values[1][place] = table[:, 2], table[:, 3]
        found = Contents(
            self.name,
            {
                a: Variable((TIME, ENTITY), Lazy.of(values[i]), "m", f"{a} of the pedestrian")
                for i, a in enumerate("xy")
            },
            {
                TIME: Axis((seen[0] + step * np.arange(count)) * SECONDS_PER_FRAME, "s"),
                ENTITY: Axis(kind="entities", periodic=False),
            },
            files=[path],
            origin={"pedestrians": ids.tolist()},
            accepted=("missing-values", "duplicates"),
        )
        found.note(
            "frames", f"{path.name}: every {step}th frame, {step * SECONDS_PER_FRAME:g} s, {len(ids)} pedestrians"
        )
        if count != len(seen):
            found.note("frames", f"{path.name}: {count - len(seen)} frames without pedestrians are missing values")
        return found
