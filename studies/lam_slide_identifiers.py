"""Tables of docs/results/lam-slide.md about identifiers: pools, attention weights, interpolation between latents.

    python studies/lam_slide_identifiers.py attention CASE WEIGHTS     weights of both attentions, over assignments
    python studies/lam_slide_identifiers.py pools CASE                 the first stage for sizes of the pool
    python studies/lam_slide_identifiers.py interpolation CASE         with identifiers and without

pools and interpolation train the first stage about constant velocity with --seconds of CPU time for each row. Without
identifiers all entities have the same one, zero: the decoder can tell them apart by nothing. One line of JSON per row
is appended to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lam_slide_baselines as baselines
import torch
from lam_slide import Row, identifiers, rebuilt, row, unseen
from torch import Tensor

from subgrid.closures.lam_slide.model import TrajectoryModel
from subgrid.closures.lam_slide.networks import Attention
from subgrid.closures.lam_slide.options import TrainingOptions
from subgrid.closures.lam_slide.training import Training, seeded
from subgrid.closures.learning.compatibility import locate
from subgrid.ingest.prepare import silent, with_step
from subgrid.ingest.training_set import Dataset, dataset
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case

ASSIGNMENTS = 5
POOLS = (8, 32)
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


def attention_weights(attention: Attention, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Softmax weights (..., head, query, key) of `Attention.forward`."""
    q, k = attention.query(x), attention.pair(y).chunk(2, -1)[0]
    q, k = (
        n(t.unflatten(-1, (attention.heads, -1)).transpose(-2, -3))
        for n, t in zip(attention.norms, (q, k), strict=True)
    )
    return (q @ k.mT / q.shape[-1] ** 0.5 + bias[..., None, :, :]).softmax(-1)


@torch.no_grad()
def attention(case: Case, model: TrajectoryModel, count: int) -> Iterator[Row]:
    """Share of the weight of each entity on the slot bound to its identifier, and of the slot on the entity."""
    x, _, c = unseen(case, count)
    past, coder = x[:, : model.past], model.autoencoder
    base = model.base(past, model.predict(past, c))
    features = model.condition(past, base, c)
    seen: dict[str, tuple[Tensor, ...]] = {}
    for name in ("gather", "read"):
        block = getattr(coder, name)
        block.attention.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args))
    for assignment in range(ASSIGNMENTS):
        known = identifiers(model, count, x.shape[2], assignment)
        coder.decode(coder.encode(features, known), known)
        own = (known @ coder.slots.mT).argmax(-1)[:, None, None, :, None]  # the slot of each entity
        weights = attention_weights(coder.read.attention, *seen["read"])
        reads = weights.gather(-1, own.expand(*weights.shape[:-1], 1))[..., 0]
        weights = attention_weights(coder.gather.attention, *seen["gather"]).mT
        gathers = weights.gather(-1, own.expand(*weights.shape[:-1], 1))[..., 0]
        yield {"name": "attention", "assignment": assignment} | {
            key: {
                "mean": float(share.mean()),
                "heads": [round(float(s), 3) for s in share.mean((0, 1, 3))],
                "over entities": float(share.mean((1, 2)).std()),
            }
            for key, share in (("decoder", reads), ("encoder", gathers))
        }


def trained(data: Dataset, case: Case, seconds: float, named: bool, pool: int) -> tuple[TrajectoryModel, int]:
    """The first stage about constant velocity; named: whether entities have identifiers."""
    table = case.train.get("lam-slide", {}) | {"predictor": "constant", "identifiers": pool}
    training = Training(data, TrainingOptions(**table), Path(tempfile.mkdtemp()))
    training.normalise()
    if not named:
        drawn = training.identifiers
        training.identifiers = lambda generator, size: 0 * drawn(generator, size)  # type: ignore[method-assign]
    loss = seeded(training.first_loss)
    steps = baselines.descend(training.model.autoencoder, loss, seconds, training.options.learning_rate)
    training.model.eval()
    return training.model, steps


def pools(case: Case, count: int, seconds: float) -> Iterator[Row]:
    data = dataset(case, silent)
    for pool in POOLS:
        model, steps = trained(data, case, seconds, True, pool)
        for entities in (case.grid.grid().points, 8):
            x, v, c = unseen(case, count, entities=entities)
            found = rebuilt(model, x, v, c, identifiers(model, count, entities, 0))
            true = x[:, model.past : model.past + model.future]
            yield row("reconstruction", found, true, pool=pool, entities=entities, seconds=seconds, steps=steps)


