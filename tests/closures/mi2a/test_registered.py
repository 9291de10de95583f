"""Registered latents: positions and patterns of travelling waves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subgrid.closures.learning.basis import Basis
from subgrid.closures.mi2a.options import TrainingOptions
from subgrid.closures.mi2a.registered import Registered, unwrapped
from subgrid.closures.mi2a.training import fit
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check

CASE: dict[str, Any] = {
    "title": "a pulse that is carried along",
    "equation": {"name": "advection", "speed": 1.0},
    "grid": {"shape": [64], "length": [1.0]},
    "time": {"end": 0.6, "step": 0.01, "stepper": "etdrk4"},
    "initial": {"kind": "gaussian", "centre": 0.9, "width": 0.05},
    "output": {"every": 0.01},
    "sweep": {"parameters": {"equation.speed": [0.8, 1.2]}, "counts": [6], "test_counts": [11]},
}
OPTIONS = TrainingOptions(compression="registered", latent=2, window=6, random_features=20)


def pulse(positions, points=64):
    x = np.arange(points) / points - np.asarray(positions)[:, None]
    return torch.from_numpy(np.exp(-0.5 * ((x - np.round(x)) / 0.05) ** 2))


def registered(states, latent=2, fields=1):
    basis = Basis.points(states.flatten(0, 1))
    found = Registered({"latent": latent}, basis, {"fields": ["u"] * fields, "shape": [64]})
    found.fit(basis.coefficients(states.float()), "snapshot")
    return found


def test_positions_between_grid_points_are_found_to_round_off():
    """Relative to the first snapshot, across the boundary, for amplitudes that the template does not have."""
    moved = np.linspace(0.0, 1.7, 40)
    compression = registered(pulse(0.9 + moved)[None])
    level = compression.level.item()
    weaker = level + 0.7 * (pulse(0.9 + moved)[None] - level)
    z = compression.encode(weaker)
    s = z[0, :, 0] * compression.deviation[0] + compression.centre[0]
    assert (s - s[0]).numpy() == pytest.approx(moved, abs=1e-6)
    assert float((compression.decode(z) - weaker).abs().max()) < 1e-6


def test_latents_of_single_states_are_joined_without_jumps():
    moved = np.linspace(0.0, 1.7, 40)
    compression = registered(pulse(0.9 + moved)[None])
    together = compression.encode(pulse(0.9 + moved)[None])
    one_by_one = torch.cat([compression.encode(pulse([0.9 + m])[None]) for m in moved], 1)
    assert float((compression.joined(one_by_one) - together).diff(dim=1).abs().max()) < 1e-9
    s = torch.tensor([[0.9], [0.1], [0.3]])
    assert unwrapped(s)[:, 0].tolist() == pytest.approx([0.9, 1.1, 1.3])


def test_patterns_that_change_shape_need_further_modes():
    """Two widths are two modes: with one the reconstruction leaves what the other has."""
    x = np.arange(64) / 64
    wide = torch.from_numpy(np.exp(-0.5 * ((x - 0.5) / 0.1) ** 2))[None] + 0 * pulse([0.5])
    states = torch.stack([torch.cat([pulse([0.5]), wide] * 5)])
    errors = []
    for latent in (2, 3):
        compression = registered(states, latent)
        errors.append(float((compression.decode(compression.encode(states)) - states).abs().max()))
    assert errors[1] < 1e-5 < 0.05 < errors[0]


@pytest.mark.parametrize("known", [False, True])
def test_unseen_speeds_are_predicted_from_the_window(known, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = check(CASE, "pulse.toml", Path())
    options = OPTIONS.model_copy(update={"parameters": known})
    model = fit(runs(case, case.sweep.points()), options, tmp_path / "work")
    test = runs(case, case.sweep.test_points()[1::2])
    states = torch.from_numpy(test.states()).flatten(2)
    predicted = model.predict(states[:, : model.window], test.parameters, states.shape[1] - model.window)
    assert float((predicted - states[:, model.window :]).abs().max()) < 1e-4
    model.about |= {"training_case": "", "training_command": ""}
    model.save(tmp_path / "w.safetensors")
    again = type(model).load(tmp_path / "w.safetensors")
    assert torch.equal(
        again.predict(states[:, :6], test.parameters, 4), model.predict(states[:, :6], test.parameters, 4)
    )


def test_domains_that_are_not_periodic_and_too_few_latents_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    case = check(CASE, "pulse.toml", Path())
    sweep = runs(case, case.sweep.points())
    with pytest.raises(ValueError, match=r"train.mi2a.latent: 1 latents hold 1 positions and no pattern. Remedy"):
        fit(sweep, OPTIONS.model_copy(update={"latent": 1}), tmp_path / "work")
    walls = CASE | {
        "equation": {"name": "burgers", "viscosity": 0.002, "discretisation": "finite-volume", "boundary": "dirichlet"},
        "time": CASE["time"] | {"stepper": "ssp-rk3"},
        "sweep": {"parameters": {"equation.viscosity": [0.001, 0.002]}, "counts": [6]},
    }
    case = check(walls, "walls.toml", Path())
    with pytest.raises(ValueError, match=r"train.mi2a.compression: .*not periodic. Remedy"):
        fit(runs(case, case.sweep.points()), OPTIONS, tmp_path / "work")


def widening(points=32, runs=6, times=12):
    """Pulses (run, time, point) at places of their own, whose widths grow along one curve."""
    x = np.arange(points) / points
    places = np.linspace(0.05, 0.95, runs)[:, None, None]
    widths = np.linspace(0.07, 0.13, times)[None, :, None]
    distance = x - places
    return torch.from_numpy(np.exp(-0.5 * ((distance - np.round(distance)) / widths) ** 2))


@pytest.mark.parametrize("cell_phase", [True, False])
def test_further_modes_of_a_pattern_follow_from_its_latents(cell_phase):
    """Two modes are latents; the coefficients of four more lower the error of unseen runs a hundredfold."""
    states = widening(runs=15)
    known, unseen = states[torch.arange(15) != 7], states[7:8]
    basis = Basis.points(known.flatten(0, 1))
    c = basis.coefficients(known.float())
    errors = []
    for further in (0, 4):
        options = {"latent": 3, "pattern_modes": further, "cell_phase": cell_phase, "features": 120}
        found = Registered(options, basis, {"fields": ["u"], "shape": [32]})
        found.fit(c, "run")
        z = found.latents(c)
        if further:
            held_out = torch.arange(14) % 5 == 2
            about = found.complete(c, z, held_out, z[held_out][:, 4:], 0)
            assert about["left"] < 1e-6
            assert found.modes.half().double().equal(found.modes)  # as weights keep them
        errors.append(float((found.decode(found.encode(unseen)) - unseen).square().mean()))
    assert errors[1] < 0.01 * errors[0]


def test_modes_of_a_band_are_kept_on_a_coarser_grid():
    """Half of the wavenumbers hold these pulses to 1e-4 of their height, and a file gives the same latents."""
    states = widening()
    basis = Basis.points(states.flatten(0, 1))
    options = {"latent": 3, "pattern_modes": 2, "band": 0.5, "cell_phase": False, "features": 20}
    about = {"fields": ["u"], "shape": [32]}
    found, again = Registered(options, basis, about), Registered(options, basis, about)
    found.fit(basis.coefficients(states.float()), "run")
    assert found.modes.shape[-1] == 16
    assert float(torch.fft.rfft(found.patterns)[..., 8:].abs().max()) < 1e-12
    gram = found.patterns.flatten(1) @ found.patterns.flatten(1).T
    assert torch.allclose(gram, torch.eye(4, dtype=torch.float64), atol=1e-3)
    again.load_state_dict(found.state_dict())
    assert torch.equal(again.encode(states), found.encode(states))


def test_the_metric_of_latents_is_that_of_states_to_first_order():
    found = Registered({"latent": 3}, Basis.points(widening().flatten(0, 1)), {"fields": ["u"], "shape": [32]})
    found.fit(found.basis.coefficients(widening().float()), "run")
    z = found.encode(widening())
    metric = found.metric(z)
    for latent in range(3):
        moved = z.clone()
        moved[..., latent] += 1e-3
        change = (found.decode(moved).double() - found.decode(z).double()).square().sum(-1).mean()
        assert float(change) == pytest.approx(1e-6 * float(metric[latent]), rel=0.02)
