"""The closure `latent-diffusion` samples the distributions it claims, and runs the model that was trained."""

import json
import math

import numpy as np
import pytest
import torch

from subgrid.closures.latent_diffusion.closure import LatentDiffusion
from subgrid.closures.latent_diffusion.model import SPECTRUM, GenerativeTerm
from subgrid.closures.learning import weights_file
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.closures.learning.scores import shell_spectrum
from subgrid.solver.closure import ClosureError, Coupled, Problem, View
from subgrid.solver.equations import Burgers
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.simulation import Simulation

STEP, LENGTH = 0.01, (6.25, 6.25)
ORIGIN = {"training_case": "tiny.toml", "training_command": "subgrid train tiny.toml --closure latent-diffusion"}
MEAN = {"network_options": {"modes": 8, "pairs": 4}, "steps": 300, "batch": 16, "validate_every": 100, "shift": "none"}
FEW = {"batch": 32, "score_steps": 6, "autoencoder_steps": 6, "checkpoint_every": 3, "threads": 1}
FOURIER = FEW | {
    "latent": {"kind": "fourier", "points": 12},
    "score": {"width": 8, "layers": 1},
    "mean": MEAN | {"steps": 60},
    "distil_steps": 6,
}
PHYSICAL = FEW | {
    "latent": {"kind": "physical"},
    "score": {"network": "fno", "width": 4, "layers": 1, "modes": 4},
    "parametrisation": "score",
}
JOINT = FEW | {"latent": {"kind": "autoencoder", "factor": 2, "width": 8, "blocks": 1}, "training": "joint"}
TWO_PHASE = JOINT | {"training": "two-phase", "score": {"width": 8, "layers": 1}}
VARIANTS = {"fourier": FOURIER, "physical": PHYSICAL, "joint": JOINT, "two-phase": TWO_PHASE}


@pytest.fixture(scope="module")
def data(lame_flow):
    """(case, pairs) of flow without its advection and its noise."""
    return lame_flow(24)


def trained(options, pairs, path, work, progress=lambda done, total, metrics: None):
    return LatentDiffusion.train(TrainingJob(options, pairs, path, work, path.parent, ORIGIN, progress))


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory):
    """The files of all variants, by name."""
    folder = tmp_path_factory.mktemp("weights")
    for name, options in VARIANTS.items():
        trained(options, data[1], folder / f"{name}.safetensors", folder / name)
    return {name: folder / f"{name}.safetensors" for name in VARIANTS}


def problem_of(model, path, **changes):
    fixed = {
        "equation": model,
        "grid": Grid((16, 16), LENGTH),
        "step": STEP,
        "every": 5,
        "start": 0.0,
        "members": (0, 1, 2),
        "seed": 0,
        "folder": path.parent,
    }
    return Problem(**fixed | changes)


def simulation(data, path, members=(0, 1, 2), every=5, **options):
    case, pairs = data
    states = pairs.validation[0][:3].astype(float)[list(members)]
    coupled = Coupled("latent-diffusion", LatentDiffusion(weights=str(path), **options), every=every)
    return Simulation(
        case.build_equation(), case.grid.grid(), "cn-euler", STEP, states, closures=[coupled], seed=1, members=members
    )


def test_it_learns_the_spectrum_of_the_noise(data, tmp_path):
    """Samples have the variance of the residual of the conditional mean, shell by shell."""
    options = FOURIER | {"mean": MEAN, "score_steps": 100, "distil_steps": 0, "learning_rate": 1e-3}
    trained(options, data[1], tmp_path / "w.safetensors", tmp_path / "work")
    model, header, spectrum = GenerativeTerm.load(tmp_path / "w.safetensors")
    state, term = (torch.from_numpy(part) for part in data[1].train)
    with torch.inference_mode():
        left = shell_spectrum((term - model.conditional_mean(state)).numpy())
    np.testing.assert_allclose(spectrum[0, 1:5], left[0, 1:5], rtol=0.3)
    assert header["scores"]["latent_variance"] > 0.5


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", list(VARIANTS))
def test_an_interrupted_training_ends_with_the_same_bytes(name, data, weights, tmp_path):
    for stop in (4, 10, 16):

        def progress(done, total, metrics, stop=stop):
            if total == len_of(name) and done == stop:  # not in the training of the mean
                raise Killed

        with pytest.raises(Killed) if stop <= len_of(name) else pytest.MonkeyPatch.context():
            trained(VARIANTS[name], data[1], tmp_path / "w.safetensors", tmp_path / "work", progress)
    trained(VARIANTS[name], data[1], tmp_path / "w.safetensors", tmp_path / "work")
    assert (tmp_path / "w.safetensors").read_bytes() == weights[name].read_bytes()