@torch.no_grad()
def interpolated(
    case: Case, model: TrajectoryModel, named: bool, states: tuple[Tensor, Tensor, Tensor]
) -> Iterator[Row]:
    """Decoded latents and bases between those of two trajectories with the same couplings, entity by entity."""
    x, v, c = states
    order = c.argsort(dim=1, stable=True)
    c = c.gather(1, order)
    place = order[:, None, :, None].expand_as(x)
    x, v = x.gather(2, place), v.gather(2, place)
    rows = c.sum(1).argsort(stable=True)
    x, v, c = x[rows], v[rows], c[rows]
    same = (c[::2] == c[1::2]).all(1)
    past, count = model.past, model.past + model.future
    known = identifiers(model, int(same.sum()), x.shape[2], 0) * float(named)
    ends = []
    for k in (0, 1):
        a, b, d = x[k::2][same, :count], v[k::2][same, :count], c[k::2][same]
        base = model.base(a[:, :past], model.predict(a[:, :past], d))
        speed = torch.cat([model.known_velocity(a[:, :past]), b[:, past:]], 1)
        ends.append((model.autoencoder.encode(model.features(base[0], (a - base[0], speed - base[1]), d), known), base))
    equation, grid = case.build_equation(), case.grid.grid()
    for s in STEPS:
        z, base, speed = (
            (1 - s) * p + s * q for p, q in zip((ends[0][0], *ends[0][1]), (ends[1][0], *ends[1][1]), strict=True)
        )
        off, rate, _ = model.residuals(z, known, 0, base)
        u = torch.cat([base + off, speed + rate, c[::2][same][:, None, :, None].expand(-1, count, -1, 1)], -1)
        frames = u[:, past:].mT.double().flatten(0, 1).numpy()
        energy = torch.from_numpy(equation.invariants(frames, grid)["energy"]).unflatten(0, (-1, model.future))
        i, j = torch.triu_indices(x.shape[2], x.shape[2], 1)
        apart = (u[:, past:, i, :3] - u[:, past:, j, :3]).norm(dim=-1)
        moved = (u[:, past + 1 :, :, :3] - u[:, past:-1, :, :3]) / model.interval
        middle = 0.5 * (u[:, past + 1 :, :, 3:6] + u[:, past:-1, :, 3:6])
        yield {
            "name": "with identifiers" if named else "without",
            "step": s,
            "energy": float(energy.median()),
            "energy over time": float(energy.std(1).median()),
            "pair distance": float(apart.mean()),
            "least pair distance": float(apart.amin((1, 2)).median()),
            "velocity error": float((moved - middle).norm(dim=-1).mean()),
        }


def interpolation(case: Case, count: int, seconds: float) -> Iterator[Row]:
    data, states = dataset(case, silent), unseen(case, count)
    for named in (True, False):
        model, steps = trained(data, case, seconds, named, 16)
        x, v, c = states
        known = identifiers(model, count, x.shape[2], 0) * float(named)
        true = x[:, model.past : model.past + model.future]
        name = "reconstruction, with identifiers" if named else "reconstruction, without"
        yield row(name, rebuilt(model, x, v, c, known), true, seconds=seconds, steps=steps)
        yield from interpolated(case, model, named, states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["attention", "pools", "interpolation"])
    parser.add_argument("case", type=Path)
    parser.add_argument("weights", nargs="?", help="a file, or the name of shipped weights")
    parser.add_argument("--test", type=int, default=500, help="number of unseen trajectories")
    parser.add_argument("--seconds", type=float, default=30, help="CPU seconds per training")
    parser.add_argument("--out", type=Path, default=Path("lam-slide-identifiers.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case))
    if options.table == "attention":
        if options.weights is None:
            parser.error("attention needs WEIGHTS")
        rows = attention(case, TrajectoryModel.load(locate(options.weights, Path()))[0], options.test)
    elif options.table == "pools":
        rows = pools(case, options.test, options.seconds)
    else:
        rows = interpolation(case, options.test, options.seconds)
    for found in rows:
        line = json.dumps({"table": options.table} | found)
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
