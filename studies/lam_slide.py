"""The tables of docs/results/lam-slide.md: trajectories of particles, 10 frames given and 20 predicted.

    python studies/lam_slide.py extrapolation CASE             constant velocity, linear fit, the solver of the case
    python studies/lam_slide.py effort CASE                    all baselines, the trained ones with --seconds each
    python studies/lam_slide.py networks CASE WEIGHTS          transformer and flows in physical space, --seconds each
    python studies/lam_slide.py evaluations CASE WEIGHTS       errors and diversity for 1, 5, 10, 20 and 50 evaluations
    python studies/lam_slide.py identifiers CASE WEIGHTS       permuted entities, other identifiers, attention maps
    python studies/lam_slide.py entities CASE WEIGHTS          5, 8 and 10 entities
    python studies/lam_slide.py latents CASE                   the first stage for numbers of latents, --seconds each

Errors are over unseen trajectories (--test), those of [training] with another seed. ADE and FDE are mean and final
Euclidean displacements over entities and trajectories; "mean" is the mean over 5 samples, "least" that of the best
sample of each trajectory, ADE and FDE each by itself. spread: root mean square distance of two samples over sqrt 2.
energy: the energy score, mean |X - x| - mean |X - X'| / 2 with the norm over frames, entities and coordinates.
One line of JSON per row is appended to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lam_slide_baselines as baselines
import numpy as np
import torch
from torch import Tensor

from subgrid.closures.lam_slide.model import TrajectoryModel, draw_identifiers
from subgrid.closures.lam_slide.options import TrainingOptions
from subgrid.closures.lam_slide.training import Training, seeded
from subgrid.closures.learning.compatibility import locate
from subgrid.ingest.prepare import silent, with_step
from subgrid.ingest.training_set import Dataset, dataset
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case

SAMPLES = 5
EVALUATIONS = (1, 5, 10, 20, 50)
Row = dict[str, Any]


def unseen(case: Case, count: int, **grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, velocities and couplings of unseen trajectories; grid: `entities`, other than those of the case."""
    assert case.training is not None and case.reference is not None
    table = case.training.model_copy(update={"trajectories": count + 1, "validation": count, "seed": 200_000})
    changes: dict[str, Any] = {"training": table}
    if grid:
        changes["grid"] = case.grid.model_copy(update=grid)
        changes["reference"] = case.reference.model_copy(update={"shape": (grid["entities"],)})
    u = torch.from_numpy(np.asarray(dataset(case.model_copy(update=changes), silent).sequences[1], dtype=np.float32))
    u = u.transpose(2, 3)
    return u[..., :3], u[..., 3:6], u[:, 0, :, 6]


def error(found: Tensor, true: Tensor) -> Tensor:
    """Displacement (trajectory, frame), means over entities."""
    return (found - true).norm(dim=-1).mean(-1)


def row(name: str, found: Tensor, true: Tensor, **more: Any) -> Row:
    """A deterministic prediction."""
    e = error(found, true)
    half = 1.96 * float(e.mean(1).std()) / len(e) ** 0.5
    worst = {"ade_median": float(e.mean(1).median()), "fde_median": float(e[:, -1].median())}
    return {"name": name, "ade": float(e.mean()), "ade_95": half, "fde": float(e[:, -1].mean())} | worst | more


def samples_row(name: str, draws: Tensor, true: Tensor, **more: Any) -> Row:
    """A row for samples (draw, trajectory, frame, entity, 3)."""
    e = torch.stack([error(d, true) for d in draws])
    flat = draws.flatten(2)
    apart = torch.stack([(flat[i] - flat[j]).norm(dim=-1) for i in range(len(flat)) for j in range(i)])
    energy = (flat - true.flatten(1)).norm(dim=-1).mean(0) - 0.5 * apart.mean(0)
    spread = torch.stack([error(draws[i], draws[j]) for i in range(len(draws)) for j in range(i)]).mean()
    return {
        "name": name,
        "ade": float(e.mean()),
        "ade_95": 1.96 * float(e.mean((0, 2)).std()) / len(true) ** 0.5,
        "fde": float(e[..., -1].mean()),
        "ade_least": float(e.mean(2).amin(0).mean()),
        "fde_least": float(e[..., -1].amin(0).mean()),
        "ade_of_mean": float(error(draws.mean(0), true).mean()),
        "distance_of_samples": float(spread),
        "energy": float(energy.mean()),
    } | more