def len_of(name):
    """Steps of all stages."""
    options = VARIANTS[name]
    latents = options["autoencoder_steps"] if options["latent"]["kind"] == "autoencoder" else 0
    return latents + options["score_steps"] + options.get("distil_steps", 0)


def test_another_training_in_the_same_place_is_refused(data, weights, tmp_path):
    trained(PHYSICAL, data[1], tmp_path / "w.safetensors", tmp_path / "work")
    with pytest.raises(ValueError, match="holds another training"):
        trained(PHYSICAL | {"batch": 16}, data[1], tmp_path / "w.safetensors", tmp_path / "work")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"latent": {"kind": "fourier", "factor": 2}}, "factor: not an option of fourier latents"),
        ({"latent": {"kind": "wavelets"}}, "latent.kind"),
        ({"score": {"network": "cnn", "modes": 4}}, "modes: not an option of the cnn"),
        ({"stps": 3}, "stps"),
        ({"parametrisation": "score", "mean": None}, 'distil_steps: needs parametrisation = "data"'),
        ({"mean": {"start": "nothing"}}, "there are no weights 'nothing'"),
        ({"mean": MEAN | {"network": "cubic"}}, "network"),
    ],
)
def test_options_that_training_does_not_have_are_named(change, expected, data, tmp_path):
    with pytest.raises(ValueError, match=expected):
        trained(FOURIER | change, data[1], tmp_path / "w.safetensors", tmp_path / "work")


# -- in the loop -----------------------------------------------------------------------------------------------------

COUPLINGS = {
    "split": {"coupling": "split"},
    "sample": {"coupling": "sample", "correlation_time": 0.2},
    "published": {"coupling": "sample", "sampler": "euler-maruyama", "evaluations": 4},
    "heun": {"coupling": "sample", "sampler": "heun", "evaluations": 3, "transfer": "zero"},
}


@pytest.mark.parametrize("coupling", list(COUPLINGS))
@pytest.mark.parametrize("name", list(VARIANTS))
def test_continued_equals_uninterrupted_and_a_member_alone_is_the_same(name, coupling, data, weights):
    whole = simulation(data, weights[name], **COUPLINGS[coupling])
    whole.run(23)
    begun = simulation(data, weights[name], **COUPLINGS[coupling])
    begun.run(12)
    resumed = simulation(data, weights[name], **COUPLINGS[coupling])
    resumed.restore(begun.checkpoint())
    resumed.run(23)
    assert resumed.state.tobytes() == whole.state.tobytes()
    for batch in (1, 16):
        alone = simulation(data, weights[name], members=(2,), batch=batch, **COUPLINGS[coupling])
        alone.run(23)
        np.testing.assert_allclose(alone.state[0], whole.state[2], atol=1e-5)


def test_members_differ_and_split_noise_has_the_variance_of_the_steps(data, weights):
    """Noise drawn at each step: after n steps h its variance is spectrum h0 n h for any `every`."""
    spectrum = GenerativeTerm.load(weights["fourier"])[2]
    variances = []
    for every in (1, 10):
        case, pairs = data
        states = np.repeat(pairs.validation[0][:1].astype(float), 64, axis=0)
        closure = LatentDiffusion(weights=str(weights["fourier"]), coupling="split")
        run = Simulation(
            case.build_equation(),
            case.grid.grid(),
            "cn-euler",
            STEP,
            states,
            closures=[Coupled("latent-diffusion", closure, every=every)],
        )
        run.run(10)
        off = run.state - run.state.mean(axis=0)
        variances.append(off.var(axis=0, ddof=1).mean())
    shells = np.rint(np.hypot(*np.meshgrid(*(np.fft.fftfreq(16, 1 / 16),) * 2, indexing="ij"))).astype(int)
    expected = spectrum[0][shells].sum() * 10 * STEP**2
    np.testing.assert_allclose(variances, expected, rtol=0.15)  # viscosity reduces it by a few per cent


@pytest.mark.parametrize("transfer", ["zero", "mean"])
def test_the_transfer_has_its_prescribed_value(transfer, data, weights):
    case, pairs = data
    state = pairs.validation[0][:3].astype(float)
    closure = LatentDiffusion(weights=str(weights["fourier"]), coupling="sample", transfer=transfer)
    closure.start(problem_of(case.build_equation(), weights["fourier"]))
    view = View(lambda: state, 0.0, 0, Stream(0, "test", 0, (0, 1, 2)))
    field = closure(view, {})[0].field.numpy()
    target = 0.0
    if transfer == "mean":
        with torch.inference_mode():
            mean = GenerativeTerm.load(weights["fourier"])[0].conditional_mean(torch.from_numpy(state).float())
        target = (state * mean.numpy()).mean(axis=(1, 2, 3))
    scale = np.abs(state * field).mean()
    np.testing.assert_allclose((state * field).mean(axis=(1, 2, 3)), target, atol=1e-5 * scale)


