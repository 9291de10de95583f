"""Trained networks as ONNX files, in physical units, for the closure `model` and for other programs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from subgrid.solver.backend.files import replace

from ..learning import weights_file
from ..learning.learned_term import LearnedTerm
from ..learning.noise import SPECTRUM

SAME = 1e-5  # largest difference of the two networks, over the largest value: single precision in another order
HEADER = ("closure", "version", "equation", "fields", "shape", "length", "origin", "training_case", "training_command")
VELOCITY = [{"field": "vorticity"}, *({"field": "vorticity", "derived": f"velocity-{axis}"} for axis in "xy")]


class _OfFeatures(nn.Module):
    """The term of features in physical units, for features that ONNX has no operators for."""

    scale: torch.Tensor
    term_scale: torch.Tensor

    def __init__(self, term: LearnedTerm) -> None:
        super().__init__()
        self.network, axes = term.network, term.state_scale.ndim - 1
        features = torch.tensor(term.normalisation["features"]).reshape(-1, *[1] * axes)
        self.register_buffer("scale", features * term.state_scale)
        self.register_buffer("term_scale", term.term_scale)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.network(features / self.scale) * self.term_scale


def export(weights: Path, target: Path) -> dict[str, Any]:
    """Write the network of `weights` as ONNX, and return the table of a case that runs it as the closure `model`.

    The file maps the state (member, field, *grid), or the features of `inputs` in the table, to the term, with a
    variable number of members, on the grid of the training. Both are in the units of the equation. Its metadata say
    what it is for. `precision` of the table is that of the convolutions in the closure, where it is not that of the
    file.

    Raises ValueError, with the remedy, for weights of another closure, networks and features with operators that ONNX
    does not have, and where the file does not give what the network gives.
    """
    tensors, header = weights_file.load(weights)
    if header["closure"] != "regression":
        raise ValueError(
            f"{weights.name} is for the closure {header['closure']}, not a network from a state to a term. "
            "Remedy: weights of regression"
        )
    with weights_file.using(weights):
        network, options = header["network"], dict(header["network"]["options"])
        kind, features = network["kind"], network["features"]
    _require(weights, kind, features)
    with weights_file.using(weights):
        lower = options.pop("precision", "float32")
        axes, length = len(header["shape"]), tuple(header["length"])
        origin = tuple(header.get("origin", (0.0,) * axes))
        term = LearnedTerm(kind, options, features, axes, length, header["normalisation"], origin)
        term.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items() if k != SPECTRUM})
        module: nn.Module = term if features != "vorticity-velocity" else _OfFeatures(term)
        channels = len(header["normalisation"]["features" if module is not term else "state"])
    example = torch.randn(3, channels, *header["shape"], generator=torch.Generator().manual_seed(0))
    example = example * (module.scale if isinstance(module, _OfFeatures) else term.state_scale)
    with torch.inference_mode():  # before the export, which would leave tensors without values in caches
        expected = module.eval()(example).numpy()
    content = _to_onnx(module, example, weights, {k: header[k] for k in HEADER if k in header})
    _require_same(content, example, expected, weights)
    replace(target, content)
    table: dict[str, Any] = {"name": "model", "file": target.name}
    if module is not term:
        table["inputs"] = VELOCITY
    return {"closure": table, "file": str(target)} | ({} if lower == "float32" else {"precision": lower})


def _require(weights: Path, kind: str, features: str) -> None:
    what = f"network {kind!r}" if kind != "cnn" else f"features {features!r}" if features == "phase-space" else None
    if what is not None:
        raise ValueError(
            f"{weights.name} has the {what}, whose Fourier transforms have no operators in ONNX. Remedy: run it as the "
            'closure regression, or train network = "cnn" with other features'
        )


def _to_onnx(module: nn.Module, example: torch.Tensor, weights: Path, header: dict[str, Any]) -> bytes:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"export: needs {error.name}. Remedy: pip install 'subgrid[onnx]'") from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                input_names=["state"],
                output_names=["term"],
                dynamic_shapes=({0: torch.export.Dim("member")},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{weights.name} has operators that ONNX does not have ({reason}). Remedy: run it as the closure regression"
        ) from None
    assert program is not None
    model = program.model_proto
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        del node.metadata_props[:]  # traces of the exporter with the paths of this machine
        node.doc_string = ""
    entry = model.metadata_props.add()
    entry.key, entry.value = weights_file.KEY, json.dumps(header, sort_keys=True)
    return model.SerializeToString(deterministic=True)


def _require_same(content: bytes, example: torch.Tensor, expected: np.ndarray, weights: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"state": example.numpy()})[0]
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= SAME:
        raise ValueError(
            f"{weights.name}: the network in ONNX differs from the closure by {difference:.2g} of the largest value, "
            f"expected at most {SAME:g}. Remedy: run it as the closure regression"
        )
