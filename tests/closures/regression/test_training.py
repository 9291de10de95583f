import json

import numpy as np
import pytest
import torch

from subgrid.closures.learning.batches import draw_batch
from subgrid.closures.learning.learned_term import LearnedTerm
from subgrid.closures.learning.optimisation import one_cycle
from subgrid.closures.learning.scores import shell_spectrum
from subgrid.closures.regression.options import TrainingOptions
from subgrid.closures.regression.training import Training, fit

LENGTH = 2 * np.pi


def burgers_pairs(samples, seed, points=32, highest=6):
    """(u, -u u_x) for random u with modes up to `highest`; the product is resolved."""
    generator = np.random.default_rng(seed)
    k = np.arange(highest + 1)
    amplitude = generator.standard_normal((2, samples, highest + 1)) / (1 + k)
    spectrum = amplitude[0] + 1j * amplitude[1]
    state = np.fft.irfft(spectrum, points, norm="forward")
    slope = np.fft.irfft(1j * k * spectrum, points, norm="forward")
    return state[:, None], (-state * slope)[:, None]


def advection_pairs(samples, seed, points=16, highest=3):
    """(omega, -u.grad omega) for random vorticity with modes up to `highest`; the product is resolved."""
    generator = np.random.default_rng(seed)
    k = np.fft.fftfreq(points, 1 / points)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    square = np.where(kx**2 + ky**2 > 0, kx**2 + ky**2, np.inf)
    omega = np.fft.fft2(generator.standard_normal((samples, points, points)))
    omega *= (np.maximum(abs(kx), abs(ky)) <= highest) / square
    field = lambda spectrum: np.fft.ifft2(spectrum).real  # noqa: E731
    u, v = field(1j * ky * omega / square), field(-1j * kx * omega / square)
    return field(omega)[:, None], -(u * field(1j * kx * omega) + v * field(1j * ky * omega))[:, None]


SMALL = {"network_options": {"modes": 12, "pairs": 2}, "batch": 8, "validate_every": 10, "threads": 1}


def small(**changes):
    return TrainingOptions(**SMALL | {"steps": 40} | changes)


@pytest.fixture(scope="module")
def data():
    return *burgers_pairs(64, 0), *burgers_pairs(16, 1)


def test_quadratic_network_learns_burgers_advection(data, tmp_path):
    result = fit(*data, LENGTH, small(steps=1000, validate_every=200), tmp_path)
    assert result.scores["relative_error"] < 0.02
    assert result.scores["correlation"] > 0.9995
    assert result.log[0]["valid_error"] > 2 * result.scores["relative_error"]


