"""The closure `latent-diffusion` samples the distributions it claims, and runs the model that was trained."""

import json
import math

import numpy as np
import pytest
import torch

from subgrid.closures.latent_diffusion.closure import LatentDiffusion
from subgrid.closures.latent_diffusion.denoiser import Denoiser
from subgrid.closures.latent_diffusion.energy_transfer import without_transfer
from subgrid.closures.latent_diffusion.latent_spaces import Autoencoder, Fourier
from subgrid.closures.latent_diffusion.model import SPECTRUM, GenerativeTerm
from subgrid.closures.latent_diffusion.networks import ScoreCNN, ScoreFNO
from subgrid.closures.latent_diffusion.samplers import sample
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


# -- distributions ---------------------------------------------------------------------------------------------------


class Gaussian(torch.nn.Module):
    """The exact network of a Gaussian x ~ N(mean, deviation^2), whatever the condition."""

    def __init__(self, parametrisation, mean, deviation):
        super().__init__()
        self.parametrisation, self.mean, self.variance = parametrisation, mean, deviation**2

    def prepare(self, condition):
        return None

    def forward(self, v, angle, prepared):
        cos, sin = (f(angle).reshape(-1, 1, 1) for f in (torch.cos, torch.sin))
        gain = self.variance * cos / (self.variance * cos**2 + sin**2)
        data = self.mean + gain * (v - cos * self.mean)
        return (cos * v - data) / sin if self.parametrisation == "data" else (cos * data - v) / sin


def denoiser_of(parametrisation, mean, deviation):
    denoiser = Denoiser(parametrisation, "cnn", 1, 1, 1, {"width": 2, "layers": 1})
    denoiser.network = Gaussian(parametrisation, mean, deviation)
    return denoiser.double()


def draws(denoiser, sampler, evaluations, count=100_000):
    generator = torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(count, 1, 1, generator=generator, dtype=torch.float64)

    return sample(denoiser, draw_noise(), draw_noise(), sampler, evaluations, draw_noise, 1.0)


@pytest.mark.parametrize("parametrisation", ["data", "score"])
@pytest.mark.parametrize(
    ("sampler", "evaluations", "mean_off", "deviation_off"),
    [("exponential", 200, 0.01, 0.02), ("heun", 39, 0.01, 0.02), ("euler-maruyama", 300, 0.01, 0.03)],
)
def test_samplers_draw_a_gaussian_with_its_exact_score(parametrisation, sampler, evaluations, mean_off, deviation_off):
    """A score network is trained up to sigma = 11.5 only, where 0.6/11.5 of the mean is lost to white noise."""
    found = draws(denoiser_of(parametrisation, 0.5, 0.6), sampler, evaluations)
    lost = 0.6 / 11.5 * 0.5 if parametrisation == "score" else 0.0
    assert found.mean().item() == pytest.approx(0.5, abs=mean_off + lost)
    assert found.std().item() == pytest.approx(0.6, rel=deviation_off)


def test_one_evaluation_of_the_exponential_sampler_is_exact_at_unit_variance():
    generator = torch.Generator().manual_seed(0)
    xi = torch.randn(1000, 1, 1, generator=generator, dtype=torch.float64)
    found = sample(denoiser_of("data", 0.5, 1.0), xi, xi, "exponential", 1, lambda: xi, 1.0)
    torch.testing.assert_close(found, xi + 0.5)


def test_errors_of_the_probability_flow_fall_with_the_order_of_the_sampler():
    """The probability flow maps xi to mean + deviation xi."""
    generator = torch.Generator().manual_seed(0)
    xi = torch.randn(1000, 1, 1, generator=generator, dtype=torch.float64)
    denoiser = denoiser_of("data", 0.5, 0.6)

    def error(sampler, evaluations):
        found = sample(denoiser, xi, xi, sampler, evaluations, lambda: xi, 1.0)
        return (found - (0.5 + 0.6 * xi)).abs().max().item()

    assert error("exponential", 20) / error("exponential", 40) == pytest.approx(2, rel=0.2)
    assert error("heun", 39) / error("heun", 79) == pytest.approx(4, rel=0.4)


def test_the_published_initial_noise_is_too_narrow():
    """tau_max = 0.1 is sigma = 0.378: wider distributions are sampled too narrow."""
    denoiser = denoiser_of("score", 0.0, 1.0)
    generator = torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(20_000, 1, 1, generator=generator, dtype=torch.float64)

    narrow, wide = (
        sample(denoiser, draw_noise(), draw_noise(), "euler-maruyama", 300, draw_noise, t).std().item()
        for t in (0.1, 1)
    )
    assert narrow < 0.5
    assert wide == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(("network", "options"), [(ScoreCNN, {"width": 6}), (ScoreFNO, {"width": 6, "modes": 4})])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_score_networks_commute_with_shifts_and_are_zero_before_training(network, options, dimensions):
    torch.manual_seed(0)
    made = network(dimensions, 1, 2, layers=2, **options)
    v, c = (torch.randn(3, n, *[8] * dimensions) for n in (1, 2))
    angle = torch.tensor([0.1, 0.8, 1.5])
    assert made(v, angle, made.prepare(c)).abs().max() == 0
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    def shifted(field):
        return field.roll(3, -1)

    found = made(v, angle, made.prepare(c))
    torch.testing.assert_close(made(shifted(v), angle, made.prepare(shifted(c))), shifted(found), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], made(v, angle.flip(0), made.prepare(c))[0])


