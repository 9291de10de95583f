"""Adam under a one-cycle learning rate, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Progress = Callable[[int, int, dict[str, float]], None]


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Learning rate and first Adam decay at a step: cosine from peak/25 to `peak` over 30%, then to zero.

    The decay runs the other way, .95 to .85 and back. Source: Smith & Topin, arXiv 1708.07120.
    """
    rise = 0.3 * steps
    if step < rise:
        height = 0.5 - 0.5 * math.cos(math.pi * step / rise)
        return peak * (0.04 + 0.96 * height), 0.95 - 0.1 * height
    height = 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (steps - rise))
    return peak * height, 0.95 - 0.1 * height


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def descent(
    named: dict[str, nn.Parameter],
    moments: dict[str, Tensor],
    begin: int,
    steps: int,
    peak: float,
    loss: Callable[[int], Tensor],
) -> Iterator[tuple[int, float, Callable[[], dict[str, Tensor]]]]:
    """Adam under a one-cycle rate, gradients cut to norm 1, from step `begin` with its moments: yields the steps taken,
    the last loss, and how to read the moments, by the names of the parameters.

    Raises FloatingPointError for a loss that is not finite.
    """
    optimizer = torch.optim.Adam(named.values(), lr=peak)
    keys = ("exp_avg", "exp_avg_sq")
    if begin:
        for name, parameter in named.items():
            held = {key: moments[f"{key}.{name}"].clone() for key in keys}
            optimizer.state[parameter] = {"step": torch.tensor(float(begin)), **held}

    def read() -> dict[str, Tensor]:
        return {f"{key}.{name}": optimizer.state[p][key] for name, p in named.items() for key in keys}

    for step in range(begin, steps):
        rate, momentum = one_cycle(step, steps, peak)
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = rate, (momentum, 0.999)
        optimizer.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(list(named.values()), 1.0)
        optimizer.step()
        if not math.isfinite(found := value.item()):
            raise FloatingPointError(f"the loss is {found} at step {step + 1}: lower learning_rate ({peak})")
        yield step + 1, found, read
