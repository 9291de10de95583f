"""Shallow water at the edges of its numbers: zero, subnormal, tiny and large depths and velocities; bottoms."""

import array_api_compat.torch
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from subgrid.solver.backend import select
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.shallow_water import array_code, pointwise_kernels, sweep_array_code, sweep_kernels
from subgrid.solver.equations.shallow_water.initial import DamBreak, RadialDamBreak
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation

EDGES = (0.0, 5e-324, 1e-310, 1e-200, 1e-30, 1e-9, 1e-6, 1e-3, 1.0, 10.0, 1e4)
PERIODIC = {"bottom": "periodic", "top": "periodic"}
DEPTHS = st.sampled_from(EDGES)
SPEEDS = st.sampled_from((*EDGES, *(-v for v in EDGES)))


@settings(max_examples=200, deadline=None)
@given(DEPTHS, SPEEDS, SPEEDS, DEPTHS, SPEEDS, SPEEDS)
@example(0.0, 1e-310, 0.0, 0.0, 0.0, 0.0)
def test_fluxes_of_kernel_and_array_code_agree_at_the_edges(h_left, u_left, v_left, h_right, u_right, v_right):
    """To round-off of the largest terms, finite, and zero between two dry sides, in NumPy and in torch."""
    values = (h_left, u_left, v_left, h_right, u_right, v_right)
    expected = np.array(pointwise_kernels.hllc(*values, 9.81))
    with np.errstate(all="ignore"):
        found = np.array(array_code.hllc(*(np.float64(v) for v in values), 9.81, np))
    tensors = [torch.tensor(v, dtype=torch.float64) for v in values]
    other = np.array([float(v) for v in array_code.hllc(*tensors, 9.81, array_api_compat.torch)])
    speed = max(abs(u_left), abs(u_right), np.sqrt(9.81 * max(h_left, h_right)))
    size = max(h_left, h_right) * speed * max(speed, abs(v_left), abs(v_right), 1.0)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * size)
    np.testing.assert_allclose(other, expected, rtol=0, atol=1e-11 * size)
    if h_left == h_right == 0:
        assert not expected.any() and not found.any() and not other.any()


@settings(max_examples=200, deadline=None)
@given(DEPTHS, SPEEDS, SPEEDS, DEPTHS, SPEEDS, SPEEDS)
@example(0.0, 1e-310, 0.0, 0.0, 0.0, 0.0)
@example(1.0, 10.0, 0.0, 1.0, -10.0, 0.0)
def test_fluxes_of_sweeps_agree_at_the_edges(c_left, u_left, v_left, c_right, u_right, v_right):
    """Kernel and array code; reflected states give reflected fluxes, and two dry sides none."""
    values = (c_left, u_left, v_left, c_right, u_right, v_right)
    expected = np.array(sweep_kernels.roe_hllc(*values, 9.81))
    with np.errstate(all="ignore"):
        found = np.array(sweep_array_code.roe_hllc(*(np.float64(v) for v in values), 9.81, np))
        mirrored = sweep_kernels.roe_hllc(c_right, -u_right, v_right, c_left, -u_left, v_left, 9.81)
    speed = max(abs(u_left), abs(u_right), c_left, c_right)
    size = max(c_left, c_right) ** 2 * speed * max(speed, abs(v_left), abs(v_right), 1.0)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * size)
    if expected[0]:  # without it v of either side is upwind
        np.testing.assert_allclose(np.array(mirrored) * (-1, 1, -1), expected, rtol=0, atol=1e-11 * size)
    if c_left == c_right == 0:
        assert not expected.any() and not found.any()


@pytest.mark.parametrize("reconstruction", ["muscl", "weno5"])
def test_steps_of_kernel_and_array_code_agree_at_the_edges(reconstruction):
    """Of whole states with cells of edge values beside each other."""
    grid, chosen = Grid((8, 8), (1.0, 1.0)), np.random.default_rng(0)
    h = chosen.choice([v for v in EDGES if v <= 10], (20, 8, 8))
    u, v = chosen.choice([s * v for v in EDGES for s in (1, -1) if v <= 10], (2, 20, 8, 8))
    state = np.stack([h, h * u, h * v], axis=1)
    found = []
    for backend in ("numpy", "torch"):
        equation = ShallowWater(reconstruction=reconstruction)
        simulation = Simulation(equation, grid, "ssp-rk2", 1e-5, state, backend=select(backend))
        simulation.advance(1)
        found.append(simulation.state)
    assert np.isfinite(found[0]).all() and np.isfinite(found[1]).all()
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-11 * np.abs(state).max())


def test_torch_runs_over_islands_with_subnormal_velocities():
    """Dry cells whose momentum is subnormal stay dry and finite, as with the kernels."""
    grid = Grid((12, 12), (1.0, 1.0))
    state = np.zeros((1, 3, 12, 12))
    state[0, 0, 4:8, 4:8] = 1e-3
    state[0, 1] = 1e-310
    for backend in ("numpy", "torch"):
        simulation = Simulation(ShallowWater(), grid, "ssp-rk2", 1e-3, state, backend=select(backend))
        simulation.run(10)
        assert np.isfinite(simulation.state).all()


