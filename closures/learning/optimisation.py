"""Adam under a one-cycle learning rate, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .parallel import summed

MOMENTS = ("exp_avg", "exp_avg_sq")


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """Learning rate and first-moment decay of Adam at a step of a one-cycle schedule.

    The rate rises as a cosine from peak/25 to `peak` over 30 % of the steps and then falls to zero; the decay falls
    from 0.95 to 0.85 and rises again. Source: Smith and Topin, arXiv 1708.07120.
    """
    rise = 0.3 * steps
    if step < rise:
        height = 0.5 - 0.5 * math.cos(math.pi * step / rise)
        return peak * (0.04 + 0.96 * height), 0.95 - 0.1 * height
    height = 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (steps - rise))
    return peak * height, 0.95 - 0.1 * height


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Run the block with this number of torch threads (None: unchanged), and restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def descent(
    parameters: dict[str, nn.Parameter],
    moments: dict[str, Tensor],
    begin: int,
    steps: int,
    peak: float,
    loss: Callable[[int], Tensor],
    *,
    clip: float | None = None,
    weight_decay: float = 0.0,
) -> Iterator[tuple[int, float, Callable[[], dict[str, Tensor]]]]:
    """Take the steps `begin`, ..., `steps` - 1 of Adam under a one-cycle rate.

    loss(step) is that of a batch, or the part of it that this process computes, see `parallel`. After each step it
    yields the number of steps taken, the loss before the step, and a function that returns the moments by parameter
    name. `moments` are those after step `begin`; they are ignored for `begin` = 0. clip: largest norm of the gradient,
    None for no limit. weight_decay: decoupled, as in AdamW; with zero the method is Adam.

    Raises FloatingPointError if the loss is not finite.
    """
    optimizer = torch.optim.AdamW(parameters.values(), lr=peak, weight_decay=weight_decay)
    if begin:
        for name, parameter in parameters.items():
            held = {key: torch.zeros_like(parameter).copy_(moments[f"{key}.{name}"]) for key in MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(begin)), **held}

    def read_moments() -> dict[str, Tensor]:
        return {f"{key}.{name}": optimizer.state[p][key] for name, p in parameters.items() for key in MOMENTS}

    for step in range(begin, steps):
        rate, decay = one_cycle(step, steps, peak)
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = rate, (decay, 0.999)
        optimizer.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        value = summed(value, list(parameters.values()))
        if clip is not None:
            nn.utils.clip_grad_norm_(list(parameters.values()), clip)
        optimizer.step()
        if not math.isfinite(found := value.item()):
            raise FloatingPointError(f"the loss is {found} at step {step + 1}: lower learning_rate ({peak})")
        yield step + 1, found, read_moments
