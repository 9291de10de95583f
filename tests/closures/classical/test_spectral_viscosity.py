"""Spectral viscosity: the fit recovers rates, the linear part is the viscosity, and rollouts train it further."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tomli_w

from subgrid.closures.classical.spectral_viscosity import SpectralViscosity, by_shell, damping, shell_rates
from subgrid.closures.learning import weights_file
from subgrid.commands.cli import DONE, MISTAKE, execute
from subgrid.commands.run import run
from subgrid.solver.backend import select
from subgrid.solver.case.reading import read_case
from subgrid.solver.closure import ClosureError, Problem
from subgrid.solver.equations import Burgers
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms

CASE: dict[str, Any] = {
    "title": "tiny",
    "equation": {"name": "burgers", "viscosity": 0.02},
    "grid": {"shape": [32], "length": [6.0]},
    "time": {"end": 0.8, "step": 0.02, "stepper": "etdrk2"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.2},
    "reference": {
        "shape": [128],
        "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 5.0, "scale": 2.0},
        "restrict": "filter",
    },
    "training": {"trajectories": 24, "validation": 8, "start": 0.4, "end": 1.2, "every": 0.2, "seed": 2},
    "train": {
        "spectral-viscosity": {
            "threads": 1,
            "rollout": {"unroll": 4, "every": 5, "steps": 12, "batch": 8, "validate_every": 4, "learning_rate": 0.02},
        }
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the case and its fitted weights, the cache beside them."""
    folder = tmp_path_factory.mktemp("spectral-viscosity")
    (folder / "tiny.toml").write_text(tomli_w.dumps(CASE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        assert train("--out", "fitted.safetensors") == DONE
        yield folder


def train(*arguments: str) -> int:
    return execute(["train", "tiny.toml", "--closure", "spectral-viscosity", "--json", *arguments])


def pairs(grid: Grid, rates: np.ndarray, samples: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Random states, and the term -rates u_hat plus a part that is orthogonal to u in every mode."""
    transforms, generator = Transforms(grid), np.random.default_rng(0)
    u = transforms.to_spectrum(generator.standard_normal((samples, len(rates), *grid.shape))) * grid.mask()
    h = (-by_shell(rates, grid) + 0.7j * grid.wavenumbers()[-1]) * u
    return transforms.to_physical(u), transforms.to_physical(h)


@pytest.mark.parametrize("grid", [Grid((32,), (6.0,)), Grid((24, 20), (6.0, 5.0))], ids=["1d", "2d"])
def test_the_fit_recovers_the_rates_of_each_field_and_shell(grid):
    shells = np.arange(grid.shells().max() + 1.0)
    rates = np.stack([0.01 * shells**2, -0.1 + 0.02 * shells])
    found = shell_rates(*pairs(grid, rates), grid)
    present = np.bincount(grid.shells()[grid.mask()], minlength=len(shells)) > 0
    np.testing.assert_allclose(found[:, present], rates[:, present], rtol=1e-12, atol=1e-13)
    assert not found[:, ~present].any()


def test_the_array_code_is_the_same_damping_in_numpy_and_torch():
    grid, rates = Grid((24, 20), (6.0, 5.0)), np.random.default_rng(1).random((1, 20))
    state = np.random.default_rng(2).standard_normal((3, 1, 24, 20))
    transforms = Transforms(grid)
    expected = transforms.to_physical(-by_shell(rates, grid) * transforms.to_spectrum(state))
    np.testing.assert_allclose(damping(rates, Operators(grid), state), expected, atol=1e-13)
    torch = select("torch")
    found = damping(torch.asarray(rates), Operators(grid, backend=torch), torch.asarray(state))
    np.testing.assert_allclose(torch.to_numpy(found), expected, atol=1e-13)


def write(path: Any, grid: Grid, equation: Burgers, rates: np.ndarray) -> None:
    header = {
        "closure": "spectral-viscosity",
        "version": "0",
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": ["velocity"],
        "shape": list(grid.shape),
        "length": list(grid.length),
        "normalisation": {},
        "training_case": "",
        "training_command": "",
        "seeds": {},
        "scores": {},
        "step": 0.01,
    }
    power = np.full((1, rates.shape[1]), 1e-3)
    weights_file.save(path, {"coefficients": rates, "residual_spectrum": power}, header)


def test_rates_proportional_to_k2_are_a_viscosity_and_scale_multiplies_them(tmp_path):
    grid, k = Grid((32,), (6.0,)), 2 * np.pi / 6.0
    plain, viscous = Burgers(viscosity=0.02), Burgers(viscosity=0.05)
    write(tmp_path / "w.safetensors", grid, plain, 0.015 * (k * np.arange(17.0)[None]) ** 2)
    state = np.sin(k * grid.coordinates()[0])[None, None] + 0.3 * np.cos(3 * k * grid.coordinates()[0])

    def reached(equation: Burgers, *closures: Any) -> np.ndarray:
        simulation = Simulation(equation, grid, "etdrk4", 0.01, state, closures=closures, folder=tmp_path)
        simulation.run(20)
        return simulation.state

    expected = reached(viscous)
    closure = SpectralViscosity(weights="w.safetensors", scale=2.0)
    np.testing.assert_allclose(reached(plain, closure), expected, rtol=1e-12, atol=1e-13)
    tendency = reached(plain, SpectralViscosity(weights="w.safetensors", scale=2.0, linear=False))
    assert 1e-8 < np.abs(tendency - expected).max() < 0.05 * np.abs(reached(plain) - expected).max()
    noisy = reached(plain, SpectralViscosity(weights="w.safetensors", scale=2.0, noise="residual"))
    # each mode gains h E|xi|^2 per step: 1e-3 * 0.01 * 20 steps at most, less what viscosity takes
    assert 1e-3 < np.std(noisy - expected) < np.sqrt(2e-4 * 31)


def test_one_fit_takes_seconds_lowers_the_error_of_runs_and_rollouts_lower_it_further(place, capsys):
    scores = weights_file.load("fitted.safetensors")[1]["scores"]
    assert scores["correlation"] > 0 and scores["relative_error"] < 1
    assert train("--objective", "rollout", "--out", "trained.safetensors") == DONE
    log = [json.loads(line) for line in next(place.glob("cache/training-*-trained/training.jsonl")).open()]
    trained = weights_file.load("trained.safetensors")[1]["scores"]
    assert trained["rollout_error"] == min(entry["valid_error"] for entry in log) < 1
    case = read_case("tiny.toml")
    for name in ("fitted", "trained"):
        ds = run(case, closures=[{"name": "spectral-viscosity", "weights": f"{name}.safetensors"}], progress=False)
        assert np.isfinite(ds["velocity"]).all()
    first, _ = weights_file.load("fitted.safetensors")
    assert train("--out", "again.safetensors") == DONE
    again, _ = weights_file.load("again.safetensors")
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unroll", "4"], "the one-step objective has no rollout"),
        (["--objective", "rollout", "--unroll", "3"], "not a multiple of the 10 steps between samples"),
        (["--set", "train.spectral-viscosity.steps=3"], "train.spectral-viscosity.steps"),
        (["--set", "equation.discretisation=finite-volume", "--set", "time.stepper=ssp-rk2"], "made for Fourier grids"),
    ],
)
def test_unsuitable_options_are_refused(place, arguments, message, capsys):
    assert train(*arguments, "--out", "refused.safetensors") == MISTAKE
    assert message in capsys.readouterr().err


def test_other_grids_and_equations_are_refused_by_name(place):
    case = read_case("tiny.toml")
    problem = Problem(case.build_equation(), Grid((48,), (6.0,)), 0.02, 1, 0.0, (0,), 0, folder=place)
    with pytest.raises(ClosureError, match=r"is for the shape \[32\], the case has \[48\]"):
        SpectralViscosity(weights="fitted.safetensors").start(problem)
    cells = Burgers(viscosity=0.02, discretisation="finite-volume")
    with pytest.raises(ClosureError, match="made for Fourier grids, not for burgers on finite volumes"):
        SpectralViscosity().start(Problem(cells, Grid((32,), (6.0,)), 0.02, 1, 0.0, (0,), 0))


@pytest.mark.parametrize(
    "tensors",
    [{}, {"coefficients": np.zeros((1, 3))}, {"coefficients": np.zeros((2, 17))}, {"coefficients": np.zeros(17)}],
    ids=["none", "few shells", "two fields", "no fields"],
)
def test_weights_whose_contents_do_not_fit_are_named(tmp_path, tensors):
    grid, equation = Grid((32,), (6.0,)), Burgers(viscosity=0.02)
    write(tmp_path / "w.safetensors", grid, equation, np.zeros((1, 17)))
    _, header = weights_file.load(tmp_path / "w.safetensors")
    weights_file.save(tmp_path / "w.safetensors", tensors, header)
    problem = Problem(equation, grid, 0.02, 1, 0.0, (0,), 0, folder=tmp_path)
    with pytest.raises((ClosureError, ValueError), match=r"w\.safetensors"):
        SpectralViscosity(weights="w.safetensors").start(problem)
