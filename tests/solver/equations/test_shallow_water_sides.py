"""Prescribed sides, rain and friction of shallow water."""

import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest

from subgrid.solver.backend import select
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.shallow_water import sides_array_code, sides_kernels
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.ensemble import BlowUp
from subgrid.solver.spectral import Operators

G = 9.81
FRICTION = {"manning": 0.03, "darcy_weisbach": 0.1, "chezy": 30.0, "linear_friction": 0.2}
CONDITIONS = [
    {"discharge": 0.4}, {"discharge": -0.3}, {"depth": 0.7}, {"level": 0.9}, "open", "wall",
    {"discharge": "0.5*cos(t)", "depth": "1 + 0.5*sin(t)"}, {"level": "0.5 + 0.1*sin(3*t)"},
]  # fmt: skip


def wild(rng, shape, dry=0.3):
    h = rng.uniform(0, 1, (2, *shape)) ** rng.choice([1, 4])
    h = np.where(rng.random(h.shape) < dry, 0, h)
    state = np.zeros((2, 3, *shape))
    state[:, 0], state[:, 1:] = h, h[:, None] * rng.uniform(0, 5) * rng.standard_normal((2, 2, *shape))
    return state


def bottom(path, values):
    np.savez(path, bathymetry=values)
    return {"kind": "file", "path": path}


@pytest.mark.parametrize("reconstruction", ["muscl", "weno5"])
@pytest.mark.parametrize("seed", range(12))
def test_kernels_and_array_code_agree(tmp_path, seed, reconstruction):
    """To 1e-12, over flat and rough bottoms with dry land, all conditions, rain and friction; and in sweeps."""
    rng = np.random.default_rng(seed)
    shape = (9, 270) if seed < 2 else (7, 12)
    state, grid = wild(rng, shape, 0.3 * (seed % 2)), Grid(shape, (1.0, 3.0))
    floor = bottom(tmp_path / "b.npz", rng.uniform(0, 2) * rng.random(shape)) if seed % 3 else {"kind": "flat"}
    sides = {name: CONDITIONS[rng.integers(len(CONDITIONS))] for name in ("left", "right", "bottom", "top")}
    given = {"bathymetry": floor, "reconstruction": reconstruction, "coriolis": 0.5, **FRICTION}
    equation = ShallowWater(boundary=sides, rain="(1 + x)*exp(-t)", **given)
    rhs, batch = equation.right_hand_side(grid, 2), state.reshape(6, *shape)
    rate, relaxed = np.zeros_like(batch), batch.copy()
    rhs(batch.copy(), 0.3, rate)
    rhs.relax(relaxed, 0.1)
    for xp in (np, array_api_strict, array_api_compat.torch):
        operators = Operators(grid, xp)
        code = np.asarray(equation.nonlinear(operators, xp.asarray(state), 0.3)).reshape(batch.shape)
        np.testing.assert_allclose(code, rate, rtol=0, atol=1e-12 * np.abs(rate).max())
        code = np.asarray(equation.relax(operators, xp.asarray(state), 0.1)).reshape(batch.shape)
        np.testing.assert_allclose(code, relaxed, rtol=1e-12, atol=1e-14)
    if reconstruction == "muscl":
        forcing = {"kind": "expression", "fields": {"momentum_y": "sin(3*t)*x", "momentum_x": "y"}}
        equation = ShallowWater(boundary=sides, rain="(1 + x)*exp(-t)", forcing=forcing, **given)
        rhs, per_part = equation.right_hand_side(grid, 2), []
        for part in "xy":
            u = batch.copy()
            rhs.flow(part, u, 1e-3, 0.3)
            per_part.append(u)
            for xp in (np, array_api_strict, array_api_compat.torch):
                code = equation.forced_flow(part, Operators(grid, xp), xp.asarray(state), 1e-3, 0.3)
                code = np.asarray(code).reshape(batch.shape)
                np.testing.assert_allclose(code, u, rtol=0, atol=1e-12 * np.abs(u).max())
        later = batch.copy()
        rhs.flow("y", later, 1e-3, 0.9)
        assert np.abs(later - per_part[1]).max() > 1e-6


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_single_precision_agrees_with_double(backend):
    grid, found = Grid((6, 40), (1.0, 4.0)), []
    sides = {"left": {"discharge": "0.5 + 0.1*sin(t)"}, "right": {"level": 1.0}, "bottom": "wall", "top": "wall"}
    equation = ShallowWater(boundary=sides, rain="0.01*x", **FRICTION)
    state = np.zeros((1, 3, 6, 40))
    state[:, 0] = 1.0
    for precision in ("float64", "float32"):
        simulation = Simulation(equation, grid, "ssp-rk3", 0.01, state, backend=select(backend, precision))
        simulation.advance(40)
        assert simulation.internal.dtype == (
            getattr(array_api_compat.torch, precision) if backend == "torch" else precision
        )
        found.append(np.asarray(simulation.state, dtype=np.float64))
    assert np.abs(found[0][:, 1]).max() > 0.3
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)


