"""A reduced-order model over the test grid of its sweep: python tests/benchmarks/rom.py CASE

Errors are |u_hat - u| / |u| of each snapshot against the case's own solver, their maximum over time; of these, over the
parameters of the test grid, the maximum and the percentiles at 90 and 75 %, all in per cent:

projection     on the basis: what no decoder that ends in it can avoid
autoencoder    first decoder, of encoded states: the share of the networks
stage 1        first decoder along the predicted latents: LaSDI; what it adds to the autoencoder is that of the dynamics
stage 2, ...   with the decoders of further stages
POD-GPR        the coefficients of the basis at every time, each by Gaussian-process regression over the parameters: one
               kernel for all, its lengths and noise by their joint likelihood
nearest run    the training run whose parameters are nearest

Then the share of values that lie within two standard deviations of the prediction (`predict_std`), over every
seventh parameter; and seconds of one core for the states at all output times: the solver stepping one member, and all
the parameters as one ensemble where only initial states differ, against the model.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.optimize import minimize

from subgrid.closures.lasdi.model import LatentModel
from subgrid.closures.regression.closure import locate
from subgrid.commands.prepare import with_step
from subgrid.ingest.sweep import Sweep, runs
from subgrid.solver.case import Case, multiple, read
from subgrid.solver.simulation import Simulation

BATCH = 8
EVERY_SEVENTH = 7


class PodGpr:
    """Coefficients of the basis as Gaussian processes over the parameters, (run, time, mode); one kernel for all.

    k(a, b) = exp(-|(a - b) / lengths|^2 / 2) + noise; lengths and noise maximise the likelihood of all coefficients,
    their common variance put in its place.
    """

    def __init__(self, scaled: np.ndarray, coefficients: np.ndarray) -> None:
        self.scaled, self.mean = scaled, coefficients.mean(axis=0)
        self.known = (coefficients - self.mean).reshape(len(scaled), -1)
        gram = self.known.astype(np.float64) @ self.known.T

        def loss(logarithms: np.ndarray) -> float:
            kernel = self._kernel(scaled, logarithms) + np.exp(logarithms[-1]) * np.eye(len(scaled))
            return len(scaled) * np.log(np.trace(np.linalg.solve(kernel, gram))) + np.linalg.slogdet(kernel)[1]

        bounds = [(np.log(0.1), np.log(20.0))] * scaled.shape[1] + [(np.log(1e-10), 0.0)]
        found = minimize(loss, [0.0] * scaled.shape[1] + [np.log(1e-6)], bounds=bounds).x
        self.logarithms = found
        kernel = self._kernel(scaled, found) + np.exp(found[-1]) * np.eye(len(scaled))
        self.inverse = np.linalg.inv(kernel)

    def _kernel(self, points: np.ndarray, logarithms: np.ndarray) -> np.ndarray:
        difference = (points[:, None] - self.scaled) / np.exp(logarithms[:-1])
        return np.exp(-0.5 * (difference**2).sum(-1))

    def predict(self, scaled: np.ndarray) -> torch.Tensor:
        weights = self._kernel(scaled, self.logarithms) @ self.inverse
        found = (weights.astype(np.float32) @ self.known).reshape(len(scaled), *self.mean.shape)
        return torch.from_numpy(found + self.mean)


def errors(case: Case, model: LatentModel, training: Sweep, test: Sweep) -> dict[str, np.ndarray]:
    """Maximum over time of the relative error, by what makes it, (parameter,)."""
    assert case.sweep
    times, step = len(test.times), float(test.times[1] - test.times[0])
    known = torch.stack([model.basis.coefficients(flat(training, i)) for i in range(len(training))])
    processes = PodGpr(model.scaled(training.parameters).numpy(), known.numpy())
    found: dict[str, list[float]] = {}
    for i, point in enumerate(test.parameters):
        states = flat(test, i)
        coefficients = model.basis.coefficients(states)
        with torch.inference_mode():
            predicted = {
                "projection": model.basis.states(coefficients),
                "autoencoder": model.basis.states(model.decoder(model.encoder(coefficients))),
            }
            z = model.latents(states[:1], point[None], step, times)[0]
            predicted |= {f"stage {k}": model.decode(z, k) for k in range(1, len(model.stages) + 2)}
            predicted["POD-GPR"] = model.basis.states(processes.predict(model.scaled(point[None]).numpy())[0])
            predicted["nearest run"] = flat(training, case.sweep.nearest(point))
        for name, value in predicted.items():
            found.setdefault(name, []).append(float(((value - states).norm(dim=1) / states.norm(dim=1)).max()))
    return {name: np.array(values) for name, values in found.items()}


def flat(sweep: Sweep, run: int) -> torch.Tensor:
    """States (time, point) of a run."""
    return torch.from_numpy(sweep.state(run)).reshape(len(sweep.times), -1)


def calibration(model: LatentModel, test: Sweep) -> float:
    """The share of values within two standard deviations of the prediction."""
    step, inside, count = float(test.times[1] - test.times[0]), 0, 0
    for i in range(0, len(test), EVERY_SEVENTH):
        states, point = flat(test, i), test.parameters[i : i + 1]
        mean = model.predict(states[:1], point, step, len(states))[0]
        spread = model.predict_std(states[:1], point, step, len(states))[0]
        inside += int(((mean - states).abs() <= 2 * spread).sum())
        count += states.numel()
    return inside / count


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The median of the wall seconds of so many repeats."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def speed(case: Case, model: LatentModel, test: Sweep) -> dict[str, float]:
    """Seconds of one core, for one parameter and for all of the test grid."""
    assert case.sweep
    equation, grid = case.build_equation(), case.grid.grid()
    every, steps = multiple(case.output.every, case.step), case.steps()
    varied = [case.varied(case.sweep.values(p)) for p in test.parameters]
    starts = [v.initial.state(v.build_equation(), grid, (0,), 0) for v in varied]

    def solve(state: np.ndarray) -> None:
        simulation = Simulation(equation, grid, case.time.stepper, case.step, state, threads=1, cfl=case.time.cfl)
        simulation.run(steps, lambda n: every - n % every, lambda n: simulation.state if n % every == 0 else None)

    step, times = float(test.times[1] - test.times[0]), len(test.times)
    first = torch.from_numpy(np.concatenate(starts).reshape(len(starts), -1)).float()

    def predict(part: slice) -> None:
        model.predict(first[part], test.parameters[part], step, times)

    def predict_all() -> None:
        for begin in range(0, len(first), BATCH):
            predict(slice(begin, begin + BATCH))

    predict(slice(0, 1))
    solve(starts[0])
    found = {
        "solver, one": seconds(lambda: solve(starts[0]), 5),
        "model, one": seconds(lambda: predict(slice(0, 1)), 15),
        "model, all": seconds(predict_all, 3),
    }
    if all(name.startswith("initial.") for name in case.sweep.parameters):
        found["solver, all"] = seconds(lambda: solve(np.concatenate(starts)), 1)
    else:
        found["solver, all"] = len(starts) * found["solver, one"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--weights", help="a file, or the name of weights that ship; by default CASE-lasdi")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case))
    if case.sweep is None or not case.sweep.test_counts:
        parser.error(f"{options.case} has no [sweep] with test_counts")
    model = LatentModel.load(locate(options.weights or f"{options.case.stem}-lasdi", Path()))
    training, test = runs(case, case.sweep.points()), runs(case, case.sweep.test_points())
    table = errors(case, model, training, test)
    print(f"{len(test)} parameters, {len(training)} training runs, {model.basis.modes.shape[1]} modes; per cent")
    print(f"{'':14}{'max':>8}{'90 %':>8}{'75 %':>8}{'median':>8}")
    figures: dict[str, Any] = {}
    for name, values in table.items():
        figures[name] = [100 * float(np.quantile(values, q)) for q in (1.0, 0.9, 0.75, 0.5)]
        print(f"{name:14}" + "".join(f"{v:8.3f}" for v in figures[name]))
    if model.spread is not None:
        figures["within two deviations"] = calibration(model, test)
        print(f"within two deviations: {100 * figures['within two deviations']:.1f} %")
    clock = figures["seconds"] = speed(case, model, test)
    for count in ("one", "all"):
        ours, theirs = clock[f"model, {count}"], clock[f"solver, {count}"]
        print(f"seconds, {count}: solver {theirs:.4g}, model {ours:.4g}, ratio {theirs / ours:.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
