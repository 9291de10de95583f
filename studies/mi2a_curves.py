"""Picture of the training of the networks: the error of the runs held out against the steps of Adam.

    python studies/mi2a_curves.py FILE PICTURE

FILE holds the lines of `studies/mi2a.py networks`. Vertical lines mark the stages, whose roll-outs grow.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    lines = [json.loads(text) for text in options.file.read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    lines = [line for line in lines if "curve" in line.get("chosen", {})]
    names = list(dict.fromkeys(named(line) for line in lines))
    for line in lines:
        steps, errors, before, ends = [], [], 0, []
        stage, last = None, 0
        for name, step, _, error in line["chosen"]["curve"]:
            if name != stage:
                before, stage = before + last, name
                ends.append(before)
            last = step
            steps.append(before + step)
            errors.append(error)
        label = named(line) if line["seed"] == 0 else None
        axes.semilogy(steps, errors, color=f"C{names.index(named(line))}", label=label, linewidth=1)
        if named(line) == names[0]:
            for end in ends[1:]:
                axes.axvline(end, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="steps of Adam", ylabel="mean square error of the runs held out")
    axes.legend(fontsize="small")
    figure.savefig(options.picture, dpi=110)


def named(line: dict[str, Any]) -> str:
    changes = ", ".join(change.removeprefix("train.mi2a.") for change in line["set"])
    return f"{line['name']}, {changes}" if changes else str(line["name"])


if __name__ == "__main__":
    main()