def identifiers(model: TrajectoryModel, count: int, entities: int, seed: int) -> Tensor:
    generator = np.random.default_rng(seed)
    drawn = np.stack([draw_identifiers(generator, len(model.pool), entities) for _ in range(count)])
    return model.pool[torch.from_numpy(drawn)]


def noise(model: TrajectoryModel, count: int, seed: int) -> Tensor:
    generator = np.random.default_rng([1, seed])
    return torch.from_numpy(generator.standard_normal((count, *model.latent_shape()), dtype=np.float32))


def in_blocks(function: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    parts = zip(*(a.split(baselines.BLOCK) for a in arrays), strict=True)
    with torch.no_grad():
        return torch.cat([function(*p) for p in parts])


def sampled(model: TrajectoryModel, past: Tensor, c: Tensor, known: Tensor, evaluations: int, seed: int) -> Tensor:
    white = noise(model, len(past), seed)
    return in_blocks(lambda *p: model.sampled(*p, evaluations)[0], past, c, known, white)


def rebuilt(model: TrajectoryModel, x: Tensor, v: Tensor, c: Tensor, known: Tensor) -> Tensor:
    """Positions of the future frames, encoded and decoded."""
    past, count = model.past, model.past + model.future

    def one(x: Tensor, v: Tensor, c: Tensor, known: Tensor) -> Tensor:
        base = model.base(x[:, :past], model.predict(x[:, :past], c))
        speed = torch.cat([model.known_velocity(x[:, :past]), v[:, past:]], 1)
        z = model.autoencoder.encode(model.features(base[0], (x - base[0], speed - base[1]), c), known)
        return base[0][:, past:] + model.residuals(z, known, 0, base[0])[0][:, past:]

    return in_blocks(one, x[:, :count], v[:, :count], c, known)


def extrapolation(case: Case, count: int) -> Iterator[Row]:
    o = TrainingOptions(**case.train.get("lam-slide", {}))
    x, _, c = unseen(case, count)
    past, true = x[:, : o.past], x[:, o.past : o.past + o.future]
    assert case.training is not None
    every = multiple(case.training.every, case.step)
    yield row("constant velocity", baselines.constant_velocity(past, o.future), true)
    yield row("linear fit", baselines.linear_fit(past, o.future), true)
    yield row("solver from differences", baselines.from_differences(case, past, c, every, o.future), true)
    yield row("solver from fitted velocities", baselines.from_fitted(case, past, c, every, o.future), true)


def prepared(case: Case, model: TrajectoryModel, data: Dataset) -> Training:
    """A training with the model of the weights, for its batches."""
    training = Training(data, TrainingOptions(**model.options), Path(tempfile.mkdtemp()))
    training.model = model
    return training


def networks(case: Case, model: TrajectoryModel, count: int, seconds: float) -> Iterator[Row]:
    x, _, c = unseen(case, count)
    past, true = x[:, : model.past], x[:, model.past : model.past + model.future]
    training = prepared(case, model, dataset(case, silent))
    begin = time.process_time()
    found = in_blocks(lambda *p: model.predict(*p)[0], past, c)
    yield row(f"predictor {model.options['predictor']}", found, true, milliseconds=_each(begin, len(x)))
    predict, steps = baselines.transformer(training, seconds)
    yield row("transformer", in_blocks(predict, past, c), true, seconds=seconds, steps=steps)
    for predicted in (False, True):
        draw, steps = baselines.physical_flow(training, seconds, predicted)
        for evaluations in (1, 10):
            draws = []
            for k in range(SAMPLES):
                xi = torch.from_numpy(np.random.default_rng(k).standard_normal(true.shape, dtype=np.float32))
                draws.append(in_blocks(lambda *p, e=evaluations, draw=draw: draw(*p, e), past, c, xi))
            name = f"flow in physical space, {'predictor' if predicted else 'constant velocity'}, {evaluations}"
            yield samples_row(name, torch.stack(draws), true, seconds=seconds, steps=steps)


ROWS = ("untrained", "transformer", "pairs", "flow", "lam-slide about pairs", "lam-slide about constant")


def effort(case: Case, count: int, seconds: float, evaluations: list[int], chosen: Sequence[str]) -> Iterator[Row]:
    """Every baseline, and `lam-slide` about the pair network and about constant velocity, with equal CPU time."""
    if "untrained" in chosen:
        yield from extrapolation(case, count)
    x, v, c = unseen(case, count)
    data, table = dataset(case, silent), case.train.get("lam-slide", {})

    def training(predictor: str) -> Training:
        return Training(data, TrainingOptions(**table | {"predictor": predictor}), Path(tempfile.mkdtemp()))

    fresh = training("pairs")
    past, true = x[:, : fresh.model.past], x[:, fresh.model.past : fresh.count]
    more: dict[str, Any] = {"seconds": seconds}
    if "transformer" in chosen:
        predict, steps = baselines.transformer(fresh, seconds, rate=3e-3)
        yield row("transformer", in_blocks(predict, past, c), true, steps=steps, **more)
    if "pairs" in chosen:
        steps = baselines.pair_network(fresh, seconds)
        found = in_blocks(lambda *p: fresh.model.predict(*p)[0], past, c)
        yield row("pair network", found, true, steps=steps, **more)
    if "flow" in chosen:
        draw, steps = baselines.physical_flow(fresh, seconds, False)
    for n in evaluations if "flow" in chosen else ():
        draws = []
        for k in range(SAMPLES):
            xi = torch.from_numpy(np.random.default_rng(k).standard_normal(true.shape, dtype=np.float32))
            draws.append(in_blocks(lambda *p, n=n: draw(*p, n), past, c, xi))
        yield samples_row("flow in physical space", torch.stack(draws), true, evaluations=n, steps=steps, **more)
    for predictor in ("pairs", "constant"):
        if f"lam-slide about {predictor}" not in chosen:
            continue
        own = training(predictor)
        more["predictor"] = predictor
        more["steps"] = baselines.staged(own, seconds)
        known = identifiers(own.model, count, x.shape[2], 0)
        yield row("reconstruction", rebuilt(own.model, x, v, c, known), true, **more)
        yield from lam_slide_rows(own.model, past, c, true, evaluations, **more)


def lam_slide_rows(
    model: TrajectoryModel, past: Tensor, c: Tensor, true: Tensor, evaluations: Sequence[int], **more: Any
) -> Iterator[Row]:
    count, entities = c.shape
    for n in evaluations:
        begin = time.process_time()
        draws = [sampled(model, past, c, identifiers(model, count, entities, k), n, k) for k in range(SAMPLES)]
        each = _each(begin, SAMPLES * count)
        yield samples_row("lam-slide", torch.stack(draws), true, evaluations=n, milliseconds=each, **more)


def _each(begin: float, count: int) -> float:
    return 1e3 * (time.process_time() - begin) / count


def evaluations(case: Case, model: TrajectoryModel, count: int, numbers: Sequence[int]) -> Iterator[Row]:
    x, v, c = unseen(case, count)
    past, true = x[:, : model.past], x[:, model.past : model.past + model.future]
    yield row(f"predictor {model.options['predictor']}", in_blocks(lambda *p: model.predict(*p)[0], past, c), true)
    yield row("reconstruction", rebuilt(model, x, v, c, identifiers(model, count, x.shape[2], 0)), true)
    yield from lam_slide_rows(model, past, c, true, numbers)


def identifier_rows(case: Case, model: TrajectoryModel, count: int) -> Iterator[Row]:
    """Changes of the same sample: entities permuted, identifiers drawn anew, and the spread over noise."""
    x, _, c = unseen(case, count)
    past, entities = x[:, : model.past], x.shape[2]
    known = identifiers(model, count, entities, 0)
    order = torch.randperm(entities, generator=torch.Generator().manual_seed(0))
    for n in (1, 10):
        one = sampled(model, past, c, known, n, 0)
        turned = sampled(model, past[:, :, order], c[:, order], known[:, order], n, 0)
        other = sampled(model, past, c, identifiers(model, count, entities, 1), n, 0)
        fresh = sampled(model, past, c, known, n, 1)
        yield {
            "name": "identifiers",
            "evaluations": n,
            "permuted": float(error(one[:, :, order], turned).mean()),
            "permuted, median": float(error(one[:, :, order], turned).mean(1).median()),
            "other identifiers": float(error(one, other).mean()),
            "other noise": float(error(one, fresh).mean()),
        }
    bias = model.autoencoder.beta * (model.autoencoder.slots @ model.pool.mT)
    share = bias.softmax(0).amax(0)
    bound = bias.argmax(0)
    yield {"name": "binding", "beta": float(model.autoencoder.beta), "share": [round(float(s), 3) for s in share]} | {
        "slot": bound.tolist()
    }


def entity_rows(case: Case, model: TrajectoryModel, count: int) -> Iterator[Row]:
    for entities in (5, 8, 10):
        x, v, c = unseen(case, count, entities=entities)
        past, true = x[:, : model.past], x[:, model.past : model.past + model.future]
        known = identifiers(model, count, entities, 0)
        more = {"entities": entities}
        yield row("constant velocity", baselines.constant_velocity(past, model.future), true, **more)
        yield row("predictor", in_blocks(lambda *p: model.predict(*p)[0], past, c), true, **more)
        yield row("reconstruction", rebuilt(model, x, v, c, known), true, **more)
        for n in (1, 10):
            draws = [sampled(model, past, c, identifiers(model, count, entities, k), n, k) for k in range(SAMPLES)]
            yield samples_row("lam-slide", torch.stack(draws), true, evaluations=n, **more)


def latent_rows(case: Case, count: int, seconds: float) -> Iterator[Row]:
    """The first stage alone, about constant velocity, with equal CPU time."""
    data, (x, v, c) = dataset(case, silent), unseen(case, count)
    for latents in (1, 2, 4, 8, 16, 20):
        table = case.train.get("lam-slide", {}) | {"predictor": "constant", "latents": latents, "identifiers": 20}
        training = Training(data, TrainingOptions(**table), Path(tempfile.mkdtemp()))
        training.normalise()
        model = training.model
        steps = baselines.descend(
            model.autoencoder, seeded(training.first_loss), seconds, training.options.learning_rate
        )
        model.eval()
        true = x[:, model.past : model.past + model.future]
        found = rebuilt(model, x, v, c, identifiers(model, count, x.shape[2], 0))
        ratio = latents / x.shape[2]
        yield row("reconstruction", found, true, latents=latents, ratio=ratio, seconds=seconds, steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ["extrapolation", "effort", "networks", "evaluations", "identifiers", "entities", "latents"]
    parser.add_argument("table", choices=tables)
    parser.add_argument("case", type=Path)
    parser.add_argument("weights", nargs="?", help="a file, or the name of shipped weights")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    parser.add_argument("--test", type=int, default=2000, help="number of unseen trajectories")
    parser.add_argument("--seconds", type=float, default=240, help="CPU seconds per training of a baseline")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="of the table effort")
    parser.add_argument("--evaluations", type=int, nargs="+", default=list(EVALUATIONS))
    parser.add_argument("--out", type=Path, default=Path("lam-slide-study.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case, options.set))
    if options.table == "extrapolation":
        rows = extrapolation(case, options.test)
    elif options.table == "latents":
        rows = latent_rows(case, options.test, options.seconds)
    elif options.table == "effort":
        rows = effort(case, options.test, options.seconds, options.evaluations, options.rows)
    elif options.weights is None:
        parser.error(f"{options.table} needs WEIGHTS")
    else:
        model, _ = TrajectoryModel.load(locate(options.weights, Path()))
        if options.table == "networks":
            rows = networks(case, model, options.test, options.seconds)
        elif options.table == "evaluations":
            rows = evaluations(case, model, options.test, options.evaluations)
        else:
            table = {"identifiers": identifier_rows, "entities": entity_rows}
            rows = table[options.table](case, model, options.test)
    where = {"table": options.table, "weights": options.weights, "set": options.set, "test": options.test}
    for found in rows:
        line = json.dumps(where | {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()})
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
