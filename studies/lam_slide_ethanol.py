"""Ethanol: trajectories of the sGDML force field, 10 frames of 5 fs given and 20 predicted.

    python studies/lam_slide_ethanol.py data FORCE_FIELD            trajectories, into --work
    python studies/lam_slide_ethanol.py baselines FORCE_FIELD       constant velocity, rest, linear fit, a transformer
    python studies/lam_slide_ethanol.py train FORCE_FIELD           `lam-slide`

FORCE_FIELD is an .npz file of sGDML (Chmiela et al., Nat. Commun. 9 (2018) 3887). Molecules start at geometries of the
file's training set, with Maxwell velocities of --kelvin, at which these geometries
were drawn; then velocity Verlet with 1 fs at constant energy, --settle fs before the first frame. Molecules for
validation and test are others than those for training. Masses in u, lengths in angstrom, energies in kcal/mol; one
unit of time is 10 fs. ADE and FDE are mean and final displacement over atoms, for samples the mean over 5. One line of
JSON per row is appended to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lam_slide_baselines as baselines
import numpy as np
import torch
from lam_slide import identifiers, rebuilt, row, sampled, samples_row
from numpy.typing import NDArray

from subgrid.closures.lam_slide.options import TrainingOptions
from subgrid.closures.lam_slide.training import Training
from subgrid.ingest.training_set import Dataset, Model
from subgrid.solver.equations.particles.equation import ChargedParticles
from subgrid.solver.grid import Grid

KCAL = 4.184e-2  # 1 kcal/mol in u (angstrom / 10 fs)^2
BOLTZMANN = 0.0019872041  # kcal/mol per kelvin
STEP, STEPS = 0.1, 5  # of the integrator, and of it between two frames
MASSES = {1: 1.008, 6: 12.011, 8: 15.999}
COUPLINGS = {z: float(np.log(mass / 6)) for z, mass in MASSES.items()}  # which tell the species
OPTIONS: dict[str, Any] = {
    "orientations": "space",
    "identifiers": 9,
    "latents": 9,
    "window": 10,
    "predictor": "transformer",
    "baseline": "rest",
    "transformer_steps": 1600,
    "steps": 300,
    "flow_steps": 200,
    "joint_steps": 50,
    "width": 48,
    "heads": 4,
    "flow_width": 48,
    "batch": 32,
    "threads": 1,
    "checkpoint_every": 250,
}
SAMPLES, EVALUATIONS = 5, (1, 10)
MOLECULES = {"train": 100, "validation": 8, "test": 40}
FRAMES = 200  # of each trajectory
COUNT = 30


class ForceField:
    """Energies and forces of sGDML, from descriptors 1 / r_ij and all their permutations."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
        self.z = data["z"].astype(int)
        atoms = len(self.z)
        self.i, self.j = np.tril_indices(atoms, -1)
        self.width, self.offset = float(data["sig"]), float(data["c"])
        count, permutations = len(self.i), len(data["perms"])
        order = data["tril_perms_lin"].astype(int)

        def permuted(x: NDArray) -> NDArray:
            return np.tile(x, permutations)[:, order].reshape(-1, permutations, count, order="F").reshape(-1, count)

        self.known = permuted(data["Rt_desc"].T)
        self.slopes = permuted(np.squeeze(data["Rt_d_desc_alpha"], -1))
        self.geometries = data["Rt_desc"].T

    def __call__(self, x: NDArray) -> tuple[NDArray, NDArray]:
        """Energies (molecule,) in kcal/mol and forces (molecule, atom, 3) in kcal/mol/angstrom of positions."""
        apart = x[:, self.i] - x[:, self.j]
        inverse = 1 / np.linalg.norm(apart, axis=-1)
        squares = (inverse**2).sum(1)[:, None] + (self.known**2).sum(1) - 2 * inverse @ self.known.T
        far = np.sqrt(5 * np.maximum(squares, 0))
        along = inverse @ self.slopes.T - (self.known * self.slopes).sum(1)
        base = 5 / (3 * self.width**3) * np.exp(-far / self.width)
        weight = along * base * 5 / self.width
        longer = base * (far + self.width)
        energy = (along * longer).sum(1) + self.offset
        # derivative by the descriptor, (molecule, pair)
        slope = weight.sum(1)[:, None] * inverse - weight @ self.known - longer @ self.slopes
        pull = (slope * inverse**3)[..., None] * apart
        force = np.zeros_like(x)
        for k in range(len(self.i)):
            force[:, self.i[k]] -= pull[:, k]
            force[:, self.j[k]] += pull[:, k]
        return energy, force

    def positions(self, inverse: NDArray) -> NDArray:
        """A molecule (atom, 3) with the distances 1 / inverse, by multidimensional scaling."""
        atoms = len(self.z)
        squares = np.zeros((atoms, atoms))
        squares[self.i, self.j] = squares[self.j, self.i] = inverse**-2
        centred = np.eye(atoms) - 1 / atoms
        values, vectors = np.linalg.eigh(-0.5 * centred @ squares @ centred)
        return vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0))