def test_the_depth_of_a_discharge_solves_its_characteristic():
    """c^2 (R - 2 c) = g q with subcritical c, and the critical speed where there is none; kernel and array code."""
    rng = np.random.default_rng(0)
    r, q = rng.uniform(-2, 12, 2000), rng.uniform(-10, 10, 2000)
    c = sides_array_code.speed_of_discharge(r, q, G, np)
    kernel = [sides_kernels.speed_of_discharge(a, b, G) for a, b in zip(r, q, strict=True)]
    np.testing.assert_allclose(c, kernel, rtol=1e-13)
    critical = (G * np.abs(q)) ** (1 / 3)
    possible = np.where(q < 0, r > critical, r > 3 * critical)
    assert 0.2 < possible.mean() < 0.8
    np.testing.assert_allclose((c**2 * (r - 2 * c))[possible], G * q[possible], rtol=1e-10)
    assert (np.abs(r - 2 * c)[possible] <= c[possible]).all()
    np.testing.assert_allclose(c[~possible & (q < 0)], critical[~possible & (q < 0)])
    np.testing.assert_allclose(c[~possible & (q > 0)], np.maximum(r, 0)[~possible & (q > 0)] / 3)
    assert sides_array_code.speed_of_discharge(np.array([2.0]), np.array([0.0]), G, np) == 1.0


@pytest.mark.parametrize("reconstruction", ["muscl", "weno5"])
@pytest.mark.parametrize("condition", [{"level": 0.0}, {"discharge": 0.0}, {"discharge": "0*t", "level": 0.0}])
@pytest.mark.parametrize("stepper", ["ssp-rk2", "dimension-split"])
def test_a_lake_at_rest_stays_at_rest_between_prescribed_sides(tmp_path, condition, reconstruction, stepper):
    """Over a random bottom with islands, to round-off."""
    if stepper == "dimension-split":
        reconstruction = "muscl"
        condition = dict.fromkeys(condition, 0.0)
    grid = Grid((24, 40), (1.0, 2.0))
    floor = np.random.default_rng(0).uniform(-1, 0.5, grid.shape)
    equation = ShallowWater(
        reconstruction=reconstruction,
        boundary=dict.fromkeys(("left", "right", "bottom", "top"), condition),
        bathymetry=bottom(tmp_path / "b.npz", floor),
        manning=0.02,
    )
    state = np.zeros((1, 3, *grid.shape))
    state[0, 0] = np.maximum(-floor, 0)
    simulation = Simulation(equation, grid, stepper, 0.002, state)
    simulation.advance(100)
    np.testing.assert_allclose(simulation.state, state, rtol=0, atol=1e-13)


def test_a_discharge_lets_in_the_water_that_it_says(tmp_path):
    """Onto a dry slope, on both axes: the mass grows by the integral of the discharge, within 1 %, and of the rain."""
    grid = Grid((20, 40), (1.0, 4.0))
    sides = {
        "left": {"discharge": "0.02*(1 + sin(t))*y"},
        "right": "wall",
        "bottom": "wall",
        "top": {"discharge": -0.01},
    }
    equation = ShallowWater(
        boundary=sides,
        rain="where(x < 2, 0.01, 0)*t",
        bathymetry={"kind": "expression", "value": "0.3*x"},
        manning=0.02,
    )
    simulation = Simulation(equation, grid, "ssp-rk2", 0.5, np.zeros((1, 3, 20, 40)), cfl=0.45)
    simulation.run(4)
    t = 2.0
    side, top, rain = 0.02 * (t + 1 - np.cos(t)) * 0.5, 0.01 * t * 4.0, 0.01 * 2.0 * t**2 / 2
    assert simulation.state[:, 0].min() >= 0
    volume = simulation.state[0, 0].sum() * grid.spacing[0] * grid.spacing[1]
    assert volume == pytest.approx(side + top + rain, rel=0.01)
    assert volume > 1.01 * (side + rain)


