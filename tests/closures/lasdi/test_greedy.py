"""Greedy design: the added runs, the change of basis, and the same weights after any interruption."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from subgrid.closures.lasdi import greedy
from subgrid.closures.lasdi.closure import Lasdi
from subgrid.closures.lasdi.model import LatentModel
from subgrid.closures.lasdi.options import TrainingOptions
from subgrid.closures.lasdi.training import fit
from subgrid.closures.learning.basis import Basis
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.closures.learning.perceptrons import Perceptron
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import CaseError, check

OPTIONS = {
    "modes": 8,
    "latent": 2,
    "widths": [12],
    "degree": 1,
    "steps": 60,
    "round_steps": 30,
    "stages": 2,
    "stage_fit": "descent",
    "stage_widths": [12],
    "stage_steps": 30,
    "checkpoint_every": 20,
    "stride": 2,
}
SWEEP = {
    "parameters": {"initial.width": [0.1, 0.14], "initial.amplitude": [0.8, 1.0]},
    "design": "greedy",
    "runs": 6,
    "candidate_counts": [3, 3],
}


def case(**sweep):
    return check(
        {
            "title": "pulse",
            "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
            "grid": {"shape": [24], "length": [1.0]},
            "time": {"end": 0.1, "step": 0.005, "stepper": "ssp-rk2"},
            "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
            "output": {"every": 0.01},
            "sweep": {k: v for k, v in (SWEEP | sweep).items() if v is not None},
        },
        "pulse.toml",
        Path(),
    )


@pytest.fixture(autouse=True, scope="module")
def cached(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


def train(folder, progress=lambda *_: None, **sweep):
    origin = {"training_case": "", "training_command": ""}
    started = runs(case(**sweep), case(**sweep).sweep.points())
    job = TrainingJob(OPTIONS, started, folder / "w.safetensors", folder / "work", Path(), origin, progress)
    Lasdi.train(job)
    return LatentModel.load(folder / "w.safetensors")


@pytest.fixture(scope="module")
def left_alone(cached, tmp_path_factory):
    folder = tmp_path_factory.mktemp("left-alone")
    train(folder)
    return folder / "w.safetensors"


def test_runs_are_added_where_the_spread_is_largest(left_alone):
    """From the corners to the budget, no candidate twice; the header holds the points in their order."""
    model = LatentModel.load(left_alone)
    points = np.array(model.about["points"])
    assert points[:4].tolist() == case().sweep.corners().tolist() and len(points) == 6 == model.about["runs"]
    assert len({tuple(p) for p in points}) == 6
    known = {tuple(p) for p in case().sweep.candidates()}
    assert {tuple(p) for p in points} <= known
    spreads = model.about["spreads"]
    assert len(spreads) == 2 and min(spreads) > 0
    sweep = runs(case(), points)
    chosen, spread = greedy.acquisition(model, sweep)
    rest = [p for p in case().sweep.candidates() if p.tolist() not in points.tolist()]
    starts = torch.from_numpy(sweep.starts(rest)).flatten(1)
    deviation = model.predict_std(starts, np.array(rest), 0.01, 11).norm(dim=2)
    relative = (deviation / model.predict(starts, np.array(rest), 0.01, 11).norm(dim=2)).amax(1)
    assert chosen.tolist() == rest[int(relative.argmax())].tolist()
    assert spread == pytest.approx(float(relative.max()), rel=1e-3)


def test_it_stops_at_the_tolerance(tmp_path):
    assert train(tmp_path, tolerance=1e9).about["runs"] == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_at_any_time_it_ends_with_the_same_weights(left_alone, tmp_path):
    """Successive SIGKILLs within the first training, at its end, in both rounds, and in the further stage."""
    kills = [10, 60, 61, 85, 91, 120, 121, 149]
    for kill in kills:

        def die(done, total, metrics, at=kill):
            if done == at:
                os.kill(os.getpid(), signal.SIGKILL)

        pid = os.fork()
        if not pid:
            try:
                train(tmp_path, die)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    train(tmp_path)
    assert (tmp_path / "w.safetensors").read_bytes() == left_alone.read_bytes()
    with pytest.raises(ValueError, match="greedy differ"):
        train(tmp_path, runs=7)


def test_a_change_of_basis_keeps_the_maps_of_states():
    """For states that both bases represent, the latents and the decoded states are equal."""
    torch.manual_seed(0)
    space = torch.linalg.qr(torch.randn(30, 5, dtype=torch.float64))[0]
    one, two = (torch.randn(40, 5, dtype=torch.float64) @ space.T + s for s in (0.0, 0.3 * space[:, 0]))
    old, new = Basis.fit(one, 5, 1e-12), Basis.fit(torch.cat([one, two]), 5, 1e-12)
    networks = Perceptron((5, 7, 2), 1.0), Perceptron((2, 7, 5), 2.0)
    encoder, decoder = greedy.change_basis(*networks, old, new)
    u = one.float()
    z = networks[0](old.coefficients(u))
    assert torch.allclose(encoder(new.coefficients(u)), z, atol=1e-4)
    assert torch.allclose(new.states(decoder(z)), old.states(networks[1](z)), atol=1e-4)


def test_the_degree_grows_with_the_runs(tmp_path):
    """Of degree 2 in two parameters six runs are needed; the four corners begin with degree 1."""
    started = runs(case(), case().sweep.points())
    options = TrainingOptions(**OPTIONS | {"degree": 2, "steps": 20, "round_steps": 10})
    assert fit(started, options, tmp_path).about["options"]["degree"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runs": None}, "sweep.runs: missing; design greedy"),
        ({"runs": 3}, "begins with 4 corners, found 3"),
        ({"candidate_counts": []}, "sweep.candidate_counts: missing"),
        ({"design": "corners", "runs": None}, "has no candidate_counts"),
    ],
)
def test_mistakes_in_the_table(wrong, message):
    with pytest.raises(CaseError, match=message):
        case(**wrong)
