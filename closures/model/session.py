"""A network in an ONNX file: read, checked and evaluated by ONNX Runtime. Nothing in the file is executed as code.

Torch programs are refused. `torch.export.load` evaluates expressions in the file as Python, and TorchScript contains
code that may write files, also where the weights are read without pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.backend.files import LARGEST
from subgrid.solver.closure import ClosureError

KEY = "subgrid"  # of the header that our own exports hold among the metadata
Sizes = list[tuple[int, ...]]
TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}
EXPORT = "torch.onnx.export(network, (example,), 'net.onnx', dynamo=True, external_data=False)"


class Network:
    """channels (member, channel_out, *points) = network(channels (member, channel_in, *points)).

    Runs on the processor, in one thread, so that the sums of a result do not depend on the number of threads. Raises
    ClosureError, with the remedy, for a file that is missing, damaged or of another kind, and for one without exactly
    one input and one output.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        runtime = _runtime()
        content = _content(path)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        # weights in other files, whose hash is not recorded, would be found in the working directory; here they are not
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.absolute()))
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes have no base class of their own
            reason = " ".join(str(error).split())[:300]
            outside = "external" in reason.lower()
            remedy = (
                f"one file, as by {EXPORT}" if outside else "another file; `subgrid export` writes trained networks"
            )
            raise ClosureError(
                f"model: {self.name} is not a network that ONNX Runtime reads ({reason}). Remedy: {remedy}"
            ) from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        for what, found in (("input", inputs), ("output", outputs)):
            if len(found) != 1:
                names = ", ".join(f.name for f in found)
                raise ClosureError(
                    f"model: {self.name} has {len(found)} {what}s ({names}), expected one, (member, channel, *grid). "
                    f"Remedy: a network with one {what}, whose channels are concatenated"
                )
            if found[0].type not in TYPES:
                raise ClosureError(
                    f"model: the {what} {found[0].name!r} of {self.name} is a {found[0].type}, expected "
                    f"{' or '.join(TYPES)}. Remedy: export the network in single precision"
                )
        self._input, self._output = inputs[0], outputs[0]
        self._type = TYPES[self._input.type]

    @property
    def header(self) -> str | None:
        """What our own exports say they are for, as JSON; None for other files."""
        return self._session.get_modelmeta().custom_metadata_map.get(KEY)

    def require(self, inputs: list[str], outputs: list[str], members: int, batch: int, sizes: Sizes) -> int:
        """Number of members evaluated at a time. Raises ClosureError, naming what differs, for shapes that do not fit.

        inputs, outputs: channels in words. sizes: points per axis of the input, then also those an output may have.
        """
        fixed = self._declared("input", self._input, inputs, sizes[:1])
        self._declared("output", self._output, outputs, sizes)
        if fixed is not None and members % fixed:
            raise ClosureError(
                f"model: {self.name} evaluates {fixed} members at a time, the case has {members}. Remedy: export the "
                "network with a variable number of members, or a multiple of it in ensemble.members"
            )
        size = min(batch, members) if fixed is None else fixed
        found = self(np.zeros((size, len(inputs), *sizes[0])))
        self._compare("output", self._output, list(found.shape), outputs, sizes)
        if len(found) != size:
            raise ClosureError(
                f"model: {self.name} turns {size} members into {len(found)}. Remedy: a network whose first axis is the "
                "member, in the input and in the output"
            )
        return size

    def __call__(self, channels: NDArray) -> NDArray:
        """The output channels, in double precision. Raises ClosureError if the network cannot be evaluated."""
        try:
            found = self._session.run(None, {self._input.name: np.ascontiguousarray(channels, dtype=self._type)})
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ClosureError(
                f"model: {self.name} cannot be evaluated for an input of shape {list(channels.shape)} ({reason}). "
                "Remedy: the grid and the padding for which the network was made"
            ) from None
        return np.asarray(found[0], dtype=np.float64)

    def _declared(self, what: str, value: Any, channels: list[str], sizes: Sizes) -> int | None:
        """Compare the shape that the file declares; returns its number of members, or None if that is variable."""
        shape = [n if isinstance(n, int) and n > 0 else None for n in value.shape or []]
        if shape:
            self._compare(what, value, shape, channels, sizes)
        return shape[0] if shape else None

    def _compare(
        self,
        what: str,
        value: Any,
        shape: list[int | None] | list[int],
        channels: list[str],
        sizes: Sizes,
    ) -> None:
        start = f"model: the {what} {value.name!r} of {self.name}"
        if len(shape) != 2 + len(sizes[0]):
            raise ClosureError(
                f"{start} has {len(shape)} axes, expected {2 + len(sizes[0])}: (member, channel, *grid). "
                f"Remedy: a network for a grid in {len(sizes[0])} dimensions"
            )
        if shape[1] not in (None, len(channels)):
            raise ClosureError(
                f"{start} has {shape[1]} channels, the case declares {len(channels)}: {'; '.join(channels)}. "
                f"Remedy: one entry of `{what}s` for each channel of the file, in its order"
            )
        if not any(all(a in (None, b) for a, b in zip(shape[2:], size, strict=True)) for size in sizes):
            wanted = " or ".join(str(list(size)) for size in sizes)
            raise ClosureError(
                f"{start} has {list(shape[2:])} points per axis (None: any number), expected {wanted}, from the "
                "case's grid and its padding. Remedy: the grid for which the network was made, or another `padding`"
            )


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ClosureError("model: needs ONNX Runtime. Remedy: pip install 'subgrid[onnx]'") from None
    return onnxruntime


def _content(path: Path) -> bytes:
    """The bytes of the file, which are what the run's record of its inputs holds the hash of."""
    if not path.is_file():
        raise ClosureError(f"model: {path}: no such file. Remedy: a path relative to the case file")
    if path.stat().st_size > LARGEST:
        raise ClosureError(f"model: {path} is larger than {LARGEST / 1e9:.3g} GB. Remedy: a smaller network")
    content = path.read_bytes()
    if content[:2] == b"PK" or content[:1] == b"\x80":
        raise ClosureError(
            f"model: {path.name} is a program or a pickle of torch, which can run code of its own when it is loaded. "
            f"Remedy: ONNX, as by {EXPORT}"
        )
    return content