def test_waves_enter_and_leave_through_a_side():
    """A level that swings sends waves in, u = 2 (c - c_0), and lets them out on the right; second order."""
    errors = []
    for n in (100, 200):
        grid = Grid((4, n), (100.0, 10.0))
        level = "1 + 0.02*sin(t)**3"
        sides = {"left": {"level": level}, "right": "open", "bottom": "periodic", "top": "periodic"}
        state = np.zeros((1, 3, *grid.shape))
        state[0, 0] = 1.0
        simulation = Simulation(ShallowWater(gravity=1.0, boundary=sides), grid, "ssp-rk2", 1.0, state, cfl=0.4)
        simulation.advance(8)
        x, h = grid.coordinates(centres=True)[1], np.ones(n)
        for _ in range(200):  # h at x is that of the side when its characteristic left, at speed 3 c - 2
            start = 8.0 - x / (3 * np.sqrt(h) - 2)
            h = np.where(start > 0, 1 + 0.02 * np.sin(start) ** 3, 1.0)
        u = 2 * (np.sqrt(h) - 1)
        found = simulation.state[0, :, 0]
        errors.append([np.abs(found[0] - h).mean(), np.abs(found[1] - h * u).mean()])
    assert (np.log2(np.array(errors[0]) / errors[1]) > 1.5).all(), errors


def test_water_that_leaves_at_supercritical_speed_ignores_a_depth_unless_a_bore_can_enter():
    grid, found = Grid((4, 40), (4.0, 1.0)), []
    for depth in (0.3, 2.5):
        sides = {"left": {"discharge": 1.0, "depth": 0.2}, "right": {"depth": depth}, "bottom": "wall", "top": "wall"}
        state = np.zeros((1, 3, *grid.shape))
        state[0, 0], state[0, 1] = 0.2, 1.0
        simulation = Simulation(ShallowWater(boundary=sides), grid, "ssp-rk2", 0.1, state, cfl=0.4)
        simulation.advance(10)
        found.append(np.abs(simulation.state - state).max())
    assert found[0] < 1e-12
    assert found[1] > 1.0


@pytest.mark.parametrize(
    ("law", "slowed"),
    [
        ({"manning": 0.05}, lambda h, u, t: 1 / (1 + G * 0.05**2 * u * t / h ** (4 / 3))),
        ({"darcy_weisbach": 0.2}, lambda h, u, t: 1 / (1 + 0.2 / 8 * u * t / h)),
        ({"chezy": 20.0}, lambda h, u, t: 1 / (1 + G / 400 * u * t / h)),
        ({"linear_friction": 0.3}, lambda h, u, t: np.exp(-0.3 * t)),
        (
            {"chezy": 20.0, "linear_friction": 0.3},
            lambda h, u, t: np.exp(-0.3 * t) / (1 + G / 400 * u / h * (1 - np.exp(-0.3 * t)) / 0.3),
        ),
    ],
)
@pytest.mark.parametrize("depth", [1.0, 1e-3])
def test_friction_slows_uniform_flow_as_its_closed_form_says(law, slowed, depth):
    """To round-off with any step; beside rain, where most of it is in the rates, at second order."""
    grid, errors = Grid((4, 4), (1.0, 1.0)), []
    state = np.ones((1, 3, 4, 4)) * np.array([depth, 0.3 * depth, -0.4 * depth])[None, :, None, None]
    exact = slowed(depth, 0.5, 2.0) * state[:, 1:]
    simulation = Simulation(ShallowWater(**law), grid, "ssp-rk2", 0.5, state)
    simulation.advance(4)
    np.testing.assert_allclose(simulation.state[:, 1:], exact, rtol=1e-12)
    for steps in (20, 80):
        simulation = Simulation(ShallowWater(rain="0*x", **law), grid, "ssp-rk2", 2.0 / steps, state)
        simulation.advance(steps)
        errors.append(np.abs(simulation.state[:, 1:] / exact - 1).max())
    assert errors[1] < 1e-12 or errors[0] / errors[1] > (10 if depth == 1.0 else 3), errors


