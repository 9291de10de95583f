"""Training on several processes: the same curves as on one, for every method, also when resumed on another number."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subgrid.closures.equation_discovery import EquationDiscovery
from subgrid.closures.lam_slide import LamSlide
from subgrid.closures.lasdi import Lasdi
from subgrid.closures.latent_diffusion import LatentDiffusion
from subgrid.closures.learning import parallel
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.closures.learning.parallel import Share
from subgrid.closures.learning.weights_file import read_tensors
from subgrid.closures.mi2a import MI2A
from subgrid.closures.regression import Regression
from subgrid.ingest.sweep import runs
from subgrid.ingest.training_set import dataset
from subgrid.solver.case.reading import check

ORIGIN = {"training_case": "", "training_command": ""}
PULSE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.12, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "output": {"every": 0.01},
}
CASES: dict[str, dict[str, Any]] = {
    "flow": {
        "title": "flow",
        "equation": {"name": "kolmogorov", "viscosity": 0.02, "omit": ["advection"]},
        "grid": {"shape": [16, 16], "length": [6.25, 6.25]},
        "time": {"end": 0.4, "step": 0.01, "stepper": "etdrk2"},
        "initial": {"kind": "reference"},
        "output": {"every": 0.1},
        "reference": {
            "shape": [16, 16],
            "initial": {"kind": "gaussian-random-field", "exponent": 4.0, "tau": 1.5},
            "restrict": "subsample",
        },
        "training": {"trajectories": 8, "validation": 4, "start": 0.0, "end": 0.4, "every": 0.1, "seed": 2},
    },
    "particles": {
        "title": "particles",
        "equation": {"name": "charged-particles", "force": "coulomb", "force_limit": 100.0},
        "grid": {"entities": 5},
        "time": {"end": 1.6, "step": 0.02, "stepper": "velocity-verlet"},
        "initial": {"kind": "charged-particles"},
        "ensemble": {"members": 2, "seed": 7, "entities": [3, 5]},
        "output": {"every": 0.2},
        "reference": {"shape": [5], "trajectories": 2, "seed": 50, "restrict": "subsample"},
        "training": {"trajectories": 12, "validation": 4, "start": 0.0, "end": 0.9, "every": 0.1},
    },
    "sweep": PULSE | {"sweep": {"parameters": {"initial.width": [0.1, 0.12]}, "counts": [5]}},
    "greedy": PULSE
    | {"sweep": {"parameters": {"initial.width": [0.1, 0.12]}, "design": "greedy", "runs": 3, "candidate_counts": [3]}},
}
SMALL = {"threads": 1, "seed": 3}
WINDOWS = {"unroll": 2, "every": 5, "steps": 8, "batch": 5, "validate_every": 3, "windows": 4, "learning_rate": 0.01}
ONE_STEP = SMALL | {
    "network_options": {"modes": 6, "pairs": 2},
    "steps": 12,
    "batch": 9,
    "validate_every": 4,
    "transfer_weight": 0.1,
    "shift": "all",
    "reflections": True,
}
SAMPLED = SMALL | {
    "latent": {"kind": "autoencoder", "factor": 2, "width": 4, "blocks": 1},
    "score": {"width": 4, "layers": 1},
    "batch": 7,
    "autoencoder_steps": 4,
    "score_steps": 5,
    "distil_steps": 4,
    "checkpoint_every": 3,
}
LATENTS = SMALL | {
    "modes": 8,
    "latent": 2,
    "widths": [8],
    "degree": 1,
    "steps": 7,
    "round_steps": 3,
    "stages": 2,
    "stage_fit": "descent",
    "stage_widths": [8],
    "stage_steps": 5,
    "checkpoint_every": 3,
    "stride": 2,
    "coefficient_weight": 0.01,
}
WAVES = SMALL | {
    "modes": 8,
    "widths": [8],
    "frequencies": 4,
    "features": 20,
    "steps": 5,
    "window": 3,
    "validation": 3,
    "random_features": 20,
    "hidden": 4,
    "spans": [2, 4],
    "span_steps": 5,
    "span_batch": 5,
    "checkpoint_every": 3,
}
REGISTERED = {"compression": "registered", "latent": 3, "pattern_modes": 2, "errors": "latents", "evolution": "lstm"}
TRAJECTORIES = SMALL | {
    "past": 2,
    "future": 4,
    "window": 2,
    "hidden": 8,
    "substeps": 2,
    "spans": [1, 2],
    "span_steps": [3, 2],
    "identifiers": 10,
    "dimension": 12,
    "latents": 4,
    "channels": 4,
    "width": 8,
    "heads": 2,
    "flow_width": 8,
    "depth": 1,
    "steps": 4,
    "flow_steps": 4,
    "joint_steps": 3,
    "batch": 7,
    "checkpoint_every": 2,
    "dropout": 0.3,
}
METHODS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "regression": (Regression, ONE_STEP, "flow"),
    "regression through the solver": (
        Regression,
        ONE_STEP | {"objective": "rollout", "rollout": WINDOWS | {"start": "start.safetensors"}},
        "flow",
    ),
    "equation discovery through the solver": (
        EquationDiscovery,
        SMALL | {"candidates": ["u.grad w", "lap w"], "objective": "rollout", "rollout": WINDOWS},
        "flow",
    ),
    "latent diffusion": (LatentDiffusion, SAMPLED | {"mean": ONE_STEP}, "flow"),
    "joint latent diffusion": (LatentDiffusion, SAMPLED | {"training": "joint"}, "flow"),
    "lasdi": (Lasdi, LATENTS, "sweep"),
    "greedy lasdi": (Lasdi, LATENTS, "greedy"),
    "mi2a": (MI2A, WAVES | {"evolution": "luong", "window_noise": 0.01}, "sweep"),
    "corrected mi2a": (MI2A, WAVES | {"attention": True}, "sweep"),
    "registered mi2a": (MI2A, WAVES | REGISTERED, "sweep"),
    "lam-slide": (LamSlide, TRAJECTORIES, "particles"),
}
PARTS = (4, 4)  # steps after which one process, and then two, are stopped


class Stopped(Exception):
    pass


def learned(name: str, folder: Path, stop: int | None = None) -> dict[str, float]:
    """The loss of each step of a training of a method in a folder, stopped after so many of them."""
    method, options, source = METHODS[name]
    case = check(CASES[source], f"{source}.toml", folder)
    data = runs(case, case.sweep.points()) if case.sweep else dataset(case, lambda done, total, what: None)
    losses: dict[str, float] = {}

    def progress(done: int, total: int, metrics: dict[str, float]) -> None:
        losses[f"{done} of {total}"] = metrics.get("loss", 0.0)
        if len(losses) == stop:
            raise Stopped

    work = folder / name.replace(" ", "-")
    with parallel.own_folder(work) as own:
        target = own / "w.safetensors"
        try:
            method.train(TrainingJob(options, data, target, own, folder.parent, ORIGIN, progress))
        except Stopped:
            assert stop is not None
    return losses


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data of the cases in its cache, and weights to start from."""
    folder = tmp_path_factory.mktemp("parallel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        learned("regression", folder / "start")
        (folder / "start" / "regression" / "w.safetensors").rename(folder / "start.safetensors")
        yield folder


def environments(folder: Path, count: int) -> list[dict[str, str]]:
    """What torchrun sets for each of its processes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"TORCHELASTIC_RUN_ID": "test", "SUBGRID_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return [os.environ | common | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]


@pytest.fixture(scope="module")
def curves(place):
    """Losses by method: of one process, of two, and of one, two and one process in turns."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in METHODS:
        found[name] = {"one": learned(name, place / "one"), "first": learned(name, place / "turns", PARTS[0])}
    children = [
        subprocess.Popen([sys.executable, __file__, str(place)], env=environment, stdout=subprocess.PIPE)
        for environment in environments(place, 2)
    ]
    for child in children:
        answers = json.loads(child.communicate(timeout=300)[0])
        assert child.returncode == 0
        for name, answer in answers.items():
            for part, losses in answer.items():
                assert found[name].setdefault(part, losses) == losses  # the same in both processes, bit for bit
    for name in METHODS:
        found[name]["last"] = learned(name, place / "turns")
    return found


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_have_the_losses_of_one(name, curves, place):
    """To 1e-5, with batches of odd numbers; and weights that differ by as little."""
    found = curves[name]
    assert found["two"] == pytest.approx(found["one"], rel=1e-5)
    one, two = (read_tensors(place / folder / name.replace(" ", "-") / "w.safetensors")[0] for folder in ("one", "two"))
    assert one.keys() == two.keys()


@pytest.mark.parametrize("name", METHODS)
def test_a_training_goes_on_with_two_processes_and_back_with_one(name, curves):
    """From the last checkpoint before each stop; every step has the loss that it has without a stop."""
    found = curves[name]
    whole, places = found["one"], {step: i for i, step in enumerate(found["one"])}
    for part in ("first", "second", "last"):
        assert found[part] == pytest.approx({step: whole[step] for step in found[part]}, rel=1e-5)
    begins = [places[next(iter(found[part]))] for part in ("first", "second", "last")]
    assert begins[0] == 0 < begins[1] <= PARTS[0] and begins[1] < begins[2] < len(whole)
    assert list(found["last"])[-1] == list(whole)[-1]


def test_shares_are_all_rows_in_order_and_a_batch_that_is_too_small_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "processes", lambda: 3)
    found = []
    for rank in range(3):
        monkeypatch.setattr(parallel, "number", lambda rank=rank: rank)
        found.append(parallel.share(8))
    assert [i for share in found for i in share.of(np.arange(8)).tolist()] == list(range(8))
    assert sum(share.weight for share in found) == pytest.approx(1.0)
    with pytest.raises(
        ValueError, match=r"a batch of 2 cannot be shared among 3 processes. Remedy: .*nproc-per-node 2"
    ):
        parallel.share(2)


