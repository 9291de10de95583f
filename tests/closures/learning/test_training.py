"""The training loop: resumed equals uninterrupted, for every method, and checkpoints of other trainings are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from subgrid.closures.lasdi import Lasdi
from subgrid.closures.latent_diffusion import LatentDiffusion
from subgrid.closures.learning import training as training_module
from subgrid.closures.learning.learned_closure import TrainingJob
from subgrid.closures.learning.training import StagedTraining, checkpoint_header
from subgrid.closures.learning.weights_file import read_header, read_tensors, write_tensors
from subgrid.closures.regression import Regression
from subgrid.ingest.sweep import runs
from subgrid.solver.case.reading import check

ORIGIN = {"training_case": "", "training_command": ""}
SMALL = {"threads": 1, "seed": 3}
REGRESSION = SMALL | {
    "network_options": {"modes": 6, "pairs": 2},
    "steps": 25,
    "batch": 8,
    "validate_every": 10,
    "learning_rate": 0.1,
    "weight_decay": 0.01,
}
LATENT_DIFFUSION = SMALL | {
    "latent": {"kind": "autoencoder", "factor": 2, "width": 4, "blocks": 1},
    "score": {"width": 4, "layers": 1},
    "batch": 8,
    "autoencoder_steps": 8,
    "score_steps": 9,
    "distil_steps": 8,
    "checkpoint_every": 3,
}
LASDI = SMALL | {
    "modes": 8,
    "latent": 2,
    "widths": [8],
    "degree": 1,
    "steps": 9,
    "round_steps": 4,
    "stages": 3,
    "stage_fit": "descent",
    "stage_widths": [8],
    "stage_steps": 6,
    "checkpoint_every": 3,
    "stride": 2,
}
SWEEP = {"parameters": {"initial.width": [0.1, 0.12]}, "counts": [3]}
GREEDY = {"parameters": {"initial.width": [0.1, 0.12]}, "design": "greedy", "runs": 4, "candidate_counts": [5]}
PULSE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.02, "discretisation": "finite-volume"},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.1, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.4, "width": 0.11, "amplitude": 0.9},
    "output": {"every": 0.01},
}
METHODS = {
    "regression": (Regression, REGRESSION, "flow"),
    "latent-diffusion": (LatentDiffusion, LATENT_DIFFUSION, "flow"),
    "lasdi": (Lasdi, LASDI, "sweep"),
    "greedy lasdi": (Lasdi, LASDI, "greedy"),
}
# within stages, at checkpoints, at the end of stages and at the first step of the next
KILLS = {
    "regression": [1, 10, 13, 20, 24, 25],
    "latent-diffusion": [2, 6, 8, 9, 13, 17, 18, 23, 25],
    "lasdi": [2, 9, 10, 14, 15, 16, 19, 21],
    "greedy lasdi": [5, 9, 10, 13, 14, 15, 17, 18, 24, 29],
}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def data(lame_flow, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = {"flow": lame_flow(8)[1]}
        for name, table in (("sweep", SWEEP), ("greedy", GREEDY)):
            case = check(PULSE | {"sweep": table}, "pulse.toml", Path())
            made[name] = runs(case, case.sweep.points())
        yield made


def train(name, data, folder, progress=lambda *_: None, **changes):
    method, options, source = METHODS[name]
    target = folder / "w.safetensors"
    method.train(TrainingJob(options | changes, data[source], target, folder / "work", folder, ORIGIN, progress))
    return target.read_bytes()


@pytest.mark.parametrize("name", METHODS)
def test_a_training_killed_at_many_steps_ends_with_the_same_bytes(name, data, tmp_path):
    """Weights, checkpoint and log, after one interruption after the other in the same folder."""
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    steps: list[int] = []
    whole = train(name, data, tmp_path / "whole", lambda done, total, metrics: steps.append(done))
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] >= max(KILLS[name])
    for kill in KILLS[name]:

        def die(done, total, metrics, at=kill):
            if done == at:
                raise Killed

        with pytest.raises(Killed):
            train(name, data, tmp_path / "parts", die)
    assert train(name, data, tmp_path / "parts") == whole
    for file in ("last.safetensors", "training.jsonl"):
        first, second = ((tmp_path / part / "work" / file).read_bytes() for part in ("whole", "parts"))
        assert first == second
    train(name, data, tmp_path / "parts", lambda *_: pytest.fail("a finished training was repeated"))


@pytest.mark.parametrize("name", METHODS)
def test_another_training_is_refused_by_what_differs(name, data, tmp_path):
    train(name, data, tmp_path)
    with pytest.raises(ValueError, match=r"holds another training \(options differ\): train in another directory"):
        train(name, data, tmp_path, seed=4)


# how the tensors and headers of checkpoints were called before their format had a number
FORMER = {
    "regression": ("last.network.factors", {"log": [{"step": 10, "train_loss": 1.0, "valid_error": 1.0}]}),
    "latent-diffusion": ("model.latent.mean", {"under_way": ["score", 3], "log": []}),
    "lasdi": ("0.encoder.layers.0.weight", {"under_way": [0, 3], "log": [], "data": "", "added": [], "settled": True}),
}


@pytest.mark.parametrize("name", FORMER)
def test_checkpoints_of_the_former_format_are_refused(name, data, tmp_path):
    """Even if their identity is that of the new training."""
    train(name, data, tmp_path)
    checkpoint = tmp_path / "work" / "last.safetensors"
    tensor, header = FORMER[name]
    write_tensors(checkpoint, {tensor: np.zeros(2)}, header | {"identity": read_header(checkpoint)["identity"]})
    with pytest.raises(ValueError, match=r"\(format differ\).*delete .*last.safetensors"):
        train(name, data, tmp_path)


# -- the loop by itself ------------------------------------------------------------------------------------


class Line(nn.Module):
    """Two numbers that are fitted to targets which depend on the step."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor([1.0])) for _ in range(2))

    def loss(self, name):
        def loss(step):
            target = np.random.Generator(np.random.Philox(key=[0, step])).standard_normal()
            return (getattr(self, name) - 3.0 - 0.1 * target).square().sum()

        return loss