def test_rain_on_a_dry_plane_runs_off():
    """A run by Courant number from dry land: steps shorten as the water gets deeper. At last the normal depth."""
    slope, rate, n, grid = 0.005, 1e-4, 100, Grid((4, 100), (4000.0, 50.0))
    sides = {"left": "wall", "right": {"depth": 0.0}, "bottom": "periodic", "top": "periodic"}
    equation = ShallowWater(
        boundary=sides, rain=rate, manning=0.02, bathymetry={"kind": "expression", "value": f"-{slope}*x"}
    )
    simulation = Simulation(equation, grid, "ssp-rk2", 600.0, np.zeros((1, 3, 4, n)), cfl=0.45)
    simulation.run(1)
    x = grid.coordinates(centres=True)[1]
    h, q = simulation.state[0, :2, 0]
    assert h.min() > 0
    np.testing.assert_allclose(q[5:-1], rate * x[5:-1], rtol=0.03)
    normal = (0.02 * rate * x / np.sqrt(slope)) ** 0.6
    np.testing.assert_allclose(h[20:70], normal[20:70], rtol=0.06)


def test_resumed_equals_uninterrupted():
    """The values of sides and rain depend on the time alone."""
    grid = Grid((4, 20), (1.0, 2.0))
    sides = {"left": {"discharge": "sin(5*t)"}, "right": {"level": "1 + 0.1*t"}, "bottom": "wall", "top": "wall"}
    equation, state = ShallowWater(boundary=sides, rain="t", manning=0.03), np.zeros((1, 3, 4, 20))
    state[:, 0] = 1.0
    whole = Simulation(equation, grid, "ssp-rk3", 0.02, state, cfl=0.4)
    whole.advance(10)
    first = Simulation(equation, grid, "ssp-rk3", 0.02, state, cfl=0.4)
    first.advance(4)
    second = Simulation(equation, grid, "ssp-rk3", 0.02, state, cfl=0.4)
    second.restore(first.checkpoint())
    second.advance(6)
    np.testing.assert_array_equal(second.state, whole.state)


def test_gradients_pass_through_prescribed_sides():
    """d/da of a functional of two Euler steps in torch, and central differences."""
    import torch

    grid = Grid((6, 8), (1.0, 1.0))
    sides = {"left": {"discharge": 0.3}, "right": {"level": 1.1}, "bottom": {"depth": 1.0}, "top": {"discharge": 0.0}}
    equation = ShallowWater(boundary=sides, **FRICTION)
    rng = np.random.default_rng(0)
    state = np.stack([1 + 0.3 * rng.random((6, 8)), *0.3 * rng.standard_normal((2, 6, 8))])[None]
    direction, operators = rng.standard_normal(state.shape), Operators(grid, array_api_compat.torch)

    def functional(a):
        u = torch.asarray(state) + a * torch.asarray(direction)
        for _ in range(2):
            u = equation.relax(operators, u + 5e-3 * equation.nonlinear(operators, u, 0.0), 5e-3)
        return (u**2).sum()

    a = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(functional(a), a)
    difference = (functional(torch.asarray(1e-6)) - functional(torch.asarray(-1e-6))) / 2e-6
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


CASE = {
    "title": "sides",
    "equation": {"name": "shallow-water"},
    "grid": {"shape": [4, 8], "length": [1.0, 2.0]},
    "time": {"end": 1.0, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "lake-at-rest", "level": 1.0},
    "output": {"every": 0.5},
}
OPEN = {"right": "open", "bottom": "wall", "top": "wall"}


