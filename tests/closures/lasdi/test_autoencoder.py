"""The autoencoders of `lasdi`: one loss for all, and the symmetries of their grids."""

from pathlib import Path
from typing import Any

import pytest
import torch

from subgrid.closures.lasdi.closure import Lasdi
from subgrid.closures.lasdi.model import LatentModel
from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.training import Training, fit
from subgrid.closures.learning.autoencoder import ConvolutionalDecoder, ConvolutionalEncoder
from subgrid.closures.learning.basis import Basis
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check
from subgrid.solver.equations import Burgers, VlasovPoisson
from subgrid.solver.grid import Grid

OPTIONS: dict[str, Any] = {
    "latent": 3,
    "widths": [12],
    "degree": 1,
    "steps": 150,
    "learning_rate": 5e-3,
    "stride": 2,
    "stage_widths": [40],
    "checkpoint_every": 50,
    "threads": 1,
}
KINDS: dict[str, dict[str, Any]] = {
    "pod-mlp": {},
    "mlp": {"autoencoder": "mlp"},
    "convolutional": {"autoencoder": "convolutional", "channels": [4, 8]},
}
CASE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
    "grid": {"shape": [32], "length": [1.0]},
    "time": {"end": 0.2, "step": 0.005, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "output": {"every": 0.01},
    "sweep": {"parameters": {"initial.width": [0.1, 0.12], "initial.amplitude": [0.8, 1.0]}, "counts": [3, 2]},
}


def swept(**tables):
    case = check(CASE | tables, "pulse.toml", Path())
    return runs(case, case.sweep.points())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield swept()


def test_with_all_modes_the_loss_is_that_of_the_points(sweep, tmp_path):
    """The basis is orthonormal: coefficients of all modes and values at all points have equal losses."""
    both = OPTIONS | {"modes": 32, "energy": 1e-15}
    reduced, whole = (
        Training(sweep, TrainingOptions(**both, autoencoder=kind), tmp_path / kind) for kind in ("pod-mlp", "mlp")
    )
    modes = reduced.data.basis.modes
    encoder, decoder = whole.encoder.linear, whole.decoder.linear
    with torch.no_grad():  # the same maps, in the basis
        reduced.encoder.load_state_dict(whole.encoder.state_dict() | {"layers.0.weight": encoder[0].weight @ modes})
        last = f"layers.{len(decoder) - 1}"
        reduced.decoder.load_state_dict(
            whole.decoder.state_dict()
            | {f"{last}.weight": modes.T @ decoder[-1].weight, f"{last}.bias": modes.T @ decoder[-1].bias}
        )
    # the reduced loss omits the part of the decoder outside the modes
    outside = torch.eye(32) - modes @ modes.T
    lost = (decoder[-1].weight.T @ outside).square().sum() + (decoder[-1].bias @ outside).square().sum()
    assert reduced.first_loss(0).item() == pytest.approx(whole.first_loss(0).item(), rel=1e-3, abs=3 * lost.item())


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_autoencoder_learns_and_its_weights_are_read_unchanged(kind, sweep, tmp_path):
    origin = {"training_case": "", "training_command": ""}
    options = OPTIONS | KINDS[kind]
    scores = Lasdi.train(
        TrainingJob(options, sweep, tmp_path / "w.safetensors", tmp_path / "work", Path(), origin, lambda *_: None)
    )
    untrained = fit(sweep, TrainingOptions(**options | {"steps": 1, "stages": 1}), tmp_path / "none").about["scores"]
    assert scores["stage_1"] < 0.5 * untrained["stage_1"]
    model = LatentModel.load(tmp_path / "w.safetensors")
    again = fit(sweep, TrainingOptions(**options), tmp_path / "work")
    states = torch.from_numpy(sweep.state(2)).flatten(1)
    found = [m.predict(states[:1], sweep.parameters[2:3], 0.01, 21) for m in (model, again)]
    assert torch.equal(*found)
    error = (found[0][0] - states).norm(dim=1) / states.norm(dim=1)
    assert error.max().item() <= max(scores[n] for n in scores if n.startswith("stage_")) + 1e-4


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["mlp", "convolutional"])
def test_an_interrupted_training_ends_with_the_same_weights(kind, sweep, tmp_path):
    options = TrainingOptions(**OPTIONS | KINDS[kind] | {"steps": 30, "checkpoint_every": 10, "stages": 1})

    def kill(done, total, metrics):
        if done == 17:
            raise Killed

    with pytest.raises(Killed):
        fit(sweep, options, tmp_path / "work", kill)
    found, whole = fit(sweep, options, tmp_path / "work"), fit(sweep, options, tmp_path / "whole")
    for ours, theirs in zip(found.decoder.parameters(), whole.decoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("periodic", [(True, True), (False, True)])
def test_convolutions_commute_with_shifts_along_periodic_axes_alone(periodic):
    torch.manual_seed(0)
    sides = (1, (16, 16), periodic, (4, 6), 3)
    encoder, decoder = ConvolutionalEncoder(*sides).double(), ConvolutionalDecoder(*sides).double()
    x = torch.randn(2, 16, 16, dtype=torch.float64)

    def features(value):
        value = value[:, None]
        for layer in encoder.layers:
            value = layer(encoder.padded(value))
        return value

    for axis, along in zip((-2, -1), periodic, strict=True):
        same = torch.allclose(features(x.roll(4, axis)), features(x).roll(1, axis))
        assert same == along
    flat, v = x.flatten(1), torch.randn(2, 256, dtype=torch.float64)
    value, tangent = encoder.with_tangent(flat, v)
    expected = torch.autograd.functional.jvp(encoder, flat, v)
    assert torch.allclose(value, expected[0]) and torch.allclose(tangent, expected[1])
    assert decoder(value).shape == flat.shape


def test_points_are_a_basis_without_loss():
    states = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    basis = Basis.points(states)
    coefficients = basis.coefficients(states)
    assert torch.allclose(basis.states(coefficients), states, atol=1e-6)
    assert coefficients.square().sum(-1).mean().item() == pytest.approx(1, rel=1e-5)
    assert torch.allclose(basis.norm(coefficients), states.norm(dim=1), rtol=1e-5)
    with pytest.raises(ValueError, match="nothing to reduce"):
        Basis.points(torch.ones(3, 8))


@pytest.mark.parametrize(
    ("options", "tables", "message"),
    [
        (KINDS["convolutional"] | {"channels": [2] * 6}, {}, "cannot be halved 6 times"),
        (
            KINDS["mlp"],
            {"sweep": CASE["sweep"] | {"design": "greedy", "counts": [], "runs": 5, "candidate_counts": [3, 3]}},
            "a greedy design changes the basis",
        ),
    ],
)
def test_unsuitable_autoencoders_are_refused(options, tables, message, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=message):
        fit(swept(**tables), TrainingOptions(**OPTIONS | options), tmp_path / "work")


def test_which_axes_are_periodic():
    assert VlasovPoisson().periodic_axes(Grid((8, 8), (14.0, 6.0))) == (False, True)
    line = Grid((8,), (1.0,))
    assert Burgers(viscosity=1.0).periodic_axes(line) == (True,)
    walls = Burgers(viscosity=1.0, discretisation="finite-volume", boundary="dirichlet")
    assert walls.periodic_axes(line) == (False,)
