"""The base class of learned closures: weights are matched by their headers, and importing a closure loads no torch."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from subgrid.closures.classical.spectral_viscosity import SpectralViscosity
from subgrid.closures.classical.subgrid_velocity import CorrelatedVelocity, OUDisplacement
from subgrid.closures.equation_discovery import EquationDiscovery
from subgrid.closures.lam_slide import LamSlide
from subgrid.closures.lasdi import Lasdi
from subgrid.closures.latent_diffusion import LatentDiffusion
from subgrid.closures.learning import compatibility, weights_file
from subgrid.closures.learning.learned_closure import LearnedClosure, TrainingJob
from subgrid.closures.learning.noise import SPECTRUM
from subgrid.closures.mi2a import MI2A
from subgrid.closures.regression import Regression
from subgrid.solver.case.reading import read
from subgrid.solver.closure import ClosureError, Problem, Tendency

ROOT = Path(__file__).parents[3]
METHODS: list[type[LearnedClosure]] = [Regression, LatentDiffusion, Lasdi, MI2A, LamSlide]
FITTED = (EquationDiscovery, SpectralViscosity, OUDisplacement, CorrelatedVelocity)
CASES = {
    Regression: "kolmogorov-les",
    LatentDiffusion: "burgers-forced",
    Lasdi: "rom-oscillator",
    MI2A: "mi2a-convection",
    LamSlide: "lam-slide-charged",
}


class Scaled(LearnedClosure):
    """du/dt gains factor u, the factor from a weights file; has no training."""

    method = "scaled"

    def start(self, problem):
        tensors, _ = weights_file.load(self.find_weights(problem))
        self._factor = float(tensors["factor"])
        return {}

    def __call__(self, view, memory):
        return Tendency(self._factor * view.state), memory


def problem_of(name: str, overrides: tuple[str, ...] = ()) -> Problem:
    folder = ROOT / ("cases" if (ROOT / "cases" / f"{name}.toml").exists() else "studies")
    case = read(folder / f"{name}.toml", overrides)
    initial = case.initial.model_dump(mode="json")
    every = 100 if name == CASES[LamSlide] else 1  # the interval of its frames
    return Problem(case.build_equation(), case.grid.grid(), case.step, every, case.time.start, (0,), 0, initial=initial)


def header_for(problem: Problem, closure: str) -> dict:
    equation, grid = problem.equation, problem.grid
    return {key: {} for key in weights_file.REQUIRED} | {
        "closure": closure,
        "equation": {"name": equation.name} | equation.model_dump(mode="json"),
        "fields": [f.name for f in equation.fields],
        "shape": list(grid.shape),
        "length": list(grid.length),
    }


@pytest.fixture
def reads(monkeypatch):
    """The names of files from which a tensor is read, one entry per tensor."""
    found: list[str] = []

    class Counting:
        def __init__(self, path, framework):
            self.name, self.file = Path(path).name, safe_open(path, framework=framework)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.file.keys()

        def metadata(self):
            return self.file.metadata()

        def get_tensor(self, name):
            found.append(self.name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(weights_file, "safe_open", Counting)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_the_right_shipped_weights_are_found_without_reading_tensors_of_others(method, reads):
    """Every shipped header is read, but tensors come from one file, and each of them once."""
    problem = problem_of(CASES[method])
    closure = method()
    path = closure.find_weights(problem)
    assert reads == [] and weights_file.load_header(path)["closure"] == method.method
    closure.start(problem)
    with safe_open(path, framework="numpy") as file:
        assert reads == [path.name] * len(list(file.keys()))


def test_every_shipped_file_is_found_or_can_be_named():
    """Each belongs to one method, and its header fits the case that it was trained for."""
    known = {method.method: method for method in (*METHODS, *FITTED)}
    for path in sorted((ROOT / "closures" / "weights").glob("*.safetensors")):
        header = weights_file.load_header(path)
        command = shlex.split(header["training_command"])
        changes = tuple(value for key, value in itertools.pairwise(command) if key == "--set" and "grid." in value)
        problem = problem_of(Path(header["training_case"]).stem, changes)
        assert known[header["closure"]](weights=path.stem).find_weights(problem).name == path.name


def test_weights_that_match_only_the_pattern_of_the_file_name_are_not_used(tmp_path, monkeypatch):
    """The header decides, not the name of the file."""
    problem = problem_of("kolmogorov-les")
    monkeypatch.setattr(compatibility, "SHIPPED", tmp_path)
    weights_file.save(tmp_path / "a-scaled.safetensors", {"factor": np.ones(1)}, header_for(problem, "regression"))
    with pytest.raises(ClosureError, match=r"no shipped weights fit kolmogorov.*subgrid train CASE --closure scaled"):
        Scaled().find_weights(problem)
    weights_file.save(tmp_path / "z.safetensors", {"factor": np.ones(1)}, header_for(problem, "scaled"))
    assert Scaled().find_weights(problem) == tmp_path / "z.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"closure": "lasdi"}, "is for the closure lasdi, not for scaled.*Remedy"),
        ({"shape": [8, 8]}, r"is for the shape \[8, 8\].*Remedy: train for this case"),
        ({"fields": ["temperature"]}, "is for the fields.*vorticity"),
    ],
)
def test_a_named_file_of_another_closure_or_problem_is_refused(change, message, tmp_path):
    problem = problem_of("kolmogorov-les")
    file = tmp_path / "w.safetensors"
    weights_file.save(file, {"factor": np.ones(1)}, header_for(problem, "scaled") | change)
    with pytest.raises(ClosureError, match=f"w.safetensors {message}"):
        Scaled(weights=str(file)).find_weights(problem)


def test_shipped_weights_with_other_parameters_are_used_only_if_named(tmp_path, monkeypatch):
    problem = problem_of("kolmogorov-les")
    header = header_for(problem, "scaled")
    header["equation"]["viscosity"] *= 2
    monkeypatch.setattr(compatibility, "SHIPPED", tmp_path)
    weights_file.save(tmp_path / "w.safetensors", {"factor": np.ones(1)}, header)
    assert Scaled(weights="w").find_weights(problem) == tmp_path / "w.safetensors"
    with pytest.raises(ClosureError, match="no shipped weights fit"):
        Scaled().find_weights(problem)


def test_a_learned_closure_is_learned_whether_or_not_it_can_be_trained(tmp_path):
    assert {method.kind for method in (*METHODS, Scaled)} == {"learned"}
    assert [method.learns_from for method in METHODS] == ["training", "training", "sweep", "sweep", "training"]
    assert Scaled().latent_trajectories(np.zeros((3, 1, 4)), 0.1) is None
    job = TrainingJob({}, None, tmp_path / "w", tmp_path, tmp_path, {}, lambda *_: None)
    with pytest.raises(ValueError, match=r"Scaled has no training of its own. Remedy"):
        Scaled.train(job)


@pytest.mark.parametrize("method", METHODS)
def test_training_options_are_declared(method):
    assert "seed" in method.training_options().model_fields


def test_importing_the_closures_loads_no_torch():
    modules = [method.__module__ for method in METHODS] + ["subgrid.closures.learning.learned_closure"]
    modules += [f"{method.__module__.rpartition('.')[0]}.options" for method in METHODS]
    code = f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def without_checksum(path: Path, tensors: dict, header: dict) -> None:
    """Weights as versions without checksums wrote them, and as other programs can write them."""
    save_file(tensors, path, metadata={weights_file.KEY: json.dumps(header)})


WRONG: list[Any] = [None, 3, "x", [], {}, [1, 2, 3], {"kind": "x"}, -1, 1e300]


@pytest.mark.parametrize("method", METHODS)
def test_headers_and_tensors_that_do_not_fit_are_refused_by_name(method, tmp_path):
    """Entries and tensors that are missing, of another type or shape, or not finite: one message that names the file.

    Files without checksums, so that these contents reach the closure.
    """
    problem, path = problem_of(CASES[method]), tmp_path / "w.safetensors"
    tensors, header = weights_file.load(method().find_weights(problem))
    without_checksum(path, tensors, header)
    method(weights=str(path)).start(problem)
    headers = [{k: v for k, v in header.items() if k != key} for key in header]
    headers += [header | {key: value} for key in header for value in WRONG]
    refused = 0
    for changed in headers:
        without_checksum(path, tensors, changed)
        try:
            method(weights=str(path)).start(problem)
        except (ValueError, ClosureError) as error:
            refused += 1
            assert path.name in str(error) and str(error).count("\n") == 0
    assert refused > len(headers) // 4  # many entries only describe the training
    for name, tensor in tensors.items():
        spoilt = tensor.copy()
        spoilt[(0,) * tensor.ndim] = np.nan if tensor.dtype.kind == "f" else 0
        for value in (None, np.zeros((*tensor.shape, 2), tensor.dtype), spoilt):
            changed = {k: v for k, v in tensors.items() if k != name} | ({} if value is None else {name: value})
            without_checksum(path, changed, header)
            try:
                method(weights=str(path)).start(problem)
            except (ValueError, ClosureError) as error:
                assert path.name in str(error) and str(error).count("\n") == 0
            else:
                assert tensor.dtype.kind != "f" or (value is not spoilt), f"{name} is not finite"
                if value is not spoilt and name != SPECTRUM and not name.startswith("spread."):  # for some options only
                    pytest.fail(f"{name} was accepted as {value if value is None else value.shape}")