# -- latents ---------------------------------------------------------------------------------------------------------


def coloured(points, count=400, seed=0):
    """Fields with the spectrum exp(-k), the same modes on every grid."""
    generator = np.random.default_rng(seed)
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(16, 1 / 16),) * 2, indexing="ij"))
    hat = np.fft.fft2(generator.standard_normal((count, 1, 16, 16)), norm="forward") * np.exp(-k / 2)
    hat[..., 8, :] = hat[..., :, 8] = 0
    fine = np.zeros((count, 1, points, points), complex)
    low = np.r_[0:8, -7:0]
    fine[..., low[:, None], low] = hat[..., low[:, None], low]
    return torch.from_numpy(np.fft.ifft2(fine, norm="forward").real).float()


def test_fourier_latents_are_white_and_the_same_on_every_grid():
    latent = Fourier(2, 1, 1, points=12)
    h = coloured(16)
    latent.fit(h)
    z = latent.encode(h)
    power = (np.abs(np.fft.fft2(z.numpy()[:, 0], norm="ortho")) ** 2).mean(0)
    index = np.fft.fftfreq(12, 1 / 12)
    square = (index[:, None] ** 2 + index**2).round().astype(int)
    held = np.abs(index) < 6
    for ring in np.unique(square[np.ix_(held, held)]):  # (2, 2) and (3, 1) alike, which lie in one shell
        assert power[(square == ring) & held & held[:, None]].mean() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(latent.encode(coloured(64)), z, atol=1e-5, rtol=1e-4)
    assert z[0].shape == (1, 12, 12)
    torch.testing.assert_close(latent.encode(latent.decode(z, (16, 16))), z, atol=1e-5, rtol=1e-4)
    white = torch.from_numpy(np.random.default_rng(0).standard_normal((400, 1, 12, 12))).float()
    drawn = latent.decode(latent.noise(white), (16, 16))
    np.testing.assert_allclose(
        shell_spectrum(drawn.numpy())[0, 1:6], shell_spectrum(latent.decode(z, (16, 16)).numpy())[0, 1:6], rtol=0.15
    )
    with pytest.raises(ValueError, match="does not resolve the latent modes"):
        latent.grid((10, 10))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_autoencoders_commute_with_shifts_by_patches(dimensions):
    torch.manual_seed(0)
    latent = Autoencoder(dimensions, 1, 2, factor=2, width=8, blocks=1)
    h = torch.randn(2, 1, *[16] * dimensions)
    latent.fit(h)
    z = latent.encode(h)
    assert z.shape[2:] == (8,) * dimensions
    assert z.mean().item() == pytest.approx(0, abs=1e-5)
    assert z.var(unbiased=False).item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(latent.encode(h.roll(4, -1)), z.roll(2, -1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        latent.decode(z.roll(2, -1), h.shape[2:]), latent.decode(z, h.shape[2:]).roll(4, -1), atol=1e-5, rtol=1e-4
    )


# -- training --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("grid", "fields"), [((12, 16), 1), ((9, 8), 2), ((16,), 1), ((15,), 2)])
@pytest.mark.parametrize("span", [1e-3, 0.3])
def test_noise_without_transfer_leaves_the_energy_of_every_shell(grid, fields, span):
    generator = torch.Generator().manual_seed(0)
    noise, state = (torch.randn(3, fields, *grid, generator=generator, dtype=torch.float64) for _ in range(2))
    found = without_transfer(noise, state, span, Grid(grid, LENGTH[: len(grid)]))
    np.testing.assert_allclose(shell_energies(state + span * found), shell_energies(state), rtol=1e-9)
    assert found.norm() > 0.3 * noise.norm()  # only the component along the state is removed


def test_noise_too_strong_for_constant_energy_is_scaled_down():
    generator = torch.Generator().manual_seed(0)
    noise, state = (torch.randn(2, 1, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    line = Grid((16,), LENGTH[:1])
    found = without_transfer(1e3 * noise, state, 0.1, line)
    np.testing.assert_allclose(shell_energies(state + 0.1 * found), shell_energies(state), rtol=1e-9)
    assert without_transfer(noise, torch.zeros_like(state), 0.1, line).isfinite().all()


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