def training(model, folder, identity=None, every=4, **options):
    return StagedTraining(model, {"a": 10, "b": 6}, folder, identity or {"seed": 1}, every=every, **options)


def run(model, loop):
    loop.run("a", [model.a], 0.3, model.loss("a"))
    loop.run("b", [model.b], 0.3, model.loss("b"))


def test_stages_train_their_own_parameters_in_order(tmp_path):
    model, steps = Line(), []
    loop = training(model, tmp_path, progress=lambda *call: steps.append(call))
    assert not loop.started("a") and not loop.started("b")
    loop.run("a", [model.a], 0.3, model.loss("a"))
    assert model.b.item() == 1.0 and abs(model.a.item() - 3) < 1
    assert loop.started("a") and not loop.started("b")
    loop.run("b", [model.b], 0.3, model.loss("b"))
    assert loop.started("b")
    assert [call[:2] for call in steps] == [(i, 16) for i in range(1, 17)]
    assert [call[2]["stage"] for call in steps] == [1] * 10 + [2] * 6
    log = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [(entry["stage"], entry["step"]) for entry in log] == [
        ("a", 4), ("a", 8), ("a", 10), ("b", 4), ("b", 6)]  # fmt: skip
    losses = [call[2]["loss"] for call in steps]
    assert log[1]["loss"] == pytest.approx(np.mean(losses[4:8]))


def test_adamw_without_decay_is_adam(tmp_path):
    """Against torch.optim.Adam with the same rates and decays: bit for bit."""
    from subgrid.closures.learning.optimisation import one_cycle

    model, peer = Line(), Line()
    training(model, tmp_path, clip=None).run("a", [model.a], 0.3, model.loss("a"))
    adam = torch.optim.Adam([peer.a])
    for step in range(10):
        rate, decay = one_cycle(step, 10, 0.3)
        adam.param_groups[0]["lr"], adam.param_groups[0]["betas"] = rate, (decay, 0.999)
        adam.zero_grad()
        peer.loss("a")(step).backward()
        adam.step()
    assert torch.equal(model.a, peer.a)


