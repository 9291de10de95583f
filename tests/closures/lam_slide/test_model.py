"""The model of trajectories: symmetries of the predictor, of the latents, and identifiers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subgrid.closures.lam_slide.model import draw_identifiers, orthogonal
from subgrid.closures.lam_slide.predictor import Limited, PairNetwork, constant_velocity
from subgrid.closures.lam_slide.transformer import TransformerPredictor

REFUSED = ("rest", "heading")  # an entity at rest has no heading


def trajectories(entities=5, batch=3, frames=2):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 1, entities, 3, generator=generator)
    v = 0.1 * torch.randn(batch, 1, entities, 3, generator=generator)
    coupling = torch.randint(0, 2, (batch, entities), generator=generator) * 2.0 - 1
    return x + v * torch.arange(frames)[:, None, None], coupling


def identifiers(model, entities=5, batch=3, seed=0):
    drawn = [draw_identifiers(np.random.default_rng([seed, i]), len(model.pool), entities) for i in range(batch)]
    return model.pool[torch.from_numpy(np.stack(drawn))]


def noise(model, batch=3):
    return torch.randn(batch, *model.latent_shape(), generator=torch.Generator().manual_seed(2))


def test_identifiers_are_orthogonal_and_drawn_without_repetition():
    pool = orthogonal(10, 12)
    torch.testing.assert_close(pool @ pool.mT, torch.eye(10), atol=1e-6, rtol=0)
    drawn = draw_identifiers(np.random.default_rng(0), 10, 10)
    assert sorted(drawn) == list(range(10))
    with pytest.raises(ValueError, match="11 entities, but a pool of 10 identifiers"):
        draw_identifiers(np.random.default_rng(0), 10, 11)


@pytest.mark.parametrize(
    ("predictor", "axes"),
    [(p, a) for p in ("pairs", "constant", "rest", "transformer") for a in ("space", "heading") if (p, a) != REFUSED],
)
@pytest.mark.parametrize("evaluations", [1, 3])
def test_permuted_entities_have_permuted_samples(predictor, evaluations, axes, small_model):
    model = small_model(predictor=predictor, residual_axes=axes)
    (past, coupling), known = trajectories(), identifiers(model)
    order = torch.tensor([3, 0, 4, 1, 2])
    found = model.sampled(past, coupling, known, noise(model), evaluations)
    permuted = model.sampled(past[:, :, order], coupling[:, order], known[:, order], noise(model), evaluations)
    for a, b in zip(found, permuted, strict=True):
        torch.testing.assert_close(a[:, :, order], b, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(a, b, atol=1e-3)


def test_the_pair_network_is_equivariant_under_rotations_reflections_shifts_and_moving_frames():
    torch.manual_seed(0)
    network = PairNetwork(0.1, 4)
    torch.nn.init.normal_(network.network[-1].weight)
    past, coupling = trajectories(frames=4)
    past = past + 0.02 * torch.randn(past.shape, generator=torch.Generator().manual_seed(5))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))[0]
    turn = turn * -torch.det(turn)  # a reflection
    speed = torch.tensor([0.3, -0.2, 0.1])
    times = 0.1 * torch.arange(4)[:, None, None]
    ahead = 0.3 + 0.1 * torch.arange(1, 6)[:, None, None]
    x, v = network(past, coupling, 5)
    x_turned, v_turned = network(past @ turn + 1.5 + speed * times, coupling, 5)
    torch.testing.assert_close(x_turned, x @ turn + 1.5 + speed * ahead, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(v_turned, v @ turn + speed, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(x, constant_velocity(past, 5), atol=1e-3)


@pytest.mark.parametrize("baseline", ["constant", "rest"])
@pytest.mark.parametrize("frames", [2, 5])
def test_the_transformer_is_equivariant_under_rotations_reflections_shifts_and_permutations(baseline, frames):
    torch.manual_seed(0)
    network = TransformerPredictor(0.1, frames, 6, baseline == "rest", 16, 2, 4)
    past, coupling = trajectories(frames=frames)
    past = past + 0.1 * torch.randn(past.shape, generator=torch.Generator().manual_seed(5))
    x, v = network(past, coupling, 6)
    start = constant_velocity(past, 6) if baseline == "constant" else past[:, -1:].expand(-1, 6, -1, -1)
    torch.testing.assert_close(x, start)  # before training
    for last in (network.weights, network.own):
        torch.nn.init.normal_(last.weight, std=0.3)
    x, v = network(past, coupling, 6)
    assert (x - start).norm(dim=-1).mean() > 0.1
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))[0]
    turn = turn * -torch.det(turn)  # a reflection
    order = torch.tensor([3, 0, 4, 1, 2])
    x_turned, v_turned = network((past @ turn + 1.5)[:, :, order], coupling[:, order], 6)
    torch.testing.assert_close(x_turned, (x @ turn + 1.5)[:, :, order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(v_turned, (v @ turn)[:, :, order], atol=1e-4, rtol=1e-4)


def test_the_transformer_knows_more_than_pairs():
    """The force on the end of a chain of three depends on the angle, at the same distances of the pairs it is in."""
    torch.manual_seed(0)
    network = TransformerPredictor(0.1, 2, 1, True, 16, 2, 4)
    torch.nn.init.normal_(network.weights.weight, std=0.3)

    def push(angle):
        corner = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]]).float()
        x, _ = network(corner.expand(1, 2, 3, 3), torch.ones(1, 3), 1)
        return x[0, 0] - corner

    two = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).expand(1, 2, 2, 3)
    apart = network(two, torch.ones(1, 2), 1)[0][0, 0] - two[0, 0]
    assert apart[:, 1:].abs().max() < 1e-6  # a pair has no other direction
    assert (push(1.0)[0] - push(2.0)[0]).norm() > 1e-2


def test_the_base_of_the_frames_given_is_that_of_the_predictor(small_model):
    past, coupling = trajectories()
    for options in ({"predictor": "rest"}, {"predictor": "transformer", "baseline": "rest"}):
        model = small_model(**options)
        x, v = model.base(past, model.predict(past, coupling))
        torch.testing.assert_close(x[:, :2], past[:, -1:].expand(-1, 2, -1, -1))
        assert not v[:, :2].any()
    moving = small_model(predictor="transformer").base(past, (past[:, :0], past[:, :0]))
    torch.testing.assert_close(moving[0], past, atol=1e-6, rtol=1e-5)


def test_the_pair_network_keeps_momentum_and_starts_at_constant_velocity():
    torch.manual_seed(0)
    network = PairNetwork(0.1, 3)
    past, coupling = trajectories(frames=3)
    torch.nn.init.zeros_(network.network[-1].weight)
    x, _ = network(past, coupling, 4)
    torch.testing.assert_close(x, constant_velocity(past, 4), atol=1e-5, rtol=1e-5)
    torch.nn.init.normal_(network.network[-1].weight)
    _, v = network(past, coupling, 4)
    torch.testing.assert_close(v.sum(2), v[:, :1].sum(2).expand(-1, 4, -1), atol=3e-3, rtol=0)
    assert (v[:, 3] - v[:, 0]).abs().max() > 0.1


def test_the_velocity_is_observed_from_positions():
    """For a constant relative acceleration two frames give half of it, and each further frame the exact velocity."""
    network = PairNetwork(0.1, 3, substeps=1)

    def constant(x, v, invariant, pairs, mass):
        return torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]).expand_as(x)

    network.acceleration = constant
    t = 0.1 * torch.arange(6)[:, None, None]
    x = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]) + 0.5 * t**2 * constant(torch.zeros(2, 3), *[None] * 4)
    found, speed = network(x[None, :3], torch.ones(1, 2), 3)
    torch.testing.assert_close(found[0], x[3:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(speed[0, :, 0, 0], t[3:, 0, 0], atol=1e-4, rtol=1e-4)


def test_derivatives_through_encounters_are_cut():
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    (Limited.apply(x, 2.0) * torch.tensor([[100.0], [1.0]])).sum().backward()
    torch.testing.assert_close(x.grad.norm(dim=-1), torch.tensor([2.0, 3**0.5]))


def test_other_identifiers_change_the_sample_and_their_number_bounds_the_entities(small_model):
    model = small_model()
    past, coupling = trajectories()
    one, other = (model.sampled(past, coupling, identifiers(model, seed=s), noise(model), 3)[0] for s in (0, 1))
    assert not torch.allclose(one, other, atol=1e-4)
    past, coupling = trajectories(entities=8)
    x, v = model.sampled(past, coupling, identifiers(model, 8), noise(model), 2)
    assert x.shape == v.shape == (3, 4, 8, 3) and torch.isfinite(x).all()


def test_residuals_along_the_heading_turn_with_the_trajectory(small_model):
    model = small_model(residual_axes="heading", predictor="constant")
    model.pace.fill_(0.5)
    past, coupling = trajectories()
    past[1, :, 2] = past[1, :1, 2]  # one entity at rest
    base = model.base(past, model.predict(past, coupling))[0]
    off = torch.randn(base.shape, generator=torch.Generator().manual_seed(4))
    own = model.to_own_axes(off, base)
    torch.testing.assert_close(model.from_own_axes(own, base), off, atol=1e-5, rtol=1e-5)
    cos, sin = 0.6, 0.8
    turn = torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    turned = model.to_own_axes(off @ turn, base @ turn)
    moving = torch.ones(3, 5, dtype=torch.bool)
    moving[1, 2] = False
    torch.testing.assert_close(turned.transpose(1, 2)[moving], own.transpose(1, 2)[moving], atol=1e-4, rtol=1e-4)
    step = (past[:, 1:] - past[:, :1]).expand_as(off)
    along = model.to_own_axes(step, base)
    assert along[..., 1].abs().max() < 1e-5 and (along[..., 0] >= 0).all()


@pytest.mark.parametrize("predictor", ["pairs", "constant", "rest", "transformer"])
def test_entities_that_are_not_real_change_nothing(predictor, small_model):
    """Three real entities among five: as three alone, whatever the others are, also for the gradient of the loss."""
    model = small_model(predictor=predictor).double()
    past, coupling = trajectories()
    past, coupling, known = past.double(), coupling.double(), identifiers(model).double()
    mask = torch.tensor([True, False, True, True, False]).expand(3, 5)
    rest = (known, noise(model).double(), 3)
    x, v = model.sampled(past, coupling, *rest, mask)
    real = mask[0]
    alone = model.sampled(past[:, :, real], coupling[:, real], known[:, real], *rest[1:])
    for a, b in zip((x, v), alone, strict=True):
        torch.testing.assert_close(a[:, :, real], b)
    past[:, :, 1], coupling[:, 4] = 7.0, -coupling[:, 4]
    torch.testing.assert_close(model.sampled(past, coupling, *rest, mask)[0][:, :, real], x[:, :, real])
    assert not torch.allclose(model.sampled(past, coupling, *rest)[0][:, :, real], x[:, :, real], atol=1e-3)


def test_the_residual_is_zero_where_the_condition_does_not_know_it(small_model):
    """The condition of the frames given is that of the truth; windows of frames are rearranged without loss."""
    model = small_model()
    past, coupling = trajectories()
    base = model.base(past, model.predict(past, coupling))
    features = model.condition(past, base, coupling)
    off = model.frames(features[..., 6:12]) * model.scale[0][:, None, None]
    torch.testing.assert_close(off[:, :2], past - base[0][:, :2])
    assert not off[:, 2:].any()
    torch.testing.assert_close(model.frames(features[..., :6]), model.centred(base[0]))


def test_weights_are_read_as_they_were_written(small_model, tmp_path):
    model = small_model(tmp_path / "w.safetensors")
    read, header = type(model).load(tmp_path / "w.safetensors")
    read.save(tmp_path / "again.safetensors", header)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()
