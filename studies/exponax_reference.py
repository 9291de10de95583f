"""Trajectories of exponax as the true solution: a comparison against them, and the missing term from their states.

    python studies/exponax_reference.py FOLDER [--points 128] [--steps 1500]

exponax (pip install exponax) computes the vorticity of Kolmogorov flow on 128 x 128 points in double precision, with
`exponax.stepper.KolmogorovFlowVorticity`, ETDRK4 and the numbers of PARAMETERS. With convection_scale = -1 its
vorticity has our sign. FOLDER/train.npy and FOLDER/test.npy are arrays as exponax and APEBench write them, (sample,
time, channel, x, y). FOLDER/exponax.toml is a case on a quarter of the points along each axis that reads them.

The command prints how far the missing term from their states is from ours, relative to the largest term. Ours is that
of states of our solver from the same starts. The second figure is for the same states, by the right-hand side of
exponax. The command then trains `regression` on the file, compares, and prints the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import exponax
import jax
import jax.numpy as jnp
import numpy as np
import tomli_w
from numpy.typing import NDArray

from subgrid import Simulation, compare, train
from subgrid.ingest.missing_term import MissingTerm
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import training_request
from subgrid.ingest.restriction import Restrict
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import Case
from subgrid.solver.grid import Grid

jax.config.update("jax_enable_x64", True)

LENGTH = 2 * np.pi
PARAMETERS = {"viscosity": 0.004, "drag": 0.1}
FORCING = {"kind": "sine", "amplitude": 1.0, "wavenumber": 4}
STEP, EVERY, SPAN, SPIN_UP = 0.01, 0.1, 4.0, 12.0
TRAIN, TEST = 8, 4


def kept(points: int) -> dict[str, float]:
    """The share of the modes that makes exponax keep those of the 2/3 rule: |k| <= (points - 1) // 3."""
    return {"dealiasing_fraction": ((points - 1) // 3 + 0.5 + 1) / (points // 2)}


def stepper(points: int, step: float = STEP) -> Any:
    """Exponax's stepper of the equation of the case."""
    return exponax.stepper.KolmogorovFlowVorticity(
        2, LENGTH, points, step, diffusivity=PARAMETERS["viscosity"], convection_scale=-1.0,
        drag=-PARAMETERS["drag"], injection_mode=FORCING["wavenumber"], injection_scale=FORCING["amplitude"],
        order=4, **kept(points),
    )  # fmt: skip


def trajectories(points: int, samples: int, seed: int, span: float = SPAN, spin_up: float = SPIN_UP) -> NDArray:
    """(sample, time, channel, x, y): developed flows from random starts, one state every EVERY."""
    noise = np.random.default_rng(seed).standard_normal((samples, 1, points, points))
    k = np.fft.fftfreq(points, 1 / points)
    k2 = k[:, None] ** 2 + k[: points // 2 + 1] ** 2
    spectrum = np.fft.rfft2(noise) * (k2 > 0) * np.exp(-((np.sqrt(k2) - 4) ** 2) / 4)
    start = np.fft.irfft2(spectrum, s=(points, points))
    start *= 3 / start.std(axis=(-2, -1), keepdims=True)
    repeated = exponax.RepeatedStepper(stepper(points), round(EVERY / STEP))
    begun = jnp.asarray(start)
    if spin_up:
        begun = jax.vmap(exponax.repeat(repeated, round(spin_up / EVERY)))(begun)
    return np.asarray(jax.vmap(exponax.rollout(repeated, round(span / EVERY), include_init=True))(begun))


def rate(state: NDArray) -> NDArray:
    """Exponax's du/dt of states (sample, y, x) of this package."""
    points = state.shape[-1]
    derivative = exponax.spectral.build_derivative_operator(2, LENGTH, points)
    nonlinear = exponax.nonlin_fun.VorticityConvection2dKolmogorov(
        2, points, convection_scale=-1.0, injection_mode=FORCING["wavenumber"],
        injection_scale=FORCING["amplitude"], derivative_operator=derivative, **kept(points),
    )  # fmt: skip
    linear = PARAMETERS["viscosity"] * exponax.spectral.build_laplace_operator(derivative) - PARAMETERS["drag"]

    def of_one(u: Any) -> Any:
        spectrum = exponax.fft(u[None], num_spatial_dims=2)
        return exponax.ifft(linear * spectrum + nonlinear(spectrum), num_spatial_dims=2, num_points=points)[0]

    return np.asarray(jax.vmap(of_one)(jnp.asarray(state.swapaxes(-1, -2)))).swapaxes(-1, -2)


def case(folder: Path, points: int, steps: int, span: float = SPAN, samples: tuple[int, int] = (TRAIN, TEST)) -> Path:
    """The file of the case that reads the trajectories in the folder."""
    given = {
        "map": {"vorticity": "u"},
        "length": {"x": LENGTH, "y": LENGTH},
        "times": f"0:{EVERY}",
        "parameters": PARAMETERS,
    }
    data = {
        "title": "Kolmogorov flow of exponax",
        "equation": {"name": "kolmogorov", "forcing": FORCING, **PARAMETERS},
        "grid": {"shape": [points // 4] * 2, "length": [LENGTH] * 2},
        "time": {"end": span, "step": 2 * STEP, "stepper": "etdrk4"},
        "initial": {"kind": "reference"},
        "ensemble": {"members": samples[1]},
        "output": {"every": 2 * EVERY},
        "reference": given | {"file": "test.npy", "trajectories": samples[1]},
        "training": given
        | {"file": "train.npy", "trajectories": samples[0], "validation": max(1, samples[0] // 4)}
        | {"start": 0.0, "end": span, "every": EVERY},
        "train": {
            "regression": {
                "network": "cnn",
                "network_options": {"width": 16, "layers": 4, "kernel": 5},
                "features": "vorticity-velocity",
                "steps": steps,
                "batch": 16,
            }
        },
        "compare": {
            "closures": [
                {"name": "smagorinsky", "coefficient": 0.08},
                {"name": "regression", "weights": "exponax-regression.safetensors"},
            ]
        },
    }
    (folder / "exponax.toml").write_text(tomli_w.dumps(data), encoding="utf-8")
    return folder / "exponax.toml"


def missing_terms(found: Case, states: NDArray, times: int) -> dict[str, float]:
    """The largest difference of missing terms over the first times, of the largest term; states: those of the file."""
    found = with_step(found)
    given = np.array(generate(found, training_request(found)).term)[:, :times]
    equation, coarse = found.build_equation(), found.grid.grid()
    fine = Grid((states.shape[-1],) * 2, (LENGTH,) * 2)
    restrict = Restrict(equation, fine, coarse, "filter")
    missing = MissingTerm(equation, restrict, len(given))
    start = states[: len(given), 0].swapaxes(-1, -2)
    simulation = Simulation(equation, fine, "etdrk4", STEP, start)
    ours, theirs = [], []
    for i in range(times):
        simulation.run(i * round(EVERY / STEP))
        ours.append(missing(np.array(simulation.state)))
        u = states[: len(given), i].swapaxes(-1, -2)
        theirs.append(restrict(rate(u[:, 0])[:, None]) - rate(restrict(u)[:, 0])[:, None])
    scale = float(np.abs(given).max())
    return {
        "states of our own solver": float(np.abs(given - np.stack(ours, 1)).max()) / scale,
        "right-hand side of exponax": float(np.abs(given - np.stack(theirs, 1)).max()) / scale,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1500, help="of the training")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, samples in (("train", TRAIN), ("test", TEST)):
        if not (file := options.folder / f"{name}.npy").is_file():
            np.save(file, trajectories(options.points, samples, seed=samples))
    file = case(options.folder, options.points, options.steps)
    for name, value in missing_terms(read(file), np.load(options.folder / "train.npy"), times=11).items():
        print(f"missing term, {name}: {value:.2g}")
    train(read(file), "regression", out=options.folder / "exponax-regression.safetensors")
    print(compare(read(file), out=options.folder / "compared").table.to_string())


if __name__ == "__main__":
    main()