def test_a_dam_break_over_a_bottom_has_levels_on_both_sides(tmp_path):
    """Where the bottom is flat, `left` and `right` are depths; over a bottom h + b, and higher ground is dry."""
    grid = Grid((4, 40), (0.4, 4.0))
    bump = {"kind": "bumps", "bumps": [{"height": 0.8, "width": 0.3, "centre": (0.2, 3.0)}]}
    breaking = DamBreak(left=1.0, right=0.5, position=2.0)
    flat, over = ShallowWater(), ShallowWater(bathymetry=bump)
    depths = breaking.state(flat, grid, (0,), 0)[0, 0]
    surface = breaking.state(over, grid, (0,), 0)[0, 0] + over.bottom(grid)
    np.testing.assert_allclose(depths, np.where(np.arange(40) < 20, 1.0, 0.5)[None].repeat(4, axis=0), atol=1e-14)
    wet = breaking.state(over, grid, (0,), 0)[0, 0] > 0
    np.testing.assert_allclose(surface[wet], depths[wet], atol=1e-14)
    assert not wet.all() and (surface[~wet] >= 0.5 - 1e-12).all()
    assert breaking.exact(over, grid, 0.0, (0,), 0) is None


@pytest.mark.parametrize("ground", ["checkerboard", "stripes", "islands"])
@pytest.mark.parametrize(
    ("stepper", "reconstruction", "cfl"),
    [
        ("dimension-split", "muscl", 0.9),
        ("dimension-split", "muscl", 1.0),
        ("ssp-rk2", "muscl", 0.5),
        ("ssp-rk2", "weno5", 0.3),
    ],
)
def test_a_perturbed_lake_at_rest_stays_at_rest_over_a_rough_bottom(stepper, reconstruction, cfl, ground, tmp_path):
    """A perturbation of the surface by 1e-9 does not grow until t = 100 (with `weno5` 40), between walls."""
    y, x = np.indices((48, 48))
    grounds = {
        "checkerboard": 0.6 * ((x + y) % 2),
        "stripes": 0.6 * (x % 2),
        "islands": np.random.default_rng(0).uniform(0, 1.3, (48, 48)),
    }
    np.savez(tmp_path / "bottom.npz", bathymetry=grounds[ground])
    bottom = {"kind": "file", "path": tmp_path / "bottom.npz"}
    equation = ShallowWater(reconstruction=reconstruction, boundary="wall", bathymetry=bottom)
    depth = np.maximum(1 - grounds[ground], 0.0)
    depth += np.where(depth > 0, 1e-9 * np.random.default_rng(1).uniform(-1, 1, depth.shape), 0.0)
    state = np.stack([depth, 0 * depth, 0 * depth])[None]
    simulation = Simulation(
        equation, Grid((48, 48), (1.0, 1.0)), stepper, 4.0 if reconstruction == "weno5" else 10.0, state, cfl=cfl
    )
    simulation.run(10)
    assert np.abs(simulation.state[:, 1:]).max() < 1e-9


@pytest.mark.parametrize("depth", [1e-4, 1e-2, 1.0, 1e3])
def test_a_front_over_dry_land_is_as_fast_at_every_depth_or_the_dry_depth_is_refused(depth):
    """Ritter's front in units of the depth, on 400 cells, does not depend on the depth."""
    data = {
        "title": "front",
        "equation": {"name": "shallow-water", "boundary": {"left": "open", "right": "open"} | PERIODIC},
        "grid": {"shape": [4, 400], "length": [0.2 * depth, 20 * depth], "origin": [0.0, -10 * depth]},
        "time": {"end": 1.2 * depth**0.5, "cfl": 0.45, "stepper": "ssp-rk2"},
        "initial": {"kind": "dam-break", "left": depth, "right": 0.0, "position": 0.0},
        "output": {"every": 1.2 * depth**0.5},
    }
    if depth < 0.1:
        with pytest.raises(CaseError, match=rf"equation\.dry: 1e-06 is more than .* equation\.dry = {1e-6 * depth:g}"):
            read_case(data)
        data["equation"]["dry"] = 1e-6 * depth
    case = read_case(data)
    grid, equation = case.grid.grid(), case.build_equation()
    state = case.initial.state(equation, grid, (0,), 0)
    simulation = Simulation(equation, grid, "ssp-rk2", case.time.end, state, cfl=0.45)
    simulation.run(1)
    x = grid.coordinates(centres=True)[1] / depth
    assert x[simulation.state[0, 0, 0] > 1e-4 * depth].max() == pytest.approx(6.775, abs=0.06)


@pytest.mark.parametrize(("cfl", "largest"), [(0.45, 3e-3), (0.9, 8e-3)])
def test_sweeps_break_the_symmetry_of_a_radial_dam_break_by_no_more_than_the_docs_say(cfl, largest):
    means = []
    for n in (48, 96):
        grid, equation = Grid((n, n), (2.5, 2.5), (-1.25, -1.25)), ShallowWater(boundary="open")
        state = RadialDamBreak().state(equation, grid, (0,), 0)
        simulation = Simulation(equation, grid, "dimension-split", 0.2, state, cfl=cfl)
        simulation.run(1)
        depth = simulation.state[0, 0]
        assert np.abs(depth - depth.T).max() < largest
        means.append(np.abs(depth - depth.T).mean())
    assert means[1] < 0.6 * means[0]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_fewer_cells_than_ghost_cells_are_refused(boundary, backend):
    """Ghost cells would be copies of cells that are not there, and the kernels would read beyond their arrays."""
    state = np.ones((1, 3, 2, 8))
    equation, grid = ShallowWater(boundary=boundary, reconstruction="weno5"), Grid((2, 8), (1.0, 1.0))
    with pytest.raises(ValueError, match="walls need 3 cells along an axis here, found 2"):
        Simulation(equation, grid, "ssp-rk2", 1e-3, state, backend=select(backend)).run(1)