def test_quadratic_network_learns_vorticity_advection(tmp_path):
    options = small(network_options={"modes": 6, "pairs": 4}, steps=600, batch=16, validate_every=300)
    result = fit(*advection_pairs(200, 0), *advection_pairs(50, 1), LENGTH, options, tmp_path)
    assert result.scores["relative_error"] < 0.05


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": "fno", "network_options": {"width": 4, "modes": 4, "layers": 2}, "learning_rate": 1e-3},
        {"network": "cnn", "network_options": {"width": 4, "layers": 2}, "weight_decay": 0.1},
        {"transfer_weight": 0.5, "shift": "none"},
    ],
    ids=["quadratic", "fno", "cnn", "transfer"],
)
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("stop", [10, 27])
def test_continued_equals_uninterrupted_bit_for_bit(changes, dimensions, stop, tmp_path):
    if dimensions == 1:
        pairs = *burgers_pairs(20, 0), *burgers_pairs(5, 1)
    else:
        pairs = *advection_pairs(20, 0), *advection_pairs(5, 1)
        changes = {"features": "vorticity-velocity"} | changes
    options = small(**changes)

    def interrupt(step, steps, metrics):
        if step == stop:
            raise KeyboardInterrupt

    whole = fit(*pairs, LENGTH, options, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(*pairs, LENGTH, options, tmp_path / "parts", interrupt)
    steps = []
    parts = fit(*pairs, LENGTH, options, tmp_path / "parts", lambda step, *_: steps.append(step))
    assert steps == list(range(stop // 10 * 10 + 1, 41))
    for name in ("last.safetensors", "training.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert parts.scores == whole.scores
    for name, value in whole.tensors.items():
        assert np.array_equal(parts.tensors[name], value)


def test_a_finished_training_is_not_repeated(data, tmp_path):
    first = fit(*data, LENGTH, small(), tmp_path)
    second = fit(*data, LENGTH, small(), tmp_path, progress=lambda *_: pytest.fail("trained again"))
    assert second.scores == first.scores


def test_the_seed_decides_the_weights(data, tmp_path):
    torch.manual_seed(99)
    first = fit(*data, LENGTH, small(seed=1), tmp_path / "a").tensors
    before = torch.get_rng_state()
    again = fit(*data, LENGTH, small(seed=1), tmp_path / "b").tensors
    other = fit(*data, LENGTH, small(seed=2), tmp_path / "c").tensors
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_another_training_in_the_directory_is_refused(data, tmp_path):
    fit(*data, LENGTH, small(), tmp_path)
    with pytest.raises(ValueError, match=r"options differ.*another directory"):
        fit(*data, LENGTH, small(seed=5), tmp_path)
    with pytest.raises(ValueError, match="normalisation differ"):
        fit(2 * data[0], *data[1:], LENGTH, small(), tmp_path)
    (tmp_path / "last.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"delete .*last\.safetensors"):
        fit(*data, LENGTH, small(), tmp_path)


def test_the_best_weights_are_returned_in_physical_units(data, tmp_path):
    """The scores are those of the returned term, recomputed here from its weights and the raw arrays."""
    scaled = (30 * data[0], 900 * data[1], 30 * data[2], 900 * data[3])
    result = fit(*scaled, LENGTH, small(learning_rate=0.3), tmp_path)
    errors = [entry["valid_error"] for entry in result.log]
    assert result.scores["relative_error"] == min(errors) < errors[0]
    twin = LearnedTerm("quadratic", SMALL["network_options"], "state", 1, LENGTH, result.term.normalisation)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in result.tensors.items()})
    residual = scaled[3] - twin(torch.tensor(scaled[2], dtype=torch.float32)).detach().numpy()
    assert np.linalg.norm(residual) / np.linalg.norm(scaled[3]) == pytest.approx(min(errors), rel=1e-4)
    assert result.residual_spectrum == pytest.approx(
        shell_spectrum(residual), abs=1e-4 * result.residual_spectrum.max()
    )


def test_the_weights_of_the_best_validation_are_returned_and_not_the_last(data, tmp_path, monkeypatch):
    """Validation errors that are set here: the second of three is the best. Also for a training that is resumed."""
    errors, seen = iter([0.5, 0.2, 0.4]), []

    def error(self):
        seen.append({name: value.clone() for name, value in self.term.state_dict().items()})
        return next(errors)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "validation_error", error)
        first = fit(*data, LENGTH, small(steps=30), tmp_path)
        second = fit(*data, LENGTH, small(steps=30), tmp_path)
    assert first.scores["best_step"] == 20 and len(seen) == 3
    for result in (first, second):
        for name, value in result.tensors.items():
            assert np.array_equal(value, seen[1][name].numpy()) and not np.array_equal(value, seen[2][name].numpy())


def test_the_transfer_penalty_lowers_the_error_of_the_energy_transfer(data, tmp_path):
    """u u_x transfers no energy to u; a partly trained network does, and the penalty reduces it."""

    def transfer(weight):
        options = small(steps=200, batch=32, transfer_weight=weight)
        term = fit(*data, LENGTH, options, tmp_path / str(weight)).term
        prediction = term(torch.tensor(data[2], dtype=torch.float32)).detach().numpy()
        return np.sqrt(np.mean((data[2] * prediction).mean((1, 2)) ** 2))

    assert transfer(10.0) < 0.8 * transfer(0.0)


def test_progress_reports_the_loss_of_each_step_and_the_log_its_mean(data, tmp_path):
    calls = []
    result = fit(*data, LENGTH, small(steps=25), tmp_path, lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(step, 25) for step in range(1, 26)]
    assert "valid_error" not in calls[8][2]
    assert calls[24][2]["valid_error"] == result.log[-1]["valid_error"]
    mean = np.mean([call[2]["loss"] for call in calls[20:]])
    assert result.log[-1]["loss"] == pytest.approx(mean)
    lines = (tmp_path / "training.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.log
    assert [entry["step"] for entry in result.log] == [10, 20, 25]


def test_the_thread_count_is_restored(data, tmp_path):
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        fit(*data, LENGTH, small(steps=1), tmp_path, lambda *_: seen.append(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shift", ["all", "x", "none"])
def test_batches_roll_state_and_term_together(shift):
    generator = np.random.default_rng(0)
    states = generator.standard_normal((10, 2, 6, 8)).astype(np.float32)
    options = TrainingOptions(shift=shift, batch=4, seed=3)
    rolls = set()
    for step in range(5):
        state, term = (part.numpy() for part in draw_batch(states, -states, options, step)[:2])
        assert np.array_equal(term, -state)
        again = draw_batch(states, -states, options, step)[0].numpy()
        assert np.array_equal(again, state)
        found = [
            (sample, dy, dx)
            for part in state
            for sample in range(10)
            for dy in range(6)
            for dx in range(8)
            if np.array_equal(np.roll(states[sample], (dy, dx), (1, 2)), part)
        ]
        assert len({sample for sample, _, _ in found}) == len(found) == 4
        rolls.update((dy, dx) for _, dy, dx in found)
    assert (len({dy for dy, _ in rolls}) > 1) == (shift == "all")
    assert (len({dx for _, dx in rolls}) > 1) == (shift != "none")


def test_one_cycle_rises_to_the_peak_and_falls_to_zero():
    rates, momenta = zip(*(one_cycle(step, 1000, 0.01) for step in range(1000)), strict=True)
    assert rates[0] == pytest.approx(0.01 / 25)
    assert max(rates) == rates[300] == pytest.approx(0.01)
    assert rates[-1] < 1e-6
    assert (max(momenta), min(momenta)) == pytest.approx((0.95, 0.85))


@pytest.mark.parametrize("grid", [(32,), (16, 24)])
def test_shell_spectrum_of_one_wave_and_parseval(grid):
    """A cos(3 x) has A^2/4 on each of the two modes k = +-3; the sum of shells times modes is the mean square."""
    x = 2 * np.pi * np.arange(grid[-1]) / grid[-1]
    wave = np.broadcast_to(6.0 * np.cos(3 * x), (2, 1, *grid))
    wavenumbers = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in grid), indexing="ij")
    modes = np.bincount(np.rint(np.sqrt(sum(k**2 for k in wavenumbers))).astype(int).ravel())
    expected = np.zeros(len(modes))
    expected[3] = 2 * 9.0 / modes[3]
    assert shell_spectrum(wave)[0] == pytest.approx(expected, abs=1e-12)
    noise = np.random.default_rng(0).standard_normal((3, 2, *grid))
    mean_square = (noise**2).mean((0, *range(2, noise.ndim)))
    assert (shell_spectrum(noise) * modes).sum(1) == pytest.approx(mean_square)
    many = np.concatenate([noise] * 200)  # more samples than one batch of transforms
    assert shell_spectrum(many) == pytest.approx(shell_spectrum(noise), rel=1e-12)


def test_pairs_that_cannot_be_learned_are_refused(data, tmp_path):
    state, term, *valid = data
    broken = state.copy()
    broken[3, 0, 4] = np.nan
    for train, message in [
        ((state[:, 0], term[:, 0]), "sample, field"),
        ((state, term[:5]), "share one shape"),
        ((broken, term), "not finite"),
        ((state, 0 * term), "zero in every pair"),
        ((state[..., :16], term[..., :16]), "validation pairs"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(*train, *valid, LENGTH, small(), tmp_path)


def test_divergence_stops_with_the_remedy(data, tmp_path):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(*data, LENGTH, small(learning_rate=1e30), tmp_path)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="epochs"):
        TrainingOptions(epochs=3)
