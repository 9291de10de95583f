"""Where a greedy training runs the solver next, and how its networks go on in the basis of the new snapshots."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from subgrid.ingest.sweep import Sweep

from .basis import Basis
from .model import LatentModel
from .networks import Perceptron

BATCH = 8
TIMES = 26  # of a run at which the spread is looked at, evenly spread


def least_known(model: LatentModel, sweep: Sweep) -> tuple[NDArray[np.float64], float] | None:
    """The candidate whose decoded spread |std| / |u_hat| is largest at any of TIMES times, and that spread.

    None once every candidate is a run of the sweep. Ties go to the first.
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
    spreads = [
        model.relative_spread(torch.from_numpy(sweep.starts(part)).flatten(1), part, span / (count - 1), count).amax(1)
        for part in np.array_split(points, -(-len(points) // BATCH))
    ]
    values = torch.cat(spreads).double().numpy()
    return points[values.argmax()], float(values.max())


@torch.no_grad()
def rebase(encoder: nn.Module, decoder: nn.Module, old: Basis, new: Basis) -> tuple[Perceptron, Perceptron]:
    """The same maps of states in another basis: c_old is affine in c_new, so the outermost layers absorb the change.

    c_old = M_old^T (mean_new - mean_old + scale_new M_new c_new) / scale_old, and likewise back; exact but for what
    one basis holds and the other does not.
    """
    assert isinstance(encoder, Perceptron) and isinstance(decoder, Perceptron)
    assert old.modes is not None and new.modes is not None
    found = []
    overlap = old.modes.T @ new.modes
    for network, layer, into in ((encoder, 0, True), (decoder, -1, False)):
        outer = network.linear[layer]
        widths = [network.linear[0].in_features, *(x.out_features for x in network.linear)]
        widths[0 if into else -1] = new.modes.shape[1]
        moved = Perceptron(widths, 1.0)
        state = network.state_dict()
        name = f"layers.{layer % len(network.linear)}"
        if into:
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
