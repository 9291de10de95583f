"""A reduced-order model over the test grid of its sweep: errors, calibration of the spread, and speed.

    python studies/rom.py CASE

The error of a run is the maximum over time of |u_hat - u| / |u| against the solver of the case. The table gives the
maximum and the 90, 75 and 50 % quantiles over the parameters of the test grid, in per cent:

projection     onto the basis: the lower bound for all decoders that end in the basis
autoencoder    first decoder on encoded states: the error of the networks
stage 1        first decoder on the predicted latents (LaSDI): includes the error of the latent dynamics
stage 2, ...   with the decoders of further stages
all, encoded   all decoders on encoded states: the last stage without error of the latent dynamics
POD-GPR, parametric DMD, operator inference   see rom_baselines
nearest run    the training run with the nearest parameters

Then the calibration of the predicted spread (rom_calibration), and processor seconds of one core for the states at a
number of output times (rom_speed).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rom_speed
import torch
from rom_baselines import BASELINES
from rom_calibration import calibration, flat

from subgrid.closures.lasdi.interpolated import InterpolatedModel, load
from subgrid.closures.lasdi.model import LatentModel
from subgrid.closures.learning.compatibility import locate
from subgrid.ingest.prepare import with_step
from subgrid.ingest.sweep import Sweep, runs
from subgrid.solver.case.reading import read
from subgrid.solver.case.sweep_design import among
from subgrid.solver.case.tables import Case

Model = LatentModel | InterpolatedModel
QUANTILES = (1.0, 0.9, 0.75, 0.5)
EVERY_SEVENTH = 7
TOGETHER = 21  # parameters per call of the baselines


def errors(case: Case, model: Model, training: Sweep, test: Sweep) -> dict[str, np.ndarray]:
    """The error of each run (parameter,), by row of the table."""
    assert case.sweep
    step = float(test.times[1] - test.times[0])
    known = np.stack([model.basis.coefficients(flat(training, i)).numpy() for i in range(len(training))])
    scaled = model.scaled(training.parameters).numpy()
    baselines = {name: make(scaled, known.astype(np.float64), step) for name, make in BASELINES.items()}
    found: dict[str, list[float]] = {}
    theirs: dict[str, np.ndarray] = {}
    for i, point in enumerate(test.parameters):
        states = flat(test, i)
        coefficients = model.basis.coefficients(states)
        predicted = stages(model, states, coefficients, point, step)
        if i % TOGETHER == 0:
            several = range(i, min(i + TOGETHER, len(test)))
            first = torch.cat([flat(test, k)[:1] for k in several])
            start = model.basis.coefficients(first).double().numpy()
            scaled = model.scaled(test.parameters[several]).numpy()
            theirs = {name: baseline.predict(scaled, start) for name, baseline in baselines.items()}
        for name, values in theirs.items():
            predicted[name] = model.basis.states(torch.from_numpy(values[i % TOGETHER]).float())
        predicted["nearest run"] = flat(training, case.sweep.nearest(point))
        for name, value in predicted.items():
            found.setdefault(name, []).append(float(((value - states).norm(dim=1) / states.norm(dim=1)).max()))
    return {name: np.array(values) for name, values in found.items()}


@torch.inference_mode()
def stages(
    model: Model,
    states: torch.Tensor,
    coefficients: torch.Tensor,
    point: np.ndarray,
    step: float,
) -> dict[str, torch.Tensor]:
    """Approximations of a run (time, point) by the basis, the autoencoder and each number of stages."""
    encoded = model.encode(states)
    z = model.latents(states[:1], point[None], step, len(states))[0]
    return {
        "projection": model.basis.states(coefficients),
        "autoencoder": model.decode(encoded, 1),
        **{f"stage {k}": model.decode(z, k) for k in range(1, len(model.stages) + 2)},
        "all, encoded": model.decode(encoded),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--weights", help="a file, or the name of shipped weights; by default CASE-lasdi")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    parser.add_argument("--only", choices=("errors", "calibration", "speed"), help="one of the three parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case, options.set))
    if case.sweep is None or not len(case.sweep.test_points()):
        parser.error(f"{options.case} has no [sweep] with test_counts or test_runs")
    model = load(locate(options.weights or f"{options.case.stem}-lasdi", Path()))
    figures: dict[str, Any] = {}
    if options.only != "speed":
        training, test = runs(case, case.sweep.points()), runs(case, case.sweep.test_points())
        seen = int(among(test.parameters, training.parameters).sum())
        print(f"{len(test)} parameters, {seen} of them those of the {len(training)} training runs; per cent")
        print(f"{model.basis.modes.shape[1]} modes")
    if options.only in (None, "errors"):
        print(f"{'':20}{'max':>8}{'90 %':>8}{'75 %':>8}{'median':>8}")
        for name, values in errors(case, model, training, test).items():
            figures[name] = [100 * float(np.quantile(values, q)) for q in QUANTILES]
            print(f"{name:20}" + "".join(f"{v:8.3f}" for v in figures[name]), flush=True)
    if options.only in (None, "calibration") and model.spread is not None:
        found = calibration(model, training, test, EVERY_SEVENTH if len(test) > EVERY_SEVENTH else 1)
        figures["calibration"] = found
        for name, shares in found.items():
            print(f"{name:20}" + ", ".join(f"{level} {share:.3f}" for level, share in shares.items()))
    if options.only in (None, "speed"):
        points = case.sweep.test_points()
        figures["speed"] = rom_speed.table(case, model, points)
        print(rom_speed.show(figures["speed"], len(points)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