def test_gradients_are_clipped_to_the_norm(tmp_path):
    """The second moment after one step is (1 - 0.999) |gradient|^2: of the clipped gradient, of norm 1."""
    model = Line()
    for clip, norm in ((1.0, 1.0), (None, 4.0)):
        folder = tmp_path / str(clip)
        loop = StagedTraining(model, {"a": 1}, folder, {}, every=1, clip=clip)
        with torch.no_grad():
            model.a.fill_(5.0)
        loop.run("a", [model.a], 0.1, lambda step: (model.a - 3.0).square().sum())
        assert loop.moments["exp_avg_sq.a"].item() == pytest.approx(1e-3 * norm**2, rel=1e-5)


def test_validation_keeps_the_best_weights(tmp_path):
    model, errors = Line(), iter([0.5, 0.2, 0.4])
    seen = []

    def validate():
        seen.append(model.a.item())
        return next(errors)

    loop = StagedTraining(model, {"a": 12}, tmp_path, {}, every=4, validate=validate)
    loop.run("a", [model.a], 0.3, model.loss("a"))
    assert loop.best["a"].item() == seen[1] != model.a.item()
    assert [entry["valid_error"] for entry in loop.log] == [0.5, 0.2, 0.4]
    again = StagedTraining(Line(), {"a": 12}, tmp_path, {}, every=4, validate=validate)
    assert again.best["a"].item() == seen[1] and again.model.a.item() == seen[2]


@pytest.mark.parametrize("where", ["loss", "validation"])
def test_values_that_are_not_finite_stop_the_training_with_the_remedy(where, tmp_path):
    model = Line()
    validate = (lambda: float("nan")) if where == "validation" else None
    loop = StagedTraining(model, {"a": 2}, tmp_path, {}, every=1, validate=validate)
    loss = model.loss("a") if where == "validation" else lambda step: model.a.sum() * float("inf")
    with pytest.raises(FloatingPointError, match=f"{where}.* is .* at step 1: lower learning_rate"):
        loop.run("a", [model.a], 0.1, loss)
    assert not loop.checkpoint.exists()


def test_further_data_is_kept_and_a_stage_can_restart_with_another_model(tmp_path):
    model = Line()
    loop = training(model, tmp_path, extra={"added": []})
    loop.run("a", [model.a], 0.3, model.loss("a"))
    other = Line()
    other.b = nn.Parameter(torch.zeros(3))
    loop.extra["added"].append(7)
    loop.identity["data"] = "new"
    loop.restart("b", other)
    header = checkpoint_header(tmp_path, {"seed": 1})
    assert header["extra"] == {"added": [7]}
    resumed = Line()
    resumed.b = nn.Parameter(torch.ones(3))
    again = training(resumed, tmp_path, {"seed": 1, "data": "new"}, extra={"added": []})
    assert again.extra == {"added": [7]} and resumed.b.tolist() == [0, 0, 0]
    again.run("a", [resumed.a], 0.3, lambda step: pytest.fail("the stage is complete"))
    assert not again.started("b")
    with pytest.raises(ValueError, match=r"\(data differ\)"):
        training(Line(), tmp_path, {"seed": 1, "data": "old"})


