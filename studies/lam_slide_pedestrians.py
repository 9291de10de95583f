"""Pedestrians (ETH-UCY), leave one scene out, best of 20 samples.

    python studies/lam_slide_pedestrians.py baselines FOLDER
    python studies/lam_slide_pedestrians.py train FOLDER --scene ETH

FOLDER holds the files of FILES, lines of `frame id x y`. 8 frames are given and 12 predicted, of every pedestrian seen
in 20 consecutive frames. minADE and minFDE are those of the best sample of each pedestrian, each by itself, means over
all pedestrians of a scene, then over the five scenes.

baselines: constant velocity, and 20 samples of it. "turned": the velocity of the last two frames turned by a normal
angle of deviation --degrees (Schoeller et al., arXiv 1903.07933). "turned and scaled": also multiplied by exp(e), e
normal of deviation --speed.

train: `lam-slide` on the files of the other scenes, in the plane, about constant velocity. A sample is a window of 20
frames of at most --group pedestrians, neighbours in the last frame given, with a mask for the others. The last tenth of
the windows of each file validates. With --sizes S a copy of each training window is added, multiplied by exp(S e) with
e normal, because pedestrians of one scene walk faster than those of others. --choose SCENE is for choices of options:
this scene is left out as well, and scored in place of the test. One line of JSON per row is appended to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.closures.lam_slide.model import TrajectoryModel, draw_identifiers
from subgrid.closures.lam_slide.options import TrainingOptions
from subgrid.closures.lam_slide.training import fit
from subgrid.ingest.external.open import open_data
from subgrid.ingest.training_set import Dataset, Model
from subgrid.solver.equations.particles.equation import ChargedParticles
from subgrid.solver.grid import Grid

SCENES = {
    "ETH": ["biwi_eth"],
    "HOTEL": ["biwi_hotel"],
    "UNIV": ["students001", "students003"],
    "ZARA1": ["crowds_zara01"],
    "ZARA2": ["crowds_zara02"],
}
FURTHER = ["crowds_zara03", "uni_examples"]  # for training only
FILES = [*chain.from_iterable(SCENES.values()), *FURTHER]
GIVEN, PREDICTED, SAMPLES = 8, 12, 20
COUNT, INTERVAL = GIVEN + PREDICTED, 0.4
OPTIONS: dict[str, Any] = {
    "past": GIVEN,
    "future": PREDICTED,
    "window": 4,
    "predictor": "constant",
    "identifiers": 6,
    "latents": 6,
    "width": 32,
    "flow_width": 32,
    "depth": 3,
    "heads": 2,
    "batch": 32,
    "steps": 500,
    "flow_steps": 1200,
    "flow_learning_rate": 2e-3,
    "joint_steps": 150,
    "orientations": "plane",
    "residual_axes": "heading",
    "threads": 1,
    "checkpoint_every": 500,
}
Row = dict[str, Any]


@dataclass
class Windows:
    """Positions (group, frame, entity, 2) about the centre of each group in the last frame given, and masks."""

    x: NDArray[np.float64]
    mask: NDArray[np.bool_]

    def states(self) -> NDArray[np.float64]:
        """(group, frame, 7, entity): at rest across the plane, with velocities by differences and the coupling 1."""
        found = np.zeros((*self.x.shape[:2], 7, self.x.shape[2]))
        found[:, :, :2] = self.x.swapaxes(2, 3)
        steps = np.diff(self.x, axis=1) / INTERVAL
        found[:, :, 3:5] = np.concatenate([steps[:, :1], steps], 1).swapaxes(2, 3)
        found[:, :, 6] = self.mask[:, None]
        return found


def complete(path: Path) -> list[NDArray[np.float64]]:
    """For each frame at which a window begins: (pedestrian, frame, 2) of those that are seen in all of its frames."""
    data = open_data(path)
    x = np.stack([np.asarray(data[a].values, dtype=np.float64).squeeze() for a in ("x", "y")], -1)
    parts = [x[i : i + COUNT].swapaxes(0, 1) for i in range(len(x) - COUNT + 1)]
    parts = [p[np.isfinite(p).all((1, 2))] for p in parts]
    return [p for p in parts if len(p)]


def grouped(parts: list[NDArray[np.float64]], size: int) -> Windows:
    """Neighbours together: the first pedestrian that has no group yet, and those nearest to it, at most `size`."""
    groups = []
    for part in parts:
        left = np.arange(len(part))
        while len(left):
            here = part[left, GIVEN - 1]
            order = np.argsort(np.linalg.norm(here - here[np.argmin(here[:, 0])], axis=1))
            chosen = left[order[:size]]
            groups.append(part[chosen])
            left = np.setdiff1d(left, chosen)
    x, mask = np.zeros((len(groups), COUNT, size, 2)), np.zeros((len(groups), size), dtype=bool)
    for i, group in enumerate(groups):
        x[i, :, : len(group)] = (group - group[:, GIVEN - 1].mean(0)).swapaxes(0, 1)
        mask[i, : len(group)] = True
    return Windows(x, mask)


def joined(windows: list[Windows]) -> Windows:
    return Windows(np.concatenate([w.x for w in windows]), np.concatenate([w.mask for w in windows]))


def least(found: NDArray, true: NDArray) -> tuple[float, float]:
    """minADE and minFDE of samples (sample, pedestrian, frame, 2)."""
    off = np.linalg.norm(found - true, axis=-1)
    return float(off.mean(-1).min(0).mean()), float(off[..., -1].min(0).mean())


def noisy(x: NDArray, degrees: float, speed: float, samples: int, seed: int) -> NDArray:
    """Samples of constant velocity (sample, pedestrian, frame, 2), turned and scaled."""
    generator = np.random.default_rng(seed)
    step = x[:, GIVEN - 1] - x[:, GIVEN - 2]
    angle = np.deg2rad(degrees) * generator.standard_normal((samples, len(x), 1))
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.concatenate([cos * step[:, :1] - sin * step[:, 1:], sin * step[:, :1] + cos * step[:, 1:]], -1)
    if speed:
        turned = turned * np.exp(speed * generator.standard_normal((samples, len(x), 1)))
    ahead = np.arange(1, PREDICTED + 1)[:, None]
    return x[:, GIVEN - 1][:, None] + turned[:, :, None] * ahead


def baselines(folder: Path, degrees: float, speed: float) -> list[Row]:
    data = {
        scene: np.concatenate([part for name in files for part in complete(folder / f"{name}.txt")])
        for scene, files in SCENES.items()
    }
    rows = []
    for name, samples, angle, factor in (
        ("constant velocity", 1, 0.0, 0.0),
        ("turned", SAMPLES, degrees, 0.0),
        ("turned and scaled", SAMPLES, degrees, speed),
    ):
        found = {s: least(noisy(x, angle, factor, samples, 0), x[:, GIVEN:]) for s, x in data.items()}
        mean = np.mean(list(found.values()), axis=0)
        rows.append({"name": name, "mean": list(mean)} | {s: [*e, len(data[s])] for s, e in found.items()})
    return rows


def learned(folder: Path, scenes: list[str], size: int, sizes: float) -> Dataset:
    """The windows of all files but those of the scenes, as the training set of free particles."""
    train, valid = [], []
    for name in FILES:
        if all(name not in SCENES[scene] for scene in scenes):
            parts = complete(folder / f"{name}.txt")
            split = len(parts) - len(parts) // 10
            train.append(grouped(parts[:split], size))
            valid.append(grouped(parts[split:], size))
    if sizes:
        some = joined(train)
        factors = np.exp(sizes * np.random.default_rng(0).standard_normal(len(some.x)))
        train.append(Windows(some.x * factors[:, None, None, None], some.mask))
    parts = joined(train), joined(valid)
    equation = ChargedParticles(omit=("interaction",))
    grid = Grid((size,), (float(size),))
    about = {
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": [f.name for f in equation.fields],
        "shape": [size],
        "length": [float(size)],
        "seeds": {},
        "training_case": "",
        "training_command": f"studies/lam_slide_pedestrians.py train FOLDER --scene {scenes[0]}",
    }
    empty = (np.zeros(0), np.zeros(0))
    return Dataset(
        empty,
        empty,
        about,
        (parts[0].states(), parts[1].states()),
        Model(equation, grid, "velocity-verlet", INTERVAL, 1, None),
        (parts[0].mask, parts[1].mask),
    )


def draws(model: TrajectoryModel, windows: Windows, samples: int, evaluations: int, seed: int) -> NDArray:
    """Samples (sample, pedestrian, frame, 2) of the real pedestrians."""
    u = torch.from_numpy(windows.states()).float().transpose(2, 3)
    mask = torch.from_numpy(windows.mask)
    found = []
    for k in range(samples):
        generator = np.random.default_rng([seed, k])
        parts = []
        for x, real in zip(u[:, :GIVEN].split(512), mask.split(512), strict=True):
            drawn = np.stack([draw_identifiers(generator, len(model.pool), x.shape[2]) for _ in range(len(x))])
            white = torch.from_numpy(generator.standard_normal((len(x), *model.latent_shape()), dtype=np.float32))
            known = model.pool[torch.from_numpy(drawn)]
            parts.append(model.sampled(x[..., :3], x[:, 0, :, 6], known, white, evaluations, real)[0])
        found.append(torch.cat(parts).transpose(1, 2)[mask][..., :2].numpy())
    return np.stack(found)


def scored(model: TrajectoryModel, windows: Windows, evaluations: int, seed: int = 0) -> Row:
    true = windows.x.swapaxes(1, 2)[windows.mask][:, GIVEN:]
    begin = time.process_time()
    found = draws(model, windows, SAMPLES, evaluations, seed)
    seconds = time.process_time() - begin
    ade, fde = least(found, true)
    off = np.linalg.norm(found - true, axis=-1)
    row = {"evaluations": evaluations, "min_ade": ade, "min_fde": fde, "ade": float(off.mean())}
    return row | {"fde": float(off[..., -1].mean()), "milliseconds": 1e3 * seconds / found[..., 0, 0].size}


def train(given: argparse.Namespace, changes: dict[str, Any], work: Path) -> list[Row]:
    folder, scene, size, evaluations = given.folder, given.scene, given.group, given.evaluations
    data = learned(folder, [scene] + [given.choose] * bool(given.choose), size, given.sizes)
    options = TrainingOptions(**OPTIONS | changes)
    begin = time.process_time()
    model, header = fit(data, options, work)
    seconds = time.process_time() - begin
    model.save(work / f"{scene}.safetensors", header)
    assert data.masks is not None
    common = {"scene": scene, "seconds": seconds, "groups": len(data.masks[0]), "set": changes, "sizes": given.sizes}
    rows: list[Row] = [common | {"name": "validation"} | header["scores"]]
    held = Windows(data.sequences[1][::4, :, :2].swapaxes(2, 3), data.masks[1][::4])
    rows += [common | {"name": "validation"} | scored(model, held, n) for n in evaluations[-1:]]
    files = SCENES[given.choose or scene]
    test = joined([grouped(complete(folder / f"{n}.txt")[:: given.stride], size) for n in files])
    common |= {"name": f"choice by {given.choose}" if given.choose else "test", "stride": given.stride}
    common |= {"pedestrians": int(test.mask.sum())}
    return rows + [common | scored(model, test, n) for n in evaluations]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["baselines", "train"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--degrees", type=float, default=25.0)
    parser.add_argument("--speed", type=float, default=0.3)
    parser.add_argument("--scene", choices=list(SCENES), default="ETH")
    parser.add_argument("--group", type=int, default=6, help="largest number of pedestrians in a sample")
    parser.add_argument("--sizes", type=float, default=0.0, help="deviation of the logarithm of factors of copies")
    parser.add_argument("--choose", choices=list(SCENES), help="left out too, and scored in place of the test")
    parser.add_argument("--stride", type=int, default=1, help="every so many windows of the scene are the test")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[10])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="options of the training")
    parser.add_argument("--work", type=Path, help="folder of checkpoints and weights; a training there resumes")
    parser.add_argument("--out", type=Path, default=Path("lam-slide-pedestrians.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table == "baselines":
        rows = baselines(options.folder, options.degrees, options.speed)
    else:
        changes = {key: json.loads(value) for key, value in (text.split("=", 1) for text in options.set)}
        work = options.work or Path(tempfile.mkdtemp())
        rows = train(options, changes, work)
    for row in rows:
        line = json.dumps(row, default=float)
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