def shell_energies(field):
    """(batch, field, shell)."""
    grid = field.shape[2:]
    lines = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in grid), indexing="ij")
    shell = np.rint(np.sqrt(sum(k**2 for k in lines))).astype(int).ravel()
    power = np.abs(np.fft.fftn(field.numpy(), axes=range(2, field.ndim))).reshape(*field.shape[:2], -1) ** 2
    return np.stack([[np.bincount(shell, weights=p) for p in part] for part in power])


def test_transfer_by_shells_is_that_of_the_mean(data, weights):
    """The sampled residual leaves the energy of every shell unchanged over the five steps for which it is held."""
    case, pairs = data
    state = pairs.validation[0][:3].astype(float)
    closure = LatentDiffusion(weights=str(weights["fourier"]), coupling="sample", transfer="shells")
    closure.start(problem_of(case.build_equation(), weights["fourier"]))
    field = closure(View(lambda: state, 0.0, 0, Stream(0, "test", 0, (0, 1, 2))), {})[0].field
    with torch.inference_mode():
        mean = GenerativeTerm.load(weights["fourier"])[0].conditional_mean(torch.from_numpy(state).float())
    before, rest = torch.from_numpy(state), field - mean
    held = shell_energies(rest) > 1e-6 * shell_energies(rest).max()
    after = shell_energies(before + 5 * STEP * rest)
    np.testing.assert_allclose(after[held], shell_energies(before)[held], rtol=1e-4)
    assert rest.std() > 0


def test_successive_draws_have_the_correlation_time(data, weights):
    """xi at two calls has the correlation exp(-every h / T)."""
    case, pairs = data
    members = tuple(range(64))
    state = np.repeat(pairs.validation[0][:1].astype(float), 64, axis=0)
    closure = LatentDiffusion(weights=str(weights["fourier"]), coupling="sample", correlation_time=0.1)
    closure.start(problem_of(case.build_equation(), weights["fourier"], members=members))
    memory, whites = {}, []
    for step in (0, 5):
        _, memory = closure(View(lambda: state, step * STEP, step, Stream(0, "test", step, members)), memory)
        whites.append(memory["white"])
    assert np.corrcoef(whites[0].ravel(), whites[1].ravel())[0, 1] == pytest.approx(math.exp(-0.5), abs=0.03)
    assert whites[1].var() == pytest.approx(1, rel=0.05)


def test_fourier_weights_run_on_other_grids_and_others_do_not(data, weights):
    model = data[0].build_equation()
    fine = Grid((32, 32), LENGTH)
    LatentDiffusion(weights=str(weights["fourier"])).start(problem_of(model, weights["fourier"], grid=fine))
    for name in ("physical", "joint"):
        with pytest.raises(ClosureError, match=r"is for the shape \[16, 16\], the case has \[32, 32\]"):
            LatentDiffusion(weights=str(weights[name])).start(problem_of(model, weights[name], grid=fine))


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"equation": Burgers(viscosity=1.0), "grid": Grid((16,), (6.25,))}, {}, "is for the equation kolmogorov"),
        ({"grid": Grid((16, 16), (1.0, 1.0))}, {}, "is for the length"),
        ({}, {"sampler": "heun", "evaluations": 4}, "odd number of evaluations"),
        ({}, {"distilled": True, "evaluations": 3}, "the student makes one evaluation"),
        ({}, {"weights": "nowhere"}, "there are no weights 'nowhere'"),
        ({}, {"weights": None}, "no shipped weights fit"),
    ],
)
def test_a_mismatch_of_weights_and_problem_is_refused_by_name(changes, options, message, data, weights):
    problem = problem_of(data[0].build_equation(), weights["fourier"], **changes)
    with pytest.raises(ClosureError, match=message):
        LatentDiffusion(**{"weights": str(weights["fourier"])} | options).start(problem)


def test_weights_of_another_closure_and_damaged_ones_are_refused(data, weights, tmp_path):
    tensors, header = weights_file.load(weights["fourier"])
    weights_file.save(tmp_path / "other.safetensors", tensors, header | {"closure": "regression"})
    (tmp_path / "damaged.safetensors").write_bytes(weights["fourier"].read_bytes()[:-100])
    for name, message in (("other", "is for the closure regression"), ("damaged", "damaged")):
        path = tmp_path / f"{name}.safetensors"
        with pytest.raises(ClosureError, match=message):
            LatentDiffusion(weights=str(path)).start(problem_of(data[0].build_equation(), path))


def test_the_header_describes_the_weights(weights):
    tensors, header = weights_file.load(weights["fourier"])
    assert json.loads(json.dumps(header)) == header
    assert header["seeds"] == {"trajectories": 2, "training": 0}
    assert set(header["scores"]) >= {"mean_error", "variance_ratio", "spectrum_error", "latent_variance"}
    assert tensors[SPECTRUM].shape[0] == 1
