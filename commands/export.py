"""The command `export`. Libraries are imported inside it, so that --help is fast."""

from __future__ import annotations

from typing import Any

import tomli_w

from .cli import Json, Out, _file, _finish
from .terminal import display


def export(weights: str, *, out: Out = None, json_: Json = False) -> None:
    """Write a trained network as ONNX, for the closure `model`. WEIGHTS: a file, or the name of weights that ship.

    The file is WEIGHTS.onnx, or --out. Prints the table of a case that runs it. Needs subgrid[onnx].
    """
    from pathlib import Path

    from subgrid.closures.learning.compatibility import locate
    from subgrid.closures.regression.export import export as to_onnx

    path = locate(weights, Path())
    target = _file(out) or Path(f"{path.stem}.onnx")
    _file(target)
    found = to_onnx(path, target)
    _finish(found, json_, lambda: display(_text(found)))


def _text(found: dict[str, Any]) -> str:
    lines = [f"network: {found['file']}", "", "[[closure]]", tomli_w.dumps(found["closure"]).rstrip()]
    if "precision" in found:
        lines += ["", f"The closure convolves in {found['precision']}, this network in float32."]
    return "\n".join(lines)
