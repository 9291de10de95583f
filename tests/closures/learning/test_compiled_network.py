"""Compiled networks give what torch gives, alone and in a batch, on any number of threads, and without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tomli_w
import torch

from subgrid.closures.learning import weights_file
from subgrid.closures.learning.compiled_network import CompiledTerm, compilable
from subgrid.closures.learning.learned_term import LearnedTerm
from subgrid.closures.learning.noise import SPECTRUM
from subgrid.solver.backend import sharing
from subgrid.solver.grid import Grid

FLOW = "vorticity-velocity"
# shape, fields, features, options of the network
NETWORKS = {
    "on points of its own": ((32, 32), 1, FLOW, {"width": 8, "layers": 4, "kernel": 3, "cut": 9, "points": 24}),
    "on the points of a flow": ((24, 16), 1, FLOW, {"width": 5, "layers": 3, "kernel": 3, "cut": 5}),
    "fields on other points": ((16, 20), 2, "state", {"width": 4, "layers": 3, "kernel": 5, "cut": 5, "points": 12}),
    "anomalies": ((20, 16), 3, "anomaly", {"width": 6, "layers": 3, "kernel": 5}),
    "three terms": ((20, 16), 3, "anomaly", {"width": 7, "layers": 3, "kernel": 3}),
    "phase space": ((16, 24), 1, "phase-space", {"width": 4, "layers": 3, "kernel": 7}),
    "a line": ((32,), 1, "state", {"width": 9, "layers": 4, "kernel": 5, "cut": 10, "zero_mean": False}),
    "a line on points of its own": ((32,), 2, "state", {"width": 4, "layers": 3, "kernel": 3, "cut": 7, "points": 16}),
}  # fmt: skip


def setting(name: str, members: int = 5) -> tuple[LearnedTerm, CompiledTerm, np.ndarray]:
    """The network with both evaluations, and states. Its weights are large enough that its values vary in space."""
    shape, fields, features, options = NETWORKS[name]
    grid = Grid(shape, tuple(6.0 + i for i in range(len(shape))), tuple(-3.0 for _ in shape))
    channels = fields if features in ("state", "anomaly") else 3
    scales = {
        "state": [2.0, 3.0, 4.0][:fields],
        "term": [5.0, 0.5, 2.0][:fields],
        "features": [1.5, 0.7, 2.5][:channels],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        term = LearnedTerm("cnn", options, features, len(shape), grid.length, scales, grid.origin).eval()
    tensors = {k: (v * 3 if v.ndim > 1 else v).numpy() for k, v in term.state_dict().items()}
    term.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    network = {"kind": "cnn", "options": options, "features": features}
    header = {"network": network, "normalisation": scales, "origin": list(grid.origin)}
    states = scales["state"][0] * np.random.default_rng(0).standard_normal((members, fields, *shape))
    return term, CompiledTerm(tensors, header, grid, "float64"), states


@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_what_torch_gives(name):
    term, compiled, states = setting(name)
    with torch.inference_mode():
        expected = term(torch.from_numpy(states).float()).numpy()
    found = compiled(states)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    single = compiled(states.astype(np.float32))
    np.testing.assert_allclose(single, found, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["on points of its own", "anomalies", "a line"])
def test_members_have_the_same_bits_alone_in_a_batch_and_on_two_threads(name):
    _, compiled, states = setting(name, members=7)
    together = compiled(states)
    assert np.concatenate([compiled(state[None]) for state in states]).tobytes() == together.tobytes()
    compiled._cost = 1e9  # so that a second thread pays
    with sharing(2):
        shared = compiled(states)
    assert shared.tobytes() == together.tobytes() and len(compiled._places) == 2


def test_networks_that_are_not_compiled_are_left_to_torch():
    assert compilable({"kind": "cnn", "options": {}})
    assert not compilable({"kind": "cnn", "options": {"precision": "bfloat16"}})
    assert not compilable({"kind": "fno", "options": {}})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network.layers.1.weight": np.zeros((8, 7, 3, 3))}, "layer 1 has weights"),
        ({"network.layers.2.bias": np.zeros(3)}, "layer 2 has weights"),
        ({"network.layers.3.weight": np.zeros((2, 8, 3, 3)), "network.layers.3.bias": np.zeros(2)}, "channels"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(changes, named):
    """Before a kernel reads beyond them."""
    shape, _, features, options = NETWORKS["on points of its own"]
    term, _, _ = setting("on points of its own")
    tensors = {name: value.numpy() for name, value in term.state_dict().items()} | changes
    header = {
        "network": {"kind": "cnn", "options": options, "features": features},
        "normalisation": {"state": [1.0], "term": [1.0], "features": [1.0] * 3},
    }
    with pytest.raises(TypeError, match=named):
        CompiledTerm(tensors, header, Grid(shape, (6.0, 6.0)), "float64")


PROGRAM = """
import sys
from subgrid.commands.cli import execute
assert execute(["run", "flow.toml", "--out", "runs", "--json"]) == 0
print("torch" in sys.modules)
"""


def test_a_run_with_a_compiled_network_does_not_import_torch(tmp_path):
    _, _, features, options = NETWORKS["on points of its own"]
    scales = {"state": [2.0], "term": [1.0], "features": [1.0, 1.0, 1.0]}
    term = LearnedTerm("cnn", options, features, 2, (6.0, 6.0), scales)
    case = {
        "title": "flow",
        "equation": {"name": "kolmogorov", "viscosity": 1e-2},
        "grid": {"shape": [32, 32], "length": [6.0, 6.0]},
        "time": {"end": 0.08, "step": 0.02, "stepper": "etdrk2"},
        "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
        "closure": [{"name": "regression", "weights": "flow.safetensors", "every": 2, "hold": "linear"}],
        "output": {"every": 0.04},
    }
    header = {
        "closure": "regression", "version": "0", "fields": ["vorticity"], "shape": [32, 32], "length": [6.0, 6.0],
        "equation": {"name": "kolmogorov", "omit": []}, "normalisation": scales, "training_case": "", "seeds": {},
        "training_command": "", "scores": {}, "step": 0.02,
        "network": {"kind": "cnn", "options": options, "features": features},
    }  # fmt: skip
    tensors = {name: value.numpy() for name, value in term.state_dict().items()} | {SPECTRUM: np.zeros((1, 4))}
    weights_file.save(tmp_path / "flow.safetensors", tensors, header)
    (tmp_path / "flow.toml").write_text(tomli_w.dumps(case), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