def test_dropout_of_a_share_is_that_of_the_batch():
    batch = torch.rand(7, 3)
    torch.manual_seed(1)
    whole = Share(7, 0, 7).dropout(batch, 0.4, True)
    for first, last in ((0, 3), (3, 7)):
        torch.manual_seed(1)
        torch.testing.assert_close(Share(7, first, last).dropout(batch[first:last], 0.4, True), whole[first:last])


def copies(place: Path) -> bool:
    """Whether the folder of this process has the file of the first one."""
    with parallel.own_folder(place) as own:
        return (own / "a").read_bytes() == (place / "a").read_bytes()


def test_a_copy_of_a_large_checkpoint_is_complete(tmp_path):
    """Of a size that single precision does not hold: 2^24 + 1 bytes, with what the archive adds."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").write_bytes(os.urandom(2**24 + 1))
    children = [
        subprocess.Popen([sys.executable, __file__, str(tmp_path / "work"), "copies"], env=e, stdout=subprocess.PIPE)
        for e in environments(tmp_path, 2)
    ]
    try:
        assert [json.loads(child.communicate(timeout=120)[0] or "null") for child in children] == [True, True]
    finally:
        for child in children:
            child.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def by_two(place: Path) -> dict[str, Any]:
    """What each of two processes computes: whole trainings, and those that are stopped."""
    found: dict[str, Any] = {}
    for name in METHODS:
        found[name] = {"two": learned(name, place / "two"), "second": learned(name, place / "turns", PARTS[1])}
    return found


if __name__ == "__main__":
    with parallel.joined():
        print(json.dumps((copies if sys.argv[2:] else by_two)(Path(sys.argv[1]))))
