"""The closure `regression` runs the network that was trained, and refuses weights for another problem."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from subgrid.closures.learning import weights_file
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.closures.learning.learned_term import LearnedTerm
from subgrid.closures.learning.noise import SPECTRUM, residual_noise
from subgrid.closures.regression.closure import Regression
from subgrid.solver.closure import ClosureError, Coupled, Problem, View
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream, keys
from subgrid.solver.simulation import Simulation

STEP, LENGTH = 0.01, (6.25, 6.25)
ORIGIN = {"training_case": "tiny.toml", "training_command": "subgrid train tiny.toml --closure regression"}
OPTIONS = {
    "network_options": {"modes": 8, "pairs": 4},
    "steps": 500,
    "batch": 16,
    "validate_every": 100,
    "shift": "none",
    "threads": 1,
}


def job(options, pairs, path):
    return TrainingJob(options, pairs, path, path.parent / "work", path.parent, ORIGIN, lambda *_: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, lame_flow):
    """(weights, scores, model, data): a quadratic network trained on flow without its advection and its noise."""
    folder = tmp_path_factory.mktemp("regression")
    case, pairs = lame_flow(64)
    path = folder / "tiny.safetensors"
    scores = Regression.train(job(OPTIONS, pairs, path))
    return path, scores, case.build_equation(), pairs


def problem_of(model, path, **changes):
    fixed = {
        "equation": model,
        "grid": Grid((16, 16), LENGTH),
        "step": STEP,
        "every": 1,
        "start": 0.0,
        "members": (0, 1, 2),
        "seed": 0,
        "folder": path.parent,
    }
    return Problem(**fixed | changes)


def answer(closure, problem, state):
    memory = closure.start(problem)
    assert memory == {}
    tendency, memory = closure(View(lambda: state, 0.0, 0, Stream(0, "closure", 0, problem.members)), memory)
    assert memory == {} and str(tendency.field.dtype).endswith("float64")
    return dataclasses.replace(tendency, field=np.asarray(tendency.field))


def test_training_learns_the_advection_and_the_header_describes_the_problem(trained):
    """A quadratic network learns a quadratic term; the header holds everything that the closure checks."""
    path, scores, model, pairs = trained
    tensors, header = weights_file.load(path)
    assert scores["relative_error"] < 0.5 and scores["correlation"] > 0.85
    assert header["scores"] == scores
    assert header["closure"] == "regression" and header["training_case"] == "tiny.toml"
    assert header["equation"] == json.loads(json.dumps({"name": "kolmogorov"} | model.model_dump(mode="json")))
    assert (header["fields"], header["shape"], header["length"]) == (["vorticity"], [16, 16], list(LENGTH))
    assert header["seeds"] == {"trajectories": 2, "training": 0}
    assert header["network"] == {"kind": "quadratic", "options": OPTIONS["network_options"], "features": "state"}
    state_rms = float(np.sqrt(np.mean(pairs.train[0].astype(float) ** 2)))
    assert header["normalisation"]["state"] == pytest.approx([state_rms], rel=1e-6)
    assert tensors[SPECTRUM].shape == (1, 12) and tensors[SPECTRUM].dtype == np.float64


def test_the_closure_gives_what_the_network_gives(trained):
    path, scores, model, pairs = trained
    tensors, header = weights_file.load(path)
    tensors.pop(SPECTRUM)
    network = LearnedTerm(
        "quadratic", OPTIONS["network_options"], "state", 2, tuple(header["length"]), header["normalisation"]
    )
    network.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    state, term = pairs.validation
    with torch.inference_mode():
        expected = network(torch.from_numpy(state[:8])).numpy()
    members = tuple(range(8))
    problem = problem_of(model, path, members=members)
    found = answer(Regression(weights=path.name), problem, state[:8].astype(float))
    np.testing.assert_allclose(found.field, expected, atol=1e-6 * np.abs(expected).max())
    assert found.noise is None
    everything = problem_of(model, path, members=tuple(range(len(state))))
    prediction = answer(Regression(weights=str(path)), everything, state.astype(float)).field
    error = np.linalg.norm(prediction - term) / np.linalg.norm(term)
    assert error == pytest.approx(scores["relative_error"], rel=1e-4)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_batches_of_members_do_not_change_the_term(trained, batch):
    """To the round-off of single precision."""
    path, _, model, pairs = trained
    state = pairs.validation[0][:7].astype(float)
    problem = problem_of(model, path, members=tuple(range(7)))
    whole = answer(Regression(weights=path.name, batch=7), problem, state).field
    parts = answer(Regression(weights=path.name, batch=batch), problem, state).field
    alone = [answer(Regression(weights=path.name), problem_of(model, path, members=(0,)), s[None]).field for s in state]
    for other in (parts, np.concatenate(alone)):
        np.testing.assert_allclose(other, whole, atol=2e-6 * np.abs(whole).max())


def test_it_commutes_with_shifts(trained):
    path, _, model, pairs = trained
    state = pairs.validation[0][:3].astype(float)
    problem, shift = problem_of(model, path), (5, -3)
    moved = answer(Regression(weights=path.name), problem, np.roll(state, shift, (-2, -1))).field
    still = answer(Regression(weights=path.name), problem, state).field
    np.testing.assert_allclose(moved, np.roll(still, shift, (-2, -1)), atol=2e-6 * np.abs(still).max())


def test_a_quadratic_network_runs_on_another_shape(trained):
    """Its multipliers are functions of the wavenumber: the same field on a finer grid has the same term."""
    path, _, model, pairs = trained
    fine = Grid((20, 24), LENGTH)
    spectrum = np.fft.rfft2(pairs.validation[0][:3].astype(float), norm="forward")
    kept = np.zeros((3, 1, *fine.spectral_shape), complex)
    low = np.zeros_like(spectrum)
    for rows in (slice(0, 5), slice(-4, None)):
        kept[..., rows, :5] = low[..., rows, :5] = spectrum[..., rows, :5]
    on_coarse = answer(Regression(weights=path.name), problem_of(model, path), np.fft.irfft2(low, norm="forward"))
    state = np.fft.irfft2(kept, s=fine.shape, norm="forward")
    on_fine = answer(Regression(weights=path.name), problem_of(model, path, grid=fine), state)
    coarse_hat, fine_hat = (np.fft.rfft2(a.field, norm="forward")[..., :8, :8] for a in (on_coarse, on_fine))
    np.testing.assert_allclose(fine_hat, coarse_hat, atol=2e-6 * np.abs(coarse_hat).max())


def test_the_model_with_the_network_follows_the_reference_better_than_without(trained):
    path, _, model, pairs = trained
    grid = Grid((16, 16), LENGTH)
    quiet = model.model_copy(update={"noise": None})
    start = pairs.validation[0][::4].astype(float)  # the validation trajectories at t = 0
    ends = []
    for equation, closures in (
        (quiet.complete(), []),
        (quiet, []),
        (quiet, [Coupled("regression", Regression(weights=path.name))]),
    ):
        simulation = Simulation(equation, grid, "cn-euler", STEP, start, closures=closures, folder=path.parent)
        simulation.run(40)
        ends.append(simulation.state)
    without, corrected = (np.linalg.norm(e - ends[0]) for e in ends[1:])
    assert corrected < 0.5 * without


def test_the_noise_has_the_spectrum_of_the_residuals(trained):
    """noise = "residual" has E|xi_hat_k|^2 = power[round |k|] at the step of the training set."""
    path, _, model, _ = trained
    power = weights_file.load(path)[0][SPECTRUM][0]
    state = np.zeros((3, 1, 16, 16))
    tendency = answer(Regression(weights=path.name, noise="residual"), problem_of(model, path), state)
    grid = Grid((16, 16), LENGTH)
    np.testing.assert_allclose(tendency.noise.amplitude**2, power[grid.shells()] * STEP, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("step", [0.01, 0.04])
def test_the_sampled_variance_is_the_given_power(step):
    """Drawn by the solver at the step of the power: the variance of a mode is that of its shell."""
    grid, steps = Grid((12, 12), LENGTH), 400
    power = np.array([0.5, 3.0, 1.0, 0.2, 0.0, 0.7, 0.1])
    law = residual_noise(grid, power, step)
    drawn = np.zeros((4, *grid.spectral_shape), complex)
    total = np.zeros(grid.spectral_shape)
    for n in range(steps):
        drawn[...] = 0.0
        law.add_to(drawn, keys(1, "closure", (0, 1, 2, 3)), n, 1 / np.sqrt(step))
        total += (np.abs(drawn) ** 2).sum(0)
    variance = total / (4 * steps)
    my, mx = np.broadcast_arrays(*grid.integer_wavenumbers())
    stored = (2 * np.abs(my) != 12) & (2 * np.abs(mx) != 12)  # a Nyquist mode is not drawn
    for shell, expected in enumerate(power):
        modes = (grid.shells() == shell) & stored
        if not modes.any():
            continue
        independent = modes & ((mx > 0) | (my >= 0))
        tolerance = 5 * np.sqrt((2 if shell == 0 else 1) / (4 * steps * independent.sum()))
        assert variance[modes].mean() == pytest.approx(expected, rel=tolerance, abs=1e-15)
    assert variance[grid.shells() >= len(power)].max() == 0
    assert variance[~stored].max() == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"equation": Burgers(viscosity=0.1), "grid": Grid((16,), (6.25,))}, "kolmogorov.*burgers"),
        ({"equation": Kolmogorov(viscosity=0.02, omit=("advection",))}, r"omits \['advection', 'noise'\].*advection"),
        ({"equation": Kolmogorov(viscosity=0.02)}, "omits"),
        ({"grid": Grid((16, 16), (6.25, 6.3))}, r"length \[6.25, 6.25\].*6.3"),
    ],
)
def test_another_problem_is_refused(trained, changes, named):
    path, _, model, _ = trained
    with pytest.raises(ClosureError, match=f"tiny.safetensors.*{named}.*Remedy"):
        Regression(weights=path.name).start(problem_of(model, path, **changes))


@pytest.mark.parametrize(
    ("changes", "grid", "named"),
    [
        ({"fields": ["temperature"]}, (16, 16), "temperature.*vorticity"),
        ({"closure": "latent-diffusion"}, (16, 16), "closure latent-diffusion"),
        ({"network": {"kind": "cnn", "options": {}, "features": "state"}}, (20, 20), r"shape \[16, 16\].*\[20, 20\]"),
        ({"network": {"kind": "fno", "options": {}, "features": "state"}}, (20, 20), r"shape \[16, 16\].*\[20, 20\]"),
    ],
)
def test_weights_of_another_kind_are_refused(trained, changes, grid, named, tmp_path):
    path, _, model, _ = trained
    tensors, header = weights_file.load(path)
    weights_file.save(tmp_path / "other.safetensors", tensors, header | changes)
    with pytest.raises(ClosureError, match=f"other.safetensors.*{named}.*Remedy"):
        Regression(weights=str(tmp_path / "other.safetensors")).start(problem_of(model, path, grid=Grid(grid, LENGTH)))


def test_weights_for_points_are_refused_on_cells(tmp_path):
    """The same equation with another discretisation or between walls is another problem."""
    made = Burgers(viscosity=0.1)
    header = {key: {} for key in weights_file.REQUIRED} | {
        "closure": "regression",
        "equation": {"name": "burgers"} | made.model_dump(mode="json"),
        "fields": ["velocity"],
        "shape": [16],
        "length": [6.25],
        "network": {"kind": "quadratic", "options": {}, "features": "state"},
    }
    weights_file.save(tmp_path / "w.safetensors", {SPECTRUM: np.ones((1, 9))}, header)
    cells = made.model_copy(update={"discretisation": "finite-volume"})
    walls = cells.model_copy(update={"boundary": "dirichlet"})
    for equation, named in ((cells, "discretisation = 'fourier'.*'finite-volume'"), (walls, "discretisation")):
        problem = Problem(equation, Grid((16,), (6.25,)), STEP, 1, 0.0, (0,), 0)
        with pytest.raises(ClosureError, match=f"w.safetensors.*{named}"):
            Regression(weights=str(tmp_path / "w.safetensors")).start(problem)


def test_files_that_are_missing_or_damaged_are_refused_by_name(trained, tmp_path):
    path, _, model, _ = trained
    with pytest.raises(ClosureError, match=r"no weights 'absent.safetensors'"):
        Regression(weights="absent.safetensors").start(problem_of(model, path))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(ClosureError, match=r"damaged.safetensors.*subgrid train"):
        Regression(weights=str(damaged)).start(problem_of(model, path))
    damaged.write_bytes(b"not weights at all")
    with pytest.raises(ClosureError, match=r"damaged.safetensors.*subgrid train"):
        Regression(weights=str(damaged)).start(problem_of(model, path))
    with pytest.raises(ClosureError, match=r"no shipped weights fit kolmogorov on \[16, 16\].*subgrid train"):
        Regression().start(problem_of(model, path))


def test_options_that_training_does_not_have_are_named(trained, tmp_path):
    _, _, _, pairs = trained
    with pytest.raises(ValueError, match=r"train\.regression\.batch.*train\.regression\.stepps"):
        Regression.train(job({"stepps": 1, "batch": 0}, pairs, tmp_path / "w"))
