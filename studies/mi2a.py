"""The tables of docs/results/mi2a.md: wave models and their baselines at unseen parameters.

    python studies/mi2a.py multistep CASE      the multistep model, with and without known parameters
    python studies/mi2a.py networks CASE       recurrent networks in the same latents
    python studies/mi2a.py convergence CASE    the same, trained for twice as many steps
    python studies/mi2a.py psi CASE            weights of the dispersion in the loss
    python studies/mi2a.py windows CASE        lengths of the window
    python studies/mi2a.py compression CASE    the published convolutional autoencoder
    python studies/mi2a.py branch CASE         the published network for other numbers of latents
    python studies/mi2a.py baselines CASE      baselines of mi2a_baselines
    python studies/mi2a.py latents CASE        r = 1, 2, 4, 8, with stability of the linearised latent map

Every model predicts from a window of true states; errors count from the end of the window to the end of the run, over
the test runs of [sweep] that no training run equals, and relative to max |u| of the training runs. One line of JSON per
training is appended to --out; a line that is there is not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from mi2a_scores import WINDOW, Test, scores, stability

from subgrid.closures.mi2a.options import TrainingOptions
from subgrid.closures.mi2a.training import AUTOENCODER, fit
from subgrid.ingest.cache import cache
from subgrid.ingest.prepare import with_step
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import read

NETWORKS = {
    "lstm": {"evolution": "lstm", "psi": None},
    "luong": {"evolution": "luong", "psi": None},
    "mi2a": {"evolution": "mi2a"},
    "mi2a, mean square error": {"evolution": "mi2a", "psi": None},
    "mi2a, no derivative branch": {"evolution": "mi2a", "derivative": False},
}
LONGER = {f"{name}, twice the steps": variant for name, variant in NETWORKS.items()}
PSIS = {f"mi2a, psi = {psi}": {"evolution": "mi2a", "psi": psi} for psi in (0.3, 0.9)}
TABLES: dict[str, dict[str, dict[str, Any]]] = {
    "multistep": {
        "multistep": {},
        "multistep, parameters known": {"parameters": True},
        "multistep, attention": {"attention": True},
    },
    "networks": NETWORKS,
    "convergence": LONGER,
    "psi": PSIS,
    "latents": {f"multistep, r = {r}": {"latent": r} for r in (1, 2, 3, 4, 8)},
    "compression": {"multistep, convolutional": {"compression": "convolutional"}},
    "branch": {f"mi2a, r = {r}": {"evolution": "mi2a", "latent": r} for r in (1, 2, 4, 8)},
    "windows": {f"multistep, window {w}": {"window": w} for w in (2, 4, 10, 20)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=[*TABLES, "baselines"])
    parser.add_argument("case", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the case")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one variant of the table")
    parser.add_argument("--save", type=Path, help="folder for the weights")
    parser.add_argument("--skip", nargs="*", default=[], help="baselines that are left out")
    parser.add_argument("--beyond", type=float, nargs="*", default=None, help="a point outside the ranges, tested too")
    parser.add_argument("--noise", type=float, default=0.0, help="on the states of test windows, relative to max |u|")
    parser.add_argument("--longer", action="store_true", help="roll-outs to twice the time of the training too")
    parser.add_argument("--out", type=Path, default=Path("mi2a-study.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = with_step(read(options.case, options.set))
    if case.sweep is None or not len(case.sweep.test_points()):
        parser.error(f"{options.case} has no [sweep] with test_counts or test_runs")
    training = runs(case, case.sweep.points())
    test = Test.of(case, training, options.beyond, options.noise, options.longer)
    done = (
        [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
        if options.out.exists()
        else []
    )
    where = {"case": options.case.stem, "set": options.set, "noise": options.noise}
    where |= {"longer": True} if options.longer else {}
    data = [change for change in options.set if not change.startswith("train.")]  # what changes the runs
    if options.table == "baselines":
        import mi2a_baselines

        key = hashlib.sha256(json.dumps([where["case"], data]).encode()).hexdigest()[:16]
        for name, found in mi2a_baselines.table(
            case, training, test, WINDOW, cache() / "mi2a-study-lasdi" / key, options.skip
        ):
            report(options.out, where | {"name": name} | found)
        return
    for seed in range(options.seeds):
        for name, variant in TABLES[options.table].items():
            if options.only not in (None, name):
                continue
            line = where | {"name": name, "seed": seed}
            if _known(done, line):
                continue
            table = case.train.get("mi2a", {}) | variant | {"seed": seed, "threads": 1}
            chosen = TrainingOptions(**table)
            if options.table == "convergence":
                chosen = chosen.model_copy(update={"span_steps": 2 * chosen.span_steps})
            began = time.process_time()
            autoencoder = {k: v for k, v in chosen.model_dump(mode="json").items() if k in AUTOENCODER}
            if chosen.compression == "registered":  # without random numbers
                del autoencoder["seed"]
            key = hashlib.sha256(json.dumps([where["case"], data, autoencoder]).encode()).hexdigest()[:16]
            model = fit(training, chosen, cache() / "mi2a-study" / key)
            if options.save:
                options.save.mkdir(parents=True, exist_ok=True)
                model.about |= {"training_case": options.case.name, "training_command": "studies/mi2a.py"}
                model.save(options.save / f"{options.case.stem}-{name.replace(' ', '-')}-{seed}.safetensors")
            report(
                options.out,
                line
                | {"seconds": time.process_time() - began, "training": model.about["scores"]}
                | {"chosen": model.about["chosen"], "refinement": model.about["refinement"]}
                | scores(model, test)
                | stability(model, test),
            )


def _known(done: list[dict[str, Any]], line: dict[str, Any]) -> bool:
    return any(all(old.get(k) == v for k, v in line.items()) for old in done)


def report(out: Path, line: dict[str, Any]) -> None:
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(line.get("name"), line.get("seed", ""), {k: v for k, v in line.items() if isinstance(v, float)}, flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