def trajectories(field: ForceField, kelvin: float, settle: float, seed: int) -> NDArray:
    """(trajectory, frame, 7, atom) of all molecules, at rest and without spin as a whole."""
    generator = np.random.default_rng(seed)
    total = sum(MOLECULES.values())
    chosen = generator.choice(len(field.geometries), total, replace=False)
    x = np.stack([field.positions(field.geometries[n]) for n in chosen])
    mass = np.array([MASSES[z] for z in field.z])[:, None]
    v = np.sqrt(BOLTZMANN * kelvin * KCAL / mass) * generator.standard_normal(x.shape)
    x -= (mass * x).sum(1, keepdims=True) / mass.sum()
    v -= (mass * v).sum(1, keepdims=True) / mass.sum()
    for n in range(total):
        spin = (mass * np.cross(x[n], v[n])).sum(0)
        inertia = sum(m * (r @ r * np.eye(3) - np.outer(r, r)) for m, r in zip(mass[:, 0], x[n], strict=True))
        v[n] -= np.cross(np.linalg.solve(inertia, spin), x[n])
    coupling = np.broadcast_to([COUPLINGS[z] for z in field.z], (total, len(field.z)))
    energy, force = field(x)
    first = energy + 0.5 * (mass * v**2).sum((1, 2)) / KCAL
    skipped = round(settle / (10 * STEP * STEPS))
    found = []
    for frame in range(skipped + FRAMES):
        if frame >= skipped:
            found.append(np.concatenate([x, v, coupling[..., None]], -1).swapaxes(1, 2))
        for _ in range(STEPS):
            v = v + 0.5 * STEP * KCAL * force / mass
            x = x + STEP * v
            energy, force = field(x)
            v = v + 0.5 * STEP * KCAL * force / mass
    last = energy + 0.5 * (mass * v**2).sum((1, 2)) / KCAL
    kinetic = 0.5 * (mass * v**2).sum((1, 2)) / KCAL
    about = {"drift of the energy": float(np.abs(last - first).mean()), "kinetic energy": float(kinetic.mean())}
    print(json.dumps(about | {"kelvin": float(kinetic.mean() / (1.5 * BOLTZMANN * (len(field.z) - 2)))}))
    return np.stack(found, 1)


def training_set(states: NDArray, atoms: int) -> Dataset:
    """All molecules but those for the test, as particles whose law is not given."""
    equation, grid = ChargedParticles(omit=("interaction",)), Grid((atoms,), (float(atoms),))
    about = {
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": [f.name for f in equation.fields],
        "shape": [atoms],
        "length": [float(atoms)],
        "seeds": {},
        "training_case": "",
        "training_command": "studies/lam_slide_ethanol.py train FORCE_FIELD",
    }
    first, second = MOLECULES["train"], MOLECULES["train"] + MOLECULES["validation"]
    sequences = states[:first], states[first:second]
    empty = (np.zeros(0), np.zeros(0))
    model = Model(equation, grid, "velocity-verlet", STEP, STEPS, None)
    return Dataset(empty, empty, about, sequences, model)


