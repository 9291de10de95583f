"""Accuracy and cost of generative closures on stored pairs, and how their models are trained.

    python studies/latent_diffusion.py train|accuracy|cost|engines CASE WEIGHTS...

train: the models of MODELS, named by the stems of the files WEIGHTS, with equal steps, batches and learning rates.

accuracy: errors of the mean of samples at the times --at, on pairs of trajectories outside the training and validation
sets (those of [training] with another seed). With --run expected:1, of the mean and the noise of the coupling "split".
D_MSE is the mean square of (mean of samples - H), where H includes the noise of its step; D_RE is the mean of the
relative error of each pair. "variance" and "spectrum" compare the samples about their mean with the noise that the
model omits, or, if it omits none, with H minus the mean of samples: the ratio of variances, and the largest relative
error of the shell spectrum.

cost: milliseconds per call of the closure for a batch of 16 states, encoder and decoder included. Medians of
interleaved repeats in one process on two threads.

engines: milliseconds of one evaluation of the score network for a batch of 16, in torch, in bfloat16, with
torch.compile (which needs a C++ compiler) and with ONNX Runtime (pip install onnx onnxruntime onnxscript), and the
relative difference from torch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subgrid.closures.latent_diffusion.model import GenerativeTerm
from subgrid.closures.learning.compatibility import locate
from subgrid.closures.learning.scores import shell_spectrum
from subgrid.commands.train import train as train_closure
from subgrid.ingest.prepare import with_step
from subgrid.ingest.training_set import dataset
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case
from subgrid.solver.spectral import spectrum

EFFORT = {"batch": 16, "learning_rate": 2e-3, "reflections": True, "threads": 1}
STEPS = 2000  # of all stages together
PAPER = {"network": "fno", "layers": 4}
PHYSICAL = {"latent": {"kind": "physical"}, "score": PAPER | {"width": 40, "modes": 12}, "score_steps": STEPS}
PATCHES = {
    "latent": {"kind": "autoencoder", "factor": 4, "channels": 1, "width": 32, "blocks": 2},
    "score": PAPER | {"width": 20, "modes": 8},
    "autoencoder_steps": STEPS // 2,
    "score_steps": STEPS // 2,
}


def fourier(points: int) -> dict[str, Any]:
    """Options of a model in Fourier latents."""
    return {"latent": {"kind": "fourier", "points": points}, "score": PATCHES["score"], "score_steps": STEPS}


MODELS: dict[str, dict[str, Any]] = {
    "physical": PHYSICAL | {"parametrisation": "score"},
    "physical-data": PHYSICAL,
    "two-phase": PATCHES | {"parametrisation": "score"},
    "joint": PATCHES | {"parametrisation": "score", "training": "joint"},
    "two-phase-data": PATCHES,
    "joint-data": PATCHES | {"training": "joint"},
    "fourier-32": fourier(32),
    "fourier-24": fourier(24),
    "fourier-16": fourier(16),
    "fourier-12": fourier(12),
}
SEED = 3000  # of the test trajectories
TRAJECTORIES = 4
BATCH = 16


def train(path: Path, files: list[Path]) -> None:
    """Train the model that each file is named after, and print its scores."""
    for file in files:
        changed = read(path).model_copy(update={"train": {"latent-diffusion": EFFORT | MODELS[file.stem]}})
        began = time.perf_counter()
        command = f"{Path(__file__).name} train {file.stem}"
        origin = {"training_case": path.name, "training_command": command}
        scores = train_closure(changed, "latent-diffusion", out=file, progress=False, origin=origin)["scores"]
        words = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
        print(f"{file.stem:16} {time.perf_counter() - began:6.0f} s  {words}", flush=True)


def unseen(case: Case) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """States and terms (trajectory, time, field, *grid) of the test trajectories, and their times."""
    assert case.training
    table = case.training.model_copy(update={"seed": SEED, "trajectories": TRAJECTORIES + 1, "validation": 1})
    pairs = dataset(case.model_copy(update={"training": table}), lambda done, total, what: None)
    state, term = (torch.from_numpy(part).reshape(TRAJECTORIES, -1, *part.shape[1:]) for part in pairs.train)
    return state, term, table.start + table.every * np.arange(state.shape[1])


def drawn(model: GenerativeTerm, state: torch.Tensor, sampler: Any, evaluations: int, count: int, **options: Any):
    """M(u) + samples of the residual, (sample, batch, field, *grid)."""
    shape = model.latent_shape(state.shape[2:])

    def draw_noise() -> torch.Tensor:
        return torch.randn(len(state), *shape)

    mean = model.conditional_mean(state)
    if sampler == "expected":  # the mean of the coupling "split"
        return (mean + model.expected(state, mean))[None]
    draws = (
        model.sampled(state, mean, draw_noise(), sampler, evaluations, draw_noise, **options) for _ in range(count)
    )
    return mean + torch.stack(list(draws))


@torch.inference_mode()
def accuracy(
    case: Case, files: list[str], at: list[float], runs: list[tuple[str, int]], samples: int, pairs: int, tau_max: float
) -> None:
    """Print the table of errors."""
    state, term, times = unseen(case)
    equation, grid = case.build_equation(), case.grid.grid()
    law = None
    if equation.noise and not equation.has("noise"):
        density = np.ones(grid.spectral_shape)
        total, modes = (
            spectrum(values[None], grid, density)[0] for values in (equation.noise.law(grid).amplitude, density)
        )
        law = total / case.step / np.maximum(modes, 1)
    print("weights                        sampler        N     t    rms H   D_MSE     D_RE   variance  spectrum")
    for name in files:
        model, _, noise = GenerativeTerm.load(locate(name, Path()))
        for sampler, evaluations in runs:
            for t in at:
                n = int(np.argmin(np.abs(times - t)))
                half = pairs // (2 * TRAJECTORIES)
                torch.manual_seed(0)
                near = slice(max(0, n - half), n + half)
                u, h = state[:, near].flatten(0, 1), term[:, near].flatten(0, 1)
                found = torch.cat(
                    [drawn(model, part, sampler, evaluations, samples, tau_max=tau_max) for part in u.split(BATCH)], 1
                )
                mean = found.mean(0)
                error = (mean - h).flatten(1).norm(dim=1) / h.flatten(1).norm(dim=1)
                count = len(found)
                power = shell_spectrum((found - mean).flatten(0, 1).numpy())[0] * count / max(count - 1, 1)
                if sampler == "expected":
                    power = noise[0]
                true = law if law is not None else shell_spectrum((mean - h).numpy())[0] / (1 + 1 / count)
                true = np.pad(true, (0, max(0, len(power) - len(true))))[: len(power)]
                held = true > 0.01 * true.max()
                print(
                    f"{Path(name).stem:30} {sampler:14} {evaluations:2d} {t:5.0f}  {h.square().mean().sqrt():.4f} "
                    f"{(mean - h).square().mean():.3e}  {error.mean():.4f}  {_total(power) / _total(true):.4f}  "
                    f"{np.abs(power[held] / true[held] - 1).max():.4f}",
                    flush=True,
                )


def _total(spectrum: np.ndarray) -> float:
    """The sum over shells s of power times the number of modes, approximately 2 pi s."""
    return float((spectrum * np.maximum(2 * np.pi * np.arange(len(spectrum)), 1)).sum())


@torch.inference_mode()
def cost(case: Case, files: list[str], runs: list[tuple[str, int]], repeats: int) -> None:
    """Print milliseconds per call, and the speed-up over the slowest model."""
    grid = case.grid.grid()
    state = torch.randn(BATCH, len(case.build_equation().fields), *grid.shape)
    calls: dict[str, Any] = {}
    for name in files:
        model, _, _ = GenerativeTerm.load(locate(name, Path()))
        for sampler, evaluations in runs:
            for student in {False, model.student is not None and (sampler, evaluations) == ("exponential", 1)}:
                label = f"{Path(name).stem:30} {sampler:14} {evaluations:2d}{' student' if student else ''}"
                calls[label] = lambda m=model, s=sampler, e=evaluations, d=student: drawn(
                    m, state, s, e, 1, distilled=d
                )
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(repeats):
        for label, call in calls.items():
            began = time.perf_counter()
            call()
            taken[label].append(time.perf_counter() - began)
    slowest = max(float(np.median(values)) for values in taken.values())
    for label, values in taken.items():
        print(f"{label:60} {1e3 * float(np.median(values)):9.2f} ms   {slowest / float(np.median(values)):7.1f} x")


@torch.inference_mode()
def engines(case: Case, files: list[str], repeats: int) -> None:
    """Print milliseconds per evaluation of each engine, and its difference from torch."""
    grid = case.grid.grid()
    for name in files:
        model, _, _ = GenerativeTerm.load(locate(name, Path()))
        z = torch.randn(BATCH, *model.latent_shape(grid.shape))
        condition = torch.randn(BATCH, model.latent.conditions, *z.shape[2:])
        network = model.denoiser.network
        inputs = (z, torch.full((BATCH,), 1.0), network.prepare(condition))
        calls = {"torch": lambda n=network, i=inputs: n(*i)}

        def half(n: Any = network, i: Any = inputs) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return n(*i).float()

        calls["bfloat16"] = half
        compiled = torch.compile(network)
        calls["torch.compile"] = lambda n=compiled, i=inputs: n(*i)
        if (session := _onnx(network, inputs)) is not None:
            calls["ONNX Runtime"] = session
        expected = network(*inputs)
        for label, call in list(calls.items()):
            try:
                off = (call() - expected).norm() / expected.norm()
            except Exception as error:  # report it, and measure the other engines
                print(f"{Path(name).stem:30} {label:14} fails: {str(error).splitlines()[0][:90]}")
                del calls[label]
                continue
            taken = []
            for _ in range(repeats):
                began = time.perf_counter()
                call()
                taken.append(time.perf_counter() - began)
            print(
                f"{Path(name).stem:30} {label:14} {1e3 * float(np.median(taken)):8.2f} ms   difference {off:.1e}",
                flush=True,
            )


def _onnx(network: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
    """A call of the network through ONNX Runtime; None if that is not installed or the export fails."""
    try:
        import onnxruntime
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(network, inputs, str(file), dynamo=True, verbose=False)
        except Exception as error:
            print(f"ONNX export: {str(error).splitlines()[0][:90]}")
            return None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    fed = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    return lambda: torch.from_numpy(session.run(None, fed)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "accuracy", "cost", "engines"])
    parser.add_argument("case", type=Path)
    parser.add_argument("weights", nargs="+", help="files, or names of shipped weights")
    parser.add_argument("--at", type=float, nargs="+", default=[20.0, 30.0, 35.0], metavar="TIME")
    parser.add_argument("--run", nargs="+", default=["exponential:1"], metavar="SAMPLER:EVALUATIONS")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=64, help="number of pairs around each time")
    parser.add_argument("--tau-max", type=float, default=1.0, help='where "euler-maruyama" begins')
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    if options.what == "train":
        train(options.case, [Path(name) for name in options.weights])
        return
    if options.what != "accuracy":
        torch.set_num_threads(2)
    case = with_step(read(options.case))
    runs = [(s, int(n)) for s, _, n in (run.partition(":") for run in options.run)]
    if options.what == "accuracy":
        accuracy(case, options.weights, options.at, runs, options.samples, options.pairs, options.tau_max)
    elif options.what == "engines":
        engines(case, options.weights, options.repeats)
    else:
        cost(case, options.weights, runs, options.repeats)


if __name__ == "__main__":
    main()