@pytest.mark.parametrize(
    ("equation", "time", "message"),
    [
        ({"boundary": {"left": {}, **OPEN}}, {}, "expected discharge, depth or level. Remedy"),
        ({"boundary": {"left": {"depth": 1, "level": 1}, **OPEN}}, {}, "exclude each other. Remedy"),
        ({"boundary": {"left": {"discharge": "sin(x)"}, **OPEN}}, {}, "left.discharge: .*'x' is not known. Remedy"),
        ({"boundary": {"left": {"discharge": "x.real"}, **OPEN}}, {}, "a formula cannot contain this. Remedy"),
        ({"boundary": {"left": {"depth": "1 - 2*t"}, **OPEN}}, {}, "boundary.left.depth is .* at t = 1, .*Remedy"),
        ({"boundary": {"left": {"flow": 1.0}, **OPEN}}, {}, "flow"),
        ({"boundary": {"left": {"discharge": 1.0}, "right": "periodic", "bottom": "wall", "top": "wall"}}, {}, "both"),
        ({"rain": -1.0}, {}, "rain.*must be finite and not negative"),
        ({"rain": "x - 1"}, {}, "equation.rain is .*expected finite numbers >= 0. Remedy"),
        ({"rain": "9**9**9**9"}, {}, "equation.rain is inf.*Remedy"),
        ({"reconstruction": "weno5"}, {"stepper": "dimension-split"}, "dimension-split needs .*muscl.*Remedy"),
        ({"bathymetry": {"kind": "expression", "value": "1/(x - x)"}}, {}, "bathymetry.value: .*not finite.*Remedy"),
        ({"chezy": 0.0}, {}, "chezy"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(equation, time, message):
    case = CASE | {"equation": CASE["equation"] | equation, "time": CASE["time"] | time}
    with pytest.raises(CaseError, match=message):
        read_case(case)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_value_that_fails_later_ends_the_run_with_its_key(backend):
    """At t = 0.25, which the check of start, middle and end does not see."""
    grid, state = Grid((4, 8), (1.0, 2.0)), np.ones((1, 3, 4, 8))
    equation = ShallowWater(boundary={"left": {"depth": "1 + (t - 0.25 < 1e-9)*(t > 0.2)/0"}, **OPEN})
    simulation = Simulation(equation, grid, "ssp-rk2", 0.01, state, backend=select(backend))
    with pytest.raises(BlowUp, match=r"equation\.boundary\.left\.depth is .* Remedy: change the formula$"):
        simulation.run(100)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_sweeps_take_rain_and_forcing_that_depend_on_time_to_second_order(backend):
    """On a uniform rotating state with friction, against rk4 with short steps."""
    forcing = {"kind": "expression", "fields": {"momentum_x": "2*sin(3*t)", "depth": "0.1*cos(2*t)"}}
    equation = ShallowWater(rain="0.5 + 0.4*cos(4*t)", forcing=forcing, coriolis=2.0, linear_friction=0.5)
    state, grid = np.zeros((1, 3, 4, 4)), Grid((4, 4), (100.0, 100.0))
    state[:, 0], state[:, 1] = 1.0, 0.5

    def final(stepper, count):
        made = Simulation(equation, grid, stepper, 1.0 / count, state, backend=select(backend))
        made.advance(count)
        return made.state

    exact = final("rk4", 400)
    errors = [np.abs(final("dimension-split", n) - exact).max() for n in (10, 20, 40)]
    assert errors[0] > 1e-4
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2.0, atol=0.15)


@pytest.mark.parametrize("name", ["discharge", "depth"])
def test_sweeps_follow_a_side_that_depends_on_time_at_second_order(name):
    """A simple wave that a side sends into water at rest: u = 2 (c - c_0), constant along dx/dt = 3 c - 2 c_0."""
    c_0, end, length = float(np.sqrt(G)), 1.0, 5.0
    bump = "(0.25*(1 - cos(2*pi*t)))**2"  # of c at the side, over c_0

    def speed(t):
        return c_0 * (1 + 0.2 * (0.25 * (1 - np.cos(2 * np.pi * t))) ** 2)

    c = f"{c_0!r}*(1 + 0.2*{bump})"
    condition = {"depth": f"({c})**2/{G}", "discharge": f"({c})**2/{G}*2*({c} - {c_0!r})"}[name]
    departure = np.linspace(0, end, 20001)
    errors = []
    for n in (50, 100, 200):
        grid = Grid((4, n), (1.0, length))
        equation = ShallowWater(boundary={"left": {name: condition}, "right": "open", "bottom": "wall", "top": "wall"})
        state = np.zeros((1, 3, 4, n))
        state[:, 0] = 1.0
        made = Simulation(equation, grid, "dimension-split", end / (2 * n), state, cfl=None)
        made.advance(2 * n)
        arrival = (3 * speed(departure) - 2 * c_0) * (end - departure)
        x = grid.coordinates(centres=True)[1]
        exact = speed(np.interp(x, arrival[::-1], departure[::-1], right=0.0)) ** 2 / G
        errors.append(np.abs(made.state[0, 0, 0] - exact).mean())
    assert errors[0] < 3e-3
    assert (np.log2(np.divide(errors[:-1], errors[1:])) > 1.7).all(), errors
