"""Pedestrians (ETH-UCY): deterministic and noisy constant velocity, the baselines that need no training.

    python studies/lam_slide_pedestrians.py FOLDER

FOLDER holds biwi_eth.txt, biwi_hotel.txt, students001.txt, students003.txt, crowds_zara01.txt and crowds_zara02.txt,
lines of `frame id x y`. 8 frames are given and 12 predicted, of every pedestrian seen in 20 consecutive frames. The
noisy rows draw 20 samples: the velocity of the last two frames turned by a normal angle of deviation --degrees
(Schoeller et al., arXiv 1903.07933). minADE and minFDE are those of the best sample of each pedestrian, each by itself,
means over all pedestrians of a scene, then over the five scenes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.external.open import open_data

SCENES = {
    "ETH": ["biwi_eth"],
    "HOTEL": ["biwi_hotel"],
    "UNIV": ["students001", "students003"],
    "ZARA1": ["crowds_zara01"],
    "ZARA2": ["crowds_zara02"],
}
GIVEN, PREDICTED, SAMPLES = 8, 12, 20


def windows(path: Path) -> NDArray[np.float64]:
    """(pedestrian and begin, frame, 2) of all pedestrians that are seen in all frames of a window."""
    data = open_data(path)
    x = np.stack([np.asarray(data[a].values, dtype=np.float64).squeeze() for a in ("x", "y")], -1)
    count = GIVEN + PREDICTED
    parts = np.stack([x[i : i + count] for i in range(len(x) - count + 1)])  # (begin, frame, pedestrian, 2)
    parts = parts.transpose(0, 2, 1, 3).reshape(-1, count, 2)
    return parts[np.isfinite(parts).all((1, 2))]


def errors(x: NDArray, degrees: float, samples: int, seed: int) -> tuple[float, float]:
    """Smallest ADE and FDE of samples of turned constant velocity."""
    step = x[:, GIVEN - 1] - x[:, GIVEN - 2]
    angle = np.deg2rad(degrees) * np.random.default_rng(seed).standard_normal((samples, len(x), 1))
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.concatenate([cos * step[:, :1] - sin * step[:, 1:], sin * step[:, :1] + cos * step[:, 1:]], -1)
    ahead = np.arange(1, PREDICTED + 1)[:, None]
    found = x[:, GIVEN - 1][:, None] + turned[:, :, None] * ahead
    off = np.linalg.norm(found - x[:, GIVEN:], axis=-1)
    return float(off.mean(-1).min(0).mean()), float(off[..., -1].min(0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--degrees", type=float, default=25.0)
    options = parser.parse_args()
    data = {s: np.concatenate([windows(options.folder / f"{n}.txt") for n in names]) for s, names in SCENES.items()}
    for name, samples, degrees in (
        ("constant velocity", 1, 0.0),
        ("noisy constant velocity", SAMPLES, options.degrees),
    ):
        found = {scene: errors(x, degrees, samples, 0) for scene, x in data.items()}
        mean = np.mean(list(found.values()), axis=0)
        rows = {s: [round(v, 3) for v in e] + [len(data[s])] for s, e in found.items()}
        print(json.dumps({"name": name, "mean": [round(float(v), 3) for v in mean]} | rows))


if __name__ == "__main__":
    main()
