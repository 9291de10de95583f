"""Tables of docs/results/mi2a.md from the lines that studies/mi2a.py wrote: medians and ranges over the seeds.

python studies/mi2a_table.py FILE...
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = ("mse", "max", "dissipation", "dispersion", "front", "reconstruction", "spectral_radius", "beyond_mse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    rows: dict[tuple[str, str, float, str], list[dict[str, Any]]] = {}
    for file in parser.parse_args().files:
        for text in file.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            key = (line["case"], line["name"], line["noise"], " ".join(line["set"]))
            rows.setdefault(key, []).append(line)
    print("| case | model | noise | set | seeds | " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * (5 + len(COLUMNS)))
    for (case, name, noise, changes), lines in rows.items():
        cells = [case, name, f"{noise:g}", changes, str(len(lines))]
        for column in COLUMNS:
            values = [line[column] for line in lines if column in line]
            text = ""
            if values:
                text = f"{np.median(values):.2g}"
                text += f" ({min(values):.2g} to {max(values):.2g})" if len(values) > 1 else ""
            cells.append(text)
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
