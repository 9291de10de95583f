"""Greedy design: the parameters of the next training run, and the networks in the basis of the new snapshots."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from subgrid.ingest.sweep import Sweep

from ..learning.basis import Basis
from ..learning.perceptrons import Perceptron
from .error_indicators import Residual
from .interpolated import InterpolatedModel
from .model import LatentModel
from .options import Acquisition

BATCH = 8  # candidates evaluated at a time
TIMES = 26  # of a run at which the spread is evaluated, evenly spaced
CHECKS = 6  # the same for the residual


def acquisition(
    model: LatentModel | InterpolatedModel, sweep: Sweep, what: Acquisition = "spread"
) -> tuple[NDArray[np.float64], float] | None:
    """The candidate parameters where the predictive standard deviation, or the residual, is largest, and its value.

    The value is the maximum over TIMES times of |std| / |u_hat| of the decoded states, or over CHECKS of them of the
    residual of the equation on the grid of the case. Of equal candidates the first is taken. None if every candidate is
    a run of the sweep.
    """
    assert sweep.case.sweep is not None
    low, high = sweep.ranges.T
    points = sweep.case.sweep.candidates()
    distance = np.abs((points[:, None] - sweep.parameters) / (high - low)).max(-1).min(1)
    points = points[distance > 1e-9]
    if not len(points):
        return None
    span = float(sweep.times[-1] - sweep.times[0])
    count = min(TIMES, len(sweep.times))
    if what == "residual":
        values = np.array([_residual(model, sweep, point, span) for point in points])
        return points[values.argmax()], float(values.max())
    spreads = [
        model.relative_spread(torch.from_numpy(sweep.starts(part)).flatten(1), part, span / (count - 1), count).amax(1)
        for part in np.array_split(points, -(-len(points) // BATCH))
    ]
    values = torch.cat(spreads).double().numpy()
    return points[values.argmax()], float(values.max())


def _residual(model: LatentModel | InterpolatedModel, sweep: Sweep, point: NDArray, span: float) -> float:
    """The largest residual of the prediction at a point, over CHECKS times of the span."""
    assert sweep.case.sweep is not None
    case = sweep.case.varied(sweep.case.sweep.values(point))
    residual = Residual(case.build_equation(), case.grid.grid(), case.step)
    states, interval = torch.from_numpy(sweep.starts(point[None])).flatten(1), span / (CHECKS - 1)
    z = model.latents(states, point[None], interval, CHECKS)
    start = case.time.start
    return max(residual(model, z[:, i], point[None], start + i * interval, None) for i in range(CHECKS))


@torch.no_grad()
def change_basis(encoder: nn.Module, decoder: nn.Module, old: Basis, new: Basis) -> tuple[Perceptron, Perceptron]:
    """Encoder and decoder for coefficients of another basis, that represent the same maps of states.

    c_old = M_old^T (mean_new - mean_old + scale_new M_new c_new) / scale_old is affine in c_new, and vice versa, so the
    outermost layers absorb the change. It is exact for states that both bases represent.
    """
    assert isinstance(encoder, Perceptron) and isinstance(decoder, Perceptron)
    assert old.modes is not None and new.modes is not None
    found = []
    overlap = old.modes.T @ new.modes
    for network, layer, is_input in ((encoder, 0, True), (decoder, -1, False)):
        outer = network.linear[layer]
        widths = [network.linear[0].in_features, *(x.out_features for x in network.linear)]
        widths[0 if is_input else -1] = new.modes.shape[1]
        moved = Perceptron(widths, 1.0)
        state = network.state_dict()
        name = f"layers.{layer % len(network.linear)}"
        if is_input:
            shift = (new.mean - old.mean) @ old.modes / old.scale
            state[f"{name}.weight"] = outer.weight @ overlap * (new.scale / old.scale)
            state[f"{name}.bias"] = outer.bias + outer.weight @ shift
        else:
            shift = (old.mean - new.mean) @ new.modes / new.scale
            state[f"{name}.weight"] = overlap.T @ outer.weight * (old.scale / new.scale)
            state[f"{name}.bias"] = overlap.T @ outer.bias * (old.scale / new.scale) + shift
        moved.load_state_dict(state)
        found.append(moved)
    return found[0], found[1]