def test_a_missing_checkpoint_and_a_damaged_one(tmp_path):
    assert checkpoint_header(tmp_path, {}) is None
    run(model := Line(), training(model, tmp_path))
    assert set(read_tensors(tmp_path / "last.safetensors")[0]) == {
        "model.a", "model.b", "moments.exp_avg.b", "moments.exp_avg_sq.b"}  # fmt: skip
    (tmp_path / "last.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"delete .*last\.safetensors"):
        training(Line(), tmp_path)


def rewritten(path, change):
    """A checkpoint with other contents and the right checksums."""
    tensors, header = read_tensors(path)
    change(tensors, header)
    write_tensors(path, tensors, header)


CONTENTS = {
    "a step beyond the stage": lambda t, h: h.update(position=[1, 7]),
    "a negative step": lambda t, h: h.update(position=[1, -1]),
    "a negative stage": lambda t, h: h.update(position=[-1, 0]),
    "a position of another kind": lambda t, h: h.update(position="x"),
    "no position": lambda t, h: h.pop("position"),
    "no log": lambda t, h: h.pop("log"),
    "a log of another kind": lambda t, h: h.update(log=3),
    "no further data": lambda t, h: h.pop("extra"),
    "further data of another kind": lambda t, h: h.update(extra=3),
    "a parameter of another shape": lambda t, h: t.update({"model.a": np.zeros((2, 2), np.float32)}),
    "no moments": lambda t, h: t.pop("moments.exp_avg.b"),
    "moments of another shape": lambda t, h: t.update({"moments.exp_avg_sq.b": np.zeros(5, np.float32)}),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_checkpoint_with_wrong_contents_is_refused_with_the_remedy(name, tmp_path):
    model = Line()
    loop = training(model, tmp_path)
    loop.run("a", [model.a], 0.3, model.loss("a"))
    with pytest.raises(Killed):

        def die(done, total, metrics):
            if done == 15:
                raise Killed

        loop.progress = die
        loop.run("b", [model.b], 0.3, model.loss("b"))
    assert read_header(tmp_path / "last.safetensors")["position"] == [1, 4]
    rewritten(tmp_path / "last.safetensors", CONTENTS[name])
    with pytest.raises(ValueError, match=r"last\.safetensors is damaged: .*Remedy: delete it"):
        run(again := Line(), training(again, tmp_path))


def meaning(content: bytes) -> object:
    """The header of a file of tensors as values, and its tensors; the content itself if that is not JSON."""
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:end])
        texts = {key: json.loads(text) for key, text in header["__metadata__"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return content
    return header | {"__metadata__": texts}, content[end:]


@pytest.mark.parametrize("method", METHODS)
def test_a_bit_that_is_flipped_in_a_checkpoint_is_noticed(method, data, tmp_path):
    """At places all over the file: a message with the remedy, and nothing is trained."""
    train(method, data, tmp_path)
    (tmp_path / "w.safetensors").unlink()
    path = tmp_path / "work" / "last.safetensors"
    whole = path.read_bytes()
    name = whole.index(b"crc32")
    for place in np.random.default_rng(0).integers(len(whole), size=40):
        if name <= place < name + 5:
            continue
        content = bytearray(whole)
        content[place] ^= 1
        if meaning(bytes(content)) == meaning(whole):  # the last digit of a number that has more than it needs
            continue
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.safetensors.*Remedy: .*delete"):
            train(method, data, tmp_path)
    assert not (tmp_path / "w.safetensors").exists()
    path.write_bytes(whole)
    train(method, data, tmp_path, lambda *_: pytest.fail("a finished training was repeated"))


def test_a_log_that_a_killed_process_left_is_complete_in_the_end(tmp_path, monkeypatch):
    """The log is written before the checkpoint: a process killed between the two takes these steps again."""
    run(model := Line(), training(model, tmp_path / "whole"))
    expected = (tmp_path / "whole" / "training.jsonl").read_bytes()

    def die(*_):
        raise Killed

    loop = training(model := Line(), tmp_path / "parts")
    loop.run("a", [model.a], 0.3, model.loss("a"))
    for at in (0, 1):
        with monkeypatch.context() as patch:
            name = ("replace", "write_tensors")[at]
            patch.setattr(training_module, name, die)
            with pytest.raises(Killed):
                run(model := Line(), training(model, tmp_path / "parts"))
    run(model := Line(), training(model, tmp_path / "parts"))
    assert (tmp_path / "parts" / "training.jsonl").read_bytes() == expected
