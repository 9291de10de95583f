"""Data-parallel training by the processes that torchrun starts.

Every process draws the same batch from the same random numbers and computes a share of its rows. With L the loss of the
whole batch and L_r the part that process r returns, L = sum_r L_r, so that grad L = sum_r grad L_r. Each sum over
processes is gathered and added in the order of the processes, in double precision: the result is the same in all of
them, does not depend on their timing, and differs from that of one process by round-off. A process by itself shares
nothing and pays nothing.

The first process alone writes what is kept; the others work in a private copy of the folder of checkpoints.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from subgrid.ingest.cluster import REMEDY, WorkersLost

LONGEST = timedelta(days=30)  # of a wait for another process, which may compute the training set; a dead one ends it
_shared = False  # whether a batch has been shared since the last sum


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of torchrun, if there are any, for the time of the block."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1" or dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", timeout=LONGEST)
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes() -> int:
    """Number of the processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def number() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def local_device(device: str) -> str:
    """The device of this process: "cuda" is the one with its number on this machine."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and processes() > 1 else device


@contextmanager
def first_before_others() -> Iterator[None]:
    """Run the block in the first process, and then in the others, which find in the cache what the first one made."""
    if number() > 0:
        _total(torch.zeros(1))
    yield
    if number() == 0 and processes() > 1:
        _total(torch.zeros(1))


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """The folder itself in the first process, and a copy of its files, beside it, in each of the others.

    The first process must hold the lock of the folder. The copies are deleted at the end.
    """
    if processes() == 1:
        yield folder
        return
    held = io.BytesIO()
    if number() == 0:
        with zipfile.ZipFile(held, "w") as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(path, path.relative_to(folder))
    size = int(_total(torch.tensor([len(held.getvalue())])).item())
    content = torch.frombuffer(bytearray(held.getvalue()), dtype=torch.uint8) if number() == 0 else None
    content = torch.empty(size, dtype=torch.uint8) if content is None else content
    _communicated(dist.broadcast, content, 0)
    if number() == 0:
        yield folder
        return
    copy = folder.with_name(f"{folder.name}-process-{number()}")
    shutil.rmtree(copy, ignore_errors=True)  # of a process that was killed
    copy.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(content.numpy().tobytes())) as archive:
            archive.extractall(copy)
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


@dataclass(frozen=True)
class Share:
    """The rows first, ..., last - 1 of a batch of `count`, which this process computes."""

    count: int = 1
    first: int = 0
    last: int = 1

    @property
    def all(self) -> bool:
        """Whether these are all rows."""
        return self.last - self.first == self.count

    @property
    def weight(self) -> float:
        """The fraction of the rows, by which a mean over them enters the mean over the batch."""
        return (self.last - self.first) / self.count

    def of(self, batch: Any) -> Any:
        """These rows of an array (batch, ...)."""
        return batch if self.all else batch[self.first : self.last]

    def whole(self, *parts: Tensor) -> Any:
        """The tensors (batch, ...) of all processes, for losses that couple rows; one tensor or a tuple.

        Differentiable: the gradient of the rows of this process is the sum over what all processes do with them.
        """
        if self.all:
            return parts if len(parts) > 1 else parts[0]
        found = _Gathered.apply(self, *parts)  # type: ignore[no-untyped-call]
        return found if len(parts) > 1 else found[0]

    def dropout(self, x: Tensor, probability: float, training: bool) -> Tensor:
        """Dropout of rows x with the mask that one process would draw for the batch."""
        if self.all or not training:
            return nn.functional.dropout(x, probability, training)
        return self.of(nn.functional.dropout(x.new_ones(self.count, *x.shape[1:]), probability)) * x


def share(count: int) -> Share:
    """The share of this process of a batch of `count` rows. Raises ValueError if a process would have none."""
    global _shared
    size, rank = processes(), number()
    if count < size:
        raise ValueError(
            f"a batch of {count} cannot be shared among {size} processes. "
            f"Remedy: torchrun --nproc-per-node {count}, or a larger batch"
        )
    _shared = True
    return Share(count, rank * count // size, (rank + 1) * count // size)


def summed(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The loss of all processes, whose gradients replace those of this process.

    A loss that no share of a batch enters is the same in all processes, and the result is its mean.
    """
    global _shared
    if processes() == 1:
        return loss
    gradients = [p.grad for p in parameters if p.grad is not None]
    found = _total(torch.cat([x.detach().reshape(-1).double() for x in (loss, *gradients)]))
    if not _shared:
        found /= processes()
    _shared = False
    for gradient, part in zip(gradients, found[1:].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.reshape(gradient.shape))
    return found[0]


class _Gathered(torch.autograd.Function):
    """Rows of all processes. One function for several tensors, so that the order of its communication is fixed."""

    @staticmethod
    def forward(ctx: Any, share: Share, *parts: Tensor) -> tuple[Tensor, ...]:
        ctx.share = share
        found = []
        for part in parts:
            whole = part.new_zeros(share.count, *part.shape[1:])
            share.of(whole).copy_(part)
            found.append(_total(whole))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *(ctx.share.of(_total(gradient)) for gradient in gradients)


def _total(values: Tensor) -> Tensor:
    """The sum over all processes, in their order, with the type and on the device of the values."""
    host = values.detach().contiguous().cpu()
    parts = [torch.empty_like(host) for _ in range(processes())]
    _communicated(dist.all_gather, parts, host)
    found = parts[0]
    for part in parts[1:]:
        found = found + part
    return found.to(values.device)


def _communicated(function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except RuntimeError:
        raise WorkersLost(f"another process of this training has ended. {REMEDY}") from None
