"""equation-discovery: candidates, the formula that it finds, and the closure that its weights make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from subgrid.closures.equation_discovery import EquationDiscovery
from subgrid.closures.equation_discovery.candidates import CANDIDATES
from subgrid.closures.equation_discovery.closure import formula
from subgrid.closures.learning import weights_file
from subgrid.commands.cli import DONE, MISTAKE, execute
from subgrid.solver.backend import select
from subgrid.solver.closure import ClosureError, Problem
from subgrid.solver.equations import Burgers, Kolmogorov, LinearAdvection
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators, Transforms

SQUARE, LINE = Grid((32, 32), (2 * np.pi, 2 * np.pi)), Grid((48,), (2 * np.pi,))
CASE: dict[str, Any] = {
    "title": "flow without its advection",
    "equation": {"name": "kolmogorov", "viscosity": 0.02, "omit": ["advection"]},
    "grid": {"shape": [32, 32], "length": [6.25, 6.25]},
    "time": {"end": 0.4, "step": 0.02, "stepper": "etdrk4"},
    "initial": {"kind": "reference"},
    "output": {"every": 0.1},
    "reference": {
        "shape": [64, 64],
        "initial": {"kind": "gaussian-random-field", "exponent": 4.0, "tau": 1.5, "scale": 3.0},
        "restrict": "subsample",
    },
    "training": {"trajectories": 8, "validation": 2, "start": 0.0, "end": 0.8, "every": 0.1, "seed": 2},
    "train": {
        "equation-discovery": {
            "threads": 1,
            "rollout": {"unroll": 2, "every": 5, "steps": 6, "batch": 4, "validate_every": 3, "windows": 4},
        }
    },
}


def train(*arguments: str, as_json: bool = True) -> int:
    quiet = ["--json"] if as_json else []
    return execute(["train", "tiny.toml", "--closure", "equation-discovery", *quiet, *arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the case and its weights, the cache beside them."""
    folder = tmp_path_factory.mktemp("discovery")
    (folder / "tiny.toml").write_text(tomli_w.dumps(CASE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        assert train("--out", "found.safetensors") == DONE
        yield folder


def smooth(grid: Grid, samples: int = 2) -> np.ndarray:
    """Low modes alone, so that cubic products are resolved; (sample, 1, *grid)."""
    transforms = Transforms(grid)
    u = transforms.to_spectrum(np.random.default_rng(0).standard_normal((samples, 1, *grid.shape)))
    return 30 * transforms.to_physical(u * (grid.shells() < 4) * (grid.shells() > 0))


def derivative(field: np.ndarray, axis: int) -> np.ndarray:
    """Along an axis of length 2 pi, by full complex transforms."""
    n = field.shape[axis]
    k = np.fft.fftfreq(n, 1 / n)
    k[n // 2] = 0
    shape = [-1 if a == axis % field.ndim else 1 for a in range(field.ndim)]
    return np.fft.ifft(1j * k.reshape(shape) * np.fft.fft(field, axis=axis), axis=axis).real


def cut(field: np.ndarray, grid: Grid) -> np.ndarray:
    transforms = Transforms(grid)
    return transforms.to_physical(transforms.to_spectrum(field) * grid.mask())


def test_candidates_of_kolmogorov_flow_are_what_their_names_say():
    w = smooth(SQUARE)
    u, v = Kolmogorov(viscosity=0.1).velocity(w, SQUARE)
    x, y = -1, -2

    def laplacian(a):
        return derivative(derivative(a, x), x) + derivative(derivative(a, y), y)

    w_x, w_y = derivative(w, x), derivative(w, y)
    u_x, u_y, v_x, v_y = (derivative(a, axis) for a in (u, v) for axis in (x, y))
    size = np.sqrt(2 * u_x**2 + 2 * v_y**2 + (u_y + v_x) ** 2)
    viscous = derivative(size * w_x, x) + derivative(size * w_y, y)
    grad = np.hypot(w_x, w_y)
    model = derivative(u_x * w_x + u_y * w_y, x) + derivative(v_x * w_x + v_y * w_y, y)
    expected = {
        "w": w,
        "lap w": laplacian(w),
        "lap^2 w": laplacian(laplacian(w)),
        "lap^3 w": laplacian(laplacian(laplacian(w))),
        "u.grad w": u * w_x + v * w_y,
        "|S| lap w": size * laplacian(w),
        "div(|S| grad w)": viscous,
        "div(|grad w| grad w)": derivative(grad * w_x, x) + derivative(grad * w_y, y),
        "lap div(|S| grad w)": laplacian(viscous),
        "d_i(d_k u_i d_k w)": model,
    }
    known, equation = CANDIDATES["kolmogorov"], Kolmogorov(viscosity=0.1)
    assert list(expected) == list(known.sides)
    torch = select("torch")
    for backend, operators in ((select("numpy"), Operators(SQUARE)), (torch, Operators(SQUARE, backend=torch))):
        found = known.evaluate(equation, list(expected), operators, backend.asarray(w))
        for (name, value), here in zip(expected.items(), found, strict=True):
            kept = cut(value, SQUARE)
            np.testing.assert_allclose(backend.to_numpy(here), kept, atol=1e-10 * np.abs(kept).max(), err_msg=name)


def test_candidates_of_burgers_equation_are_what_their_names_say():
    u = smooth(LINE)
    slope = derivative(u, -1)
    even = [u]
    for _ in range(3):
        even.append(derivative(derivative(even[-1], -1), -1))
    viscous = derivative(np.abs(slope) * slope, -1)
    expected = [*even, u * slope, viscous, derivative(derivative(viscous, -1), -1), derivative(slope**2, -1)]
    known = CANDIDATES["burgers"]
    found = known.evaluate(Burgers(viscosity=0.1), list(known.sides), Operators(LINE), u)
    for name, here, value in zip(known.sides, found, expected, strict=True):
        kept = cut(value, LINE)
        np.testing.assert_allclose(here, kept, atol=1e-10 * np.abs(kept).max(), err_msg=name)


def test_it_finds_the_missing_advection_with_coefficient_one_to_three_digits(place, capsys):
    tensors, header = weights_file.load("found.safetensors")
    assert header["terms"] == ["u.grad w"]
    assert abs(tensors["coefficients"][0] + 1) < 5e-4
    assert header["formula"].startswith("dw/dt += -1") and header["formula"].endswith("u.grad w")
    assert train("--out", "printed.safetensors", as_json=False) == DONE
    assert capsys.readouterr().out.splitlines()[-1] == header["formula"]
    assert train("--out", "printed.safetensors") == DONE
    assert json.loads(capsys.readouterr().out)["formula"] == header["formula"]


def test_weights_by_the_residual_recover_three_digits_from_noisy_pairs(lame_flow, tmp_path):
    """The terms hold the noise of their step, which is smooth: small scales are nearly free of it."""
    from subgrid.closures.learning.learned_closure import TrainingJob

    _, pairs = lame_flow(40)
    origin = {"training_case": "", "training_command": ""}
    errors = {}
    for weighting in ("none", "residual"):
        target, options = tmp_path / f"{weighting}.safetensors", {"weighting": weighting, "tolerance": 0.02}
        EquationDiscovery.train(TrainingJob(options, pairs, target, tmp_path, tmp_path, origin, lambda *a: None))
        tensors, header = weights_file.load(target)
        assert header["terms"] == ["u.grad w"]
        errors[weighting] = abs(tensors["coefficients"][0] + 1)
        assert header["errors"]["chosen"] < 1.02 * header["errors"]["all candidates"]
    assert errors["residual"] < min(2e-4, 0.5 * errors["none"])


def test_training_through_the_solver_refines_the_coefficients(place):
    options = ["--set", 'train.equation-discovery.candidates=["u.grad w", "lap w"]']
    assert train("--objective", "rollout", "--out", "refined.safetensors", *options) == DONE
    header = weights_file.load("refined.safetensors")[1]
    assert header["scores"]["rollout_error"] < 0.2  # 1 without the closure; held for 5 steps


@pytest.mark.parametrize("linear", [True, False])
def test_a_formula_in_a_run_is_the_equation_that_has_its_terms(tmp_path, linear):
    """Without advection, drag and diffusion, given by the formula: the complete equation."""
    bare = Kolmogorov(viscosity=0.0, omit=("advection", "diffusion", "drag"))
    write(tmp_path / "w.safetensors", bare, {"u.grad w": -1.0, "lap w": 0.05, "w": -0.2})
    state = smooth(SQUARE)

    def reached(equation: Kolmogorov, steps: int, *closures: Any) -> np.ndarray:
        simulation = Simulation(equation, SQUARE, "etdrk4", 0.1 / steps, state, closures=closures, folder=tmp_path)
        simulation.run(steps)
        return simulation.state

    expected = reached(Kolmogorov(viscosity=0.05, drag=0.2), 40)
    closure = EquationDiscovery(weights="w.safetensors", linear=linear)
    errors = [np.abs(reached(bare, n, closure) - expected).max() for n in (40, 80)]
    assert 1.8 < errors[0] / errors[1] < 2.2  # a held tendency is of first order in the step
    assert errors[0] < 0.02 * np.abs(expected - state).max()


def test_a_linear_formula_is_never_called(tmp_path):
    equation = Kolmogorov(viscosity=0.01)
    write(tmp_path / "w.safetensors", equation, {"lap w": 0.04})
    closure = EquationDiscovery(weights="w.safetensors")
    simulation = Simulation(equation, SQUARE, "etdrk4", 0.01, smooth(SQUARE), closures=[closure], folder=tmp_path)
    simulation.run(10)
    assert simulation.closures[0].calls == 0
    other = Simulation(Kolmogorov(viscosity=0.05), SQUARE, "etdrk4", 0.01, smooth(SQUARE))
    other.run(10)
    np.testing.assert_allclose(simulation.state, other.state, rtol=1e-11, atol=1e-12)


def write(path: Path, equation: Kolmogorov, terms: dict[str, float]) -> None:
    header = {
        "closure": "equation-discovery",
        "version": "0",
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": ["vorticity"],
        "shape": list(SQUARE.shape),
        "length": list(SQUARE.length),
        "normalisation": {},
        "training_case": "",
        "training_command": "",
        "seeds": {},
        "scores": {},
        "terms": list(terms),
    }
    weights_file.save(
        path, {"coefficients": np.array([*terms.values()]), "residual_spectrum": np.zeros((1, 9))}, header
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--set", 'train.equation-discovery.candidates=["curl w"]'],
            "'curl w' is not known. Remedy: choose from w,",
        ),
        (["--set", "train.equation-discovery.thresholds=[]"], "train.equation-discovery.thresholds"),
        (["--set", "train.equation-discovery.thresholds=[-1.0]"], "a threshold is negative"),
        (["--set", "train.equation-discovery.thresholds=[2.0]"], "no candidate contributes 2 of the term"),
    ],
)
def test_unsuitable_options_are_refused(place, arguments, message, capsys):
    assert train(*arguments, "--out", "refused.safetensors") == MISTAKE
    assert message in capsys.readouterr().err
    assert not Path("refused.safetensors").exists()


def test_equations_without_candidates_are_refused_and_formulas_have_signs():
    with pytest.raises(ClosureError, match=r"made for kolmogorov, burgers, .* or vlasov-poisson, not for advection"):
        EquationDiscovery().start(Problem(LinearAdvection(speed=1.0), LINE, 0.1, 1, 0.0, (0,), 0))
    cells = Burgers(viscosity=0.1, discretisation="finite-volume")
    with pytest.raises(ClosureError, match=r"made for Fourier grids, not for burgers on finite volumes"):
        EquationDiscovery().start(Problem(cells, LINE, 0.1, 1, 0.0, (0,), 0))
    with pytest.raises(ClosureError, match=r"no shipped weights fit burgers.*subgrid train CASE"):
        EquationDiscovery().start(Problem(Burgers(viscosity=0.1), LINE, 0.1, 1, 0.0, (0,), 0))
    assert (
        formula(CANDIDATES["burgers"], ["u_xx", "u u_x"], np.array([0.012346, -1.0]))
        == "du/dt += 0.01235 u_xx - 1 u u_x"
    )


def test_weights_with_unknown_terms_are_named(tmp_path):
    equation = Kolmogorov(viscosity=0.01)
    write(tmp_path / "w.safetensors", equation, {"curl w": 1.0})
    problem = Problem(equation, SQUARE, 0.1, 1, 0.0, (0,), 0, folder=tmp_path)
    with pytest.raises((ClosureError, ValueError), match=r"w\.safetensors.*'curl w' is not a candidate"):
        EquationDiscovery(weights="w.safetensors").start(problem)
