"""What the studies of pedestrians and of ethanol learn from: groups of neighbours, and a force field."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module


def test_every_pedestrian_is_in_one_group_of_neighbours(study, tmp_path):
    pedestrians = study("lam_slide_pedestrians")
    rng = np.random.default_rng(0)
    start, step = 10 * rng.random((5, 2)), rng.standard_normal((5, 2))
    lines = [
        f"{10 * frame} {i + 1} {start[i, 0] + frame * step[i, 0]} {start[i, 1] + frame * step[i, 1]}"
        for frame in range(22)
        for i in range(5)
        if i < 4 or frame > 3  # the last one is never seen for 20 frames
    ]
    (tmp_path / "walk.txt").write_text("\n".join(lines), encoding="utf-8")
    parts = pedestrians.complete(tmp_path / "walk.txt")
    assert [len(part) for part in parts] == [4, 4, 4]
    found = pedestrians.grouped(parts, 3)
    assert found.mask.sum(1).tolist() == [3, 1] * 3
    moved = found.x.swapaxes(1, 2)[found.mask]
    steps = np.diff(moved, axis=1)
    assert sorted(map(tuple, steps[:, 0].round(6))) == sorted(3 * [tuple(s) for s in step[:4].round(6)])
    states = found.states()
    np.testing.assert_allclose(states[:, 1:, 3:5], np.diff(states[:, :, :2], axis=1) / pedestrians.INTERVAL)
    assert (states[:, 0, 6] == found.mask).all()


def test_forces_are_the_derivative_of_the_energy(study, tmp_path):
    """With a synthetic force field of three atoms, two of which can be exchanged."""
    ethanol = study("lam_slide_ethanol")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3, 3)) + np.array([[0, 0, 0], [2, 0, 0], [0, 3, 0]])
    i, j = np.tril_indices(3, -1)
    inverse = 1 / np.linalg.norm(x[:, i] - x[:, j], axis=-1)
    np.savez(
        tmp_path / "field.npz",
        z=np.array([8, 1, 1], np.uint8),
        sig=2,
        c=-3.0,
        perms=np.array([[0, 1, 2], [0, 2, 1]]),
        tril_perms_lin=np.array([0, 4, 1, 3, 2, 5]),
        Rt_desc=inverse.T,
        Rt_d_desc_alpha=rng.standard_normal((6, 3, 1)),
    )
    field = ethanol.ForceField(tmp_path / "field.npz")
    energy, force = field(x)
    h = 1e-5
    for atom in range(3):
        for axis in range(3):
            ends = [x + sign * h * (np.arange(3) == axis) * (np.arange(3) == atom)[:, None] for sign in (1, -1)]
            above, below = (field(end)[0] for end in ends)
            np.testing.assert_allclose(force[:, atom, axis], (below - above) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(force.sum(1), 0, atol=1e-12)
    exchanged, _ = field(x[:, [0, 2, 1]])
    np.testing.assert_allclose(exchanged, energy)
    built = field.positions(inverse[0])
    np.testing.assert_allclose(1 / np.linalg.norm(built[i] - built[j], axis=-1), inverse[0])


def test_attention_weights_are_those_of_the_network(study):
    import torch

    from subgrid.closures.lam_slide.networks import Attention

    torch.manual_seed(0)
    attention, x, y, bias = Attention(8, 2), torch.randn(3, 4, 8), torch.randn(3, 5, 8), torch.randn(3, 4, 5)
    weights = study("lam_slide_identifiers").attention_weights(attention, x, y, bias)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 4))
    values = attention.pair(y).chunk(2, -1)[1].unflatten(-1, (2, 4)).transpose(1, 2)
    found = attention.out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, attention(x, y, bias), atol=1e-5, rtol=1e-5)