def windows(states: NDArray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions, velocities and couplings of the windows of the test, one after the other."""
    test = states[-MOLECULES["test"] :]
    parts = [test[:, i : i + COUNT] for i in range(0, FRAMES - COUNT + 1, COUNT)]
    u = torch.from_numpy(np.concatenate(parts)).float().transpose(2, 3)
    return u[..., :3], u[..., 3:6], u[:, 0, :, 6]


def baseline_rows(
    training: Training, states: NDArray, about: list[str], seconds: float, rate: float
) -> list[dict[str, Any]]:
    o = training.options
    x, _, c = windows(states)
    past, true = x[:, : o.past], x[:, o.past :]
    rest = past[:, -1:].expand_as(true)
    rows = [
        row("constant velocity", baselines.constant_velocity(past, o.future), true),
        row("rest", rest, true),
        row("mean of the frames given", past.mean(1, keepdim=True).expand_as(true), true),
        row("linear fit", baselines.linear_fit(past, o.future), true),
    ]
    for name in about:
        predict, steps = baselines.transformer(training, seconds, BASES[name], rate)
        with torch.no_grad():
            found = predict(past, c)
        rows.append(row(f"transformer about {name}", found, true, seconds=seconds, steps=steps, rate=rate))
    return rows


def at_rest(past: torch.Tensor, count: int) -> torch.Tensor:
    return past[:, -1:].expand(-1, count, -1, -1)


BASES = {"constant velocity": baselines.constant_velocity, "rest": at_rest}


def learned_rows(training: Training, states: NDArray) -> list[dict[str, Any]]:
    begin = time.process_time()
    model, header = training.run()
    seconds = time.process_time() - begin
    x, v, c = windows(states)
    past, true = x[:, : model.past], x[:, model.past :]
    atoms = x.shape[2]
    with torch.no_grad():
        found = model.predict(past, c)[0]
    predictor = model.options["predictor"]
    common = {"seconds": seconds, "predictor": predictor}
    rows = [{"name": "validation"} | common | header["scores"], row("predictor", found, true, **common)]
    known = identifiers(model, len(x), atoms, 0)
    rows.append(row("reconstruction", rebuilt(model, x, v, c, known), true, **common))
    for n in EVALUATIONS:
        draws = [sampled(model, past, c, identifiers(model, len(x), atoms, k), n, k) for k in range(SAMPLES)]
        rows.append(samples_row("lam-slide", torch.stack(draws), true, evaluations=n, **common))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["data", "baselines", "train"])
    parser.add_argument("field", type=Path, metavar="FORCE_FIELD")
    parser.add_argument("--kelvin", type=float, default=500.0)
    parser.add_argument("--settle", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU seconds of each transformer")
    parser.add_argument(
        "--about", nargs="*", choices=list(BASES), default=list(BASES), help="bases of the transformers"
    )
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate of the transformers")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="options of the training")
    parser.add_argument("--work", type=Path, default=Path("lam-slide-ethanol"), help="folder of the trajectories")
    parser.add_argument("--out", type=Path, default=Path("lam-slide-ethanol.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    field, path = ForceField(options.field), options.work / "trajectories.npy"
    if options.table == "data":
        options.work.mkdir(parents=True, exist_ok=True)
        np.save(path, trajectories(field, options.kelvin, options.settle, 0))
        return
    states = np.load(path, allow_pickle=False)
    changes = {key: json.loads(value) for key, value in (text.split("=", 1) for text in options.set)}
    chosen = TrainingOptions(**OPTIONS | changes)
    folder = options.work / f"training-{chosen.seed}" if options.table == "train" else Path(tempfile.mkdtemp())
    training = Training(training_set(states, len(field.z)), chosen, folder)
    if options.table == "train":
        rows = learned_rows(training, states)
    else:
        rows = baseline_rows(training, states, options.about, options.seconds, options.rate)
    for found in rows:
        line = json.dumps({"set": changes} | found, default=float)
        print(line, flush=True)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
