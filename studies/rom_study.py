"""The tables of docs/results/lasdi.md: variants of the training of reduced-order models.

    python studies/rom_study.py TABLE [--out FILE]

Each line of a table is one training with its own options, and its errors over the test grid: the maximum over time of
|u_hat - u| / |u|, of which the table gives the maximum and the quantiles over the parameters.

architectures   widths and latents: one stage against several
short           the same with 1,500 steps of the first stage instead of 4,000
published       the same with the published loss of the first stage, trajectory_weight = 0
first           sine, tanh and ReLU in the first layer of the second stage, by ridge regression and by descent
stages          four stages, by ridge regression and by descent
weights         dynamics_weight and coefficient_weight over decades; trajectory_weight 0 is the published loss
burgers         the advection-dominated cases, in one and two dimensions
horizon         trained on half of the time span, predicted over all of it
designs         9 and 16 runs: the uniform grid, and greedy designs by the spread and by the residual
noise           Gaussian noise in the training states, in units of their root mean square

Results are lines of JSON in FILE. Lines that are there are not repeated, and an interrupted training resumes, so the
command can be stopped and run again. --list prints the results so far; --stride uses every n-th test parameter.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rom import stages
from rom_calibration import flat

from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.training import fit
from subgrid.ingest.cache import cache
from subgrid.ingest.prepare import with_step
from subgrid.ingest.sweep import Sweep, runs
from subgrid.solver.case.reading import read

CASES = Path(__file__).parent.parent / "cases"
TWO_STREAM = "rom-two-stream"
QUANTILES = {"max": 1.0, "90 %": 0.9, "75 %": 0.75, "median": 0.5}


@dataclass(frozen=True)
class Line:
    """One training: its case, its options, and the changes of its data."""

    name: str
    case: str = TWO_STREAM
    options: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0
    share: float = 1.0  # of the time span that is used for training
    overrides: tuple[str, ...] = ()  # of the case


ARCHITECTURES = {
    "5, 200-100-50": (5, [200, 100, 50]),
    "5, 100": (5, [100]),
    "4, 200-100-50": (4, [200, 100, 50]),
    "6, 100-50": (6, [100, 50]),
    "8, 200-100-50": (8, [200, 100, 50]),
    "5, 300-100": (5, [300, 100]),
}
STAGES: dict[str, dict[str, Any]] = {
    "ridge": {"stage_fit": "ridge"},
    "descent": {"stage_fit": "descent", "stage_widths": [200, 400], "stage_kappa": 10.0},
}
SHORT = {"stages": 2, "steps": 1500}  # fewer steps, for tables whose lines are compared only with each other


def greedy(runs: int, candidates: int) -> tuple[str, ...]:
    """Overrides of the case for a greedy design."""
    counts = f"sweep.candidate_counts=[{candidates},{candidates}]"
    return ('sweep.design="greedy"', "sweep.counts=[]", f"sweep.runs={runs}", counts)


MATERN = {"kernel": "matern"}
RESIDUAL = {"acquisition": "residual", **MATERN}
TABLES: dict[str, list[Line]] = {
    "designs": [
        line
        for side in (3, 4)
        for line in (
            Line(f"grid {side} x {side}", options=MATERN, overrides=(f"sweep.counts=[{side},{side}]",)),
            Line(f"greedy, spread, {side**2}", options=MATERN, overrides=greedy(side**2, 21)),
            Line(f"greedy, residual, {side**2}", options=RESIDUAL, overrides=greedy(side**2, 11)),
        )
    ],
    "architectures": [
        Line(name, options={"latent": latent, "widths": widths}) for name, (latent, widths) in ARCHITECTURES.items()
    ],
    "short": [
        Line(name, options={"latent": latent, "widths": widths, "steps": 1500})
        for name, (latent, widths) in ARCHITECTURES.items()
    ],
    "published": [
        Line(name, options={"latent": latent, "widths": widths, "trajectory_weight": 0.0})
        for name, (latent, widths) in ARCHITECTURES.items()
    ],
    "first": [
        Line(f"{first}, {fit}", options={"stage_first": first, **SHORT, **how})
        for fit, how in STAGES.items()
        for first in ("sine", "tanh", "relu")
    ],
    "stages": [Line(f"four, {fit}", options={"stages": 4, **how}) for fit, how in STAGES.items()],
    "weights": [
        *(Line(f"dynamics {w:g}", options={"dynamics_weight": w, **SHORT}) for w in (1e-3, 1e-2, 0.1, 1.0, 10.0)),
        *(Line(f"coefficients {w:g}", options={"coefficient_weight": w, **SHORT}) for w in (1e-6, 1e-4, 1e-2)),
        *(Line(f"trajectory {w:g}", options={"trajectory_weight": w, **SHORT}) for w in (0.0, 0.1, 10.0)),
    ],
    "burgers": [Line(case, case=case) for case in ("rom-burgers-1d", "rom-burgers-2d")],
    "horizon": [Line("half of the time", options=SHORT, share=0.5)],
    "noise": [Line(f"noise {n:g}", options=SHORT, noise=n) for n in (0.01, 0.03, 0.1)],
}


@dataclass(frozen=True)
class NoisySweep(Sweep):
    """The first `kept` times of runs, with Gaussian noise of `noise` times their root mean square."""

    noise: float = 0.0
    kept: int | None = None

    def state(self, run: int) -> np.ndarray:
        state = super().state(run)[: self.kept]
        draw = np.random.Generator(np.random.Philox(key=[run, 5])).standard_normal(state.shape, dtype=np.float32)
        return state + np.float32(self.noise * np.sqrt(np.mean(state**2))) * draw


def changed(sweep: Sweep, line: Line) -> Sweep:
    """The training runs of a line."""
    if not line.noise and line.share == 1:
        return sweep
    kept = round((len(sweep.times) - 1) * line.share) + 1
    shorter = replace(sweep, times=sweep.times[:kept])
    return NoisySweep(**shorter.__dict__, noise=line.noise, kept=kept)


def made(table: str, line: Line, stride: int) -> dict[str, Any]:
    """Train one line and evaluate it on the test grid."""
    case = with_step(read(CASES / f"{line.case}.toml", list(line.overrides)))
    assert case.sweep
    networks = {} if table == "designs" or line.case != TWO_STREAM else {"library": "affine", "stages": 3}
    options = case.train.get("lasdi", {}) | networks | line.options | {"spread": False, "threads": 1}
    training, test = runs(case, case.sweep.points()), runs(case, case.sweep.test_points()[::stride])
    folder = cache() / "study" / "".join(c if c.isalnum() else "-" for c in f"{table} {line.name} {line.case}")
    began = time.process_time()
    model = fit(changed(training, line), TrainingOptions(**options), folder)
    took = time.process_time() - began
    step = float(test.times[1] - test.times[0])
    within = round((len(test.times) - 1) * line.share) + 1
    found: dict[str, list[float]] = {}
    for i, point in enumerate(test.parameters):
        states = flat(test, i)
        for name, value in stages(model, states, model.basis.coefficients(states), point, step).items():
            off = (value - states).norm(dim=1) / states.norm(dim=1)
            found.setdefault(name, []).append(float(off[:within].max()))
            if within < len(states):
                found.setdefault(f"{name}, beyond", []).append(float(off.max()))
    errors = {
        name: {label: 100 * float(np.quantile(values, q)) for label, q in QUANTILES.items()}
        for name, values in found.items()
    }
    return {
        "table": table,
        "line": line.name,
        "case": line.case,
        "options": options,
        "parameters": len(test),
        "training seconds": took,
        "errors": errors,
    }


def show(results: list[dict[str, Any]]) -> None:
    """Print the errors, and the gain of further stages over the architectures."""
    for result in results:
        print(f"{result['table']}: {result['line']} ({result['parameters']} parameters, per cent)")
        for name, values in result["errors"].items():
            print(f"  {name:24}" + "".join(f"{label:>8} {v:8.3f}" for label, v in values.items()))
    ratios: dict[str, list[float]] = {label: [] for label in QUANTILES}
    for result in results:
        last = max((n for n in result["errors"] if n.startswith("stage ") and "," not in n), default="stage 1")
        for label in QUANTILES if result["table"] in ("architectures", "short", "published") else ():
            ratios[label].append(result["errors"]["stage 1"][label] / result["errors"][last][label])
    if ratios["max"]:
        medians = ", ".join(f"{label} {np.median(values):.2f}" for label, values in ratios.items())
        print(f"one stage over all stages, median of {len(ratios['max'])} architectures: {medians}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--out", type=Path, default=Path("lasdi-study.jsonl"))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.is_file() else []
    results = [r for r in map(json.loads, lines) if r["table"] in options.tables]
    there = {(r["table"], r["line"], r["case"]) for r in results}
    for table in () if options.list else options.tables:
        for line in TABLES[table]:
            if (table, line.name, line.case) not in there:
                results.append(made(table, line, options.stride))
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(results[-1]) + "\n")
                show(results[-1:])
    show(results)


if __name__ == "__main__":
    main()
