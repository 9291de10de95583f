"""Closed forms of SWASHES for shallow water, from rest: steady flows with prescribed sides, friction and rain.

Source of the flows: Delestre, Lucas, Ksinant, Darboux, Laguerre, Vo, James and Cordier, Int. J. Numer. Meth. Fluids 72
(2013) 269. MacDonald's channels choose a depth h(x) and find the bottom b(x) over which it is steady,

    b' = (q^2 / (g h^3) - 1) h' - 2 q r / (g h^2) - S_f,    q' = r, the rain.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from subgrid.solver.equations import ShallowWater
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation

sys.path.insert(0, str(Path(__file__).parents[3] / "studies"))
from swashes import BUMP, SCALE, G, bed, bernoulli, manning, means, over_bump, subcritical, swash


def channel(n, length):
    """A thin grid, so wide that its width does not limit the steps."""
    return Grid((4, n), (4000.0 * length, length))


def settled(tmp_path, n, length, bottom, end, start=None, outputs=8, stepper="ssp-rk2", **options):
    """Depth and discharge along the channel at `end`, from water at rest up to the level `start`, or dry."""
    grid = channel(n, length)
    if isinstance(bottom, str):
        bottom = {"kind": "expression", "value": bottom}
    else:
        np.savez(tmp_path / f"{n}.npz", bathymetry=np.repeat(bottom(n)[None], 4, axis=0))
        bottom = {"kind": "file", "path": tmp_path / f"{n}.npz"}
    sides = {"bottom": "periodic", "top": "periodic"} | options.pop("boundary")
    equation = ShallowWater(gravity=G, bathymetry=bottom, boundary=sides, **options)
    state = np.zeros((1, 3, *grid.shape))
    if start is not None:
        state[0, 0] = np.maximum(start - equation.bottom(grid), 0.0)
    cfl = 0.3 if options.get("reconstruction") == "weno5" else 0.45
    simulation = Simulation(equation, grid, stepper, end / outputs, state, cfl=cfl)
    before = None
    for _ in range(outputs):
        before = simulation.state
        simulation.advance(1)
    drift = np.abs(simulation.state - before).max()
    return simulation.state[0, 0, 0], simulation.state[0, 1, 0], drift


# -- channels of MacDonald ------------------------------------------------------------------------------------


def darcy_weisbach(f):
    return lambda h, q: f * np.abs(q) * q / (8 * G * h**3)


def chezy(c):
    return lambda h, q: np.abs(q) * q / (c**2 * h**3)


def supercritical(x):
    return SCALE * (1 - 0.2 * np.exp(-36 * (x / 1000 - 0.5) ** 2))


def smooth(x):
    """From subcritical to supercritical flow."""
    s = x / 1000 - 0.5
    return SCALE * np.where(s <= 0, 1 - np.tanh(3 * s) / 3, 1 - np.tanh(6 * s) / 6)


def jump(x):
    """From supercritical to subcritical flow, by a jump at x = 500."""
    s = x / 1000 - 0.5
    after = 1 + 0.8 * np.exp(x / 1000 - 1)
    for k, a in enumerate((-0.348427, 0.552264, -0.555580), start=1):
        after = after + a * np.exp(-20 * k * s)
    return SCALE * np.where(x <= 500, 0.9 - np.exp(-x / 250) / 6, after)


def undulating(x):
    return 9 / 8 + np.sin(np.pi * x / 500) / 4


def short(x):
    """From subcritical to supercritical flow, and back by a jump at x = 200/3."""
    s = x / 100 - 2 / 3
    after = SCALE * (0.674202 * s**4 + 0.674202 * s**3 - 21.7112 * s**2 + 14.492 * s + 1.4305)
    return np.where(x <= 200 / 3, SCALE * (4 / 3 - x / 100) - 9 * x / 1000 * s, after)


# -- inclined planes, and the swash in a parabola -------------------------------------------------------------


def on_a_plane(slope, q, depth, length):
    """Frictionless flow down a plane b = -slope x: the depths of the head of the flow that enters with `depth`."""
    head = q**2 / (2 * G * depth**2) + depth
    fast = depth < (q**2 / G) ** (1 / 3)
    return lambda x: bernoulli(head, -slope * x, q, fast)


# -- tests ----------------------------------------------------------------------------------------------------


def orders(errors, cells):
    return np.log(np.array(errors[0]) / errors[-1]) / np.log(cells[-1] / cells[0])


SCHEMES = [("muscl", "ssp-rk2"), ("weno5", "ssp-rk3"), ("muscl", "dimension-split")]


@pytest.mark.parametrize(("reconstruction", "stepper"), SCHEMES)
@pytest.mark.parametrize(
    ("regime", "q", "downstream", "least"),
    [("subcritical", 4.42, 2.0, 0.9), ("transcritical", 1.53, 0.66, 1.5), ("shock", 0.18, 0.33, 0.3)],
)
def test_flow_over_a_bump(tmp_path, regime, q, downstream, least, reconstruction, stepper):
    """From a lake at rest, a discharge on the left and a depth on the right. Second order, first with the shock.

    The shock lies anywhere in its cell and, with the limiter of muscl, sends out waves that the sides reflect; the
    errors scatter about these orders.
    """
    depth, errors = over_bump(q, downstream, regime), []
    cells = (50, 200 if regime == "shock" or (regime, reconstruction) == ("transcritical", "muscl") else 100)
    sides = {"left": {"discharge": q}, "right": {"depth": downstream}}
    for n in cells:
        options = {"boundary": sides, "reconstruction": reconstruction, "stepper": stepper}
        h, found, _ = settled(tmp_path, n, 25.0, BUMP, 300.0, downstream, **options)
        errors.append([np.abs(h - means(depth, n, 25.0)).mean(), np.abs(found - q).mean()])
    assert (orders(errors, cells) > least).all(), errors


# name: depth, q, length, drag, friction, two conditions on the left, one on the right, rain, end, cells, least order
CHANNELS = {
    "subcritical, Manning": (subcritical, 2.0, 1000.0, manning(0.033), {"manning": 0.033}, False, True, 0.0, 3000.0),
    "subcritical, Darcy-Weisbach": (
        subcritical, 2.0, 1000.0, darcy_weisbach(0.093), {"darcy_weisbach": 0.093}, False, True, 0.0, 3000.0,
    ),
    "subcritical, Chezy": (subcritical, 2.0, 1000.0, chezy(30.0), {"chezy": 30.0}, False, True, 0.0, 3000.0),
    "supercritical, Manning": (supercritical, 2.5, 1000.0, manning(0.04), {"manning": 0.04}, True, False, 0.0, 2000.0),
    "supercritical, Darcy-Weisbach": (
        supercritical, 2.5, 1000.0, darcy_weisbach(0.065), {"darcy_weisbach": 0.065}, True, False, 0.0, 2000.0,
    ),
    "transition": (smooth, 2.0, 1000.0, manning(0.0218), {"manning": 0.0218}, False, False, 0.0, 2500.0),
    "jump": (jump, 2.0, 1000.0, manning(0.0218), {"manning": 0.0218}, True, True, 0.0, 4000.0),
    "undulating": (undulating, 2.0, 5000.0, manning(0.03), {"manning": 0.03}, False, True, 0.0, 10000.0),
    "rain, subcritical": (subcritical, 1.0, 1000.0, manning(0.033), {"manning": 0.033}, False, True, 0.001, 4000.0),
    "rain, supercritical": (
        supercritical, 2.5, 1000.0, darcy_weisbach(0.065), {"darcy_weisbach": 0.065}, True, False, 0.001, 2000.0,
    ),
}  # fmt: skip
CELLS = {"jump": ((50, 200), 1.0), "undulating": ((50, 200), 1.5)}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_of_macdonald(tmp_path, name):
    """From a dry bed, or water at rest where the flow leaves over a depth; second order, first with a jump."""
    depth, q, length, drag, friction, both, right, rain, end = CHANNELS[name]
    cells, least = CELLS.get(name, ((50, 100), 1.5))
    left = {"discharge": q} | ({"depth": float(depth(np.array(0.0)))} if both else {})
    outflow = float(depth(np.array(length)))
    sides, errors = {"left": left, "right": {"depth": outflow} if right else "open"}, []
    bottom = bed(depth, q, length, drag, rain, (500.0,) if name in ("jump", "transition") else ())
    for n in cells:
        start = outflow if name in ("jump", "undulating") else None
        options = {"boundary": sides, **friction} | ({"rain": rain} if rain else {})
        h, found, _ = settled(tmp_path, n, length, bottom, end, start, **options)
        exact = means(lambda x: q + rain * x, n, length)
        errors.append([np.abs(h - means(depth, n, length)).mean(), np.abs(found - exact).mean()])
    assert (orders(errors, cells) > least).all(), errors


def test_a_short_channel_with_a_transition_and_a_jump(tmp_path):
    """First order at the jump, which weno5 keeps in its cell."""
    sides, errors = {"left": {"discharge": 2.0}, "right": {"depth": float(short(np.array(100.0)))}}, []
    bottom = bed(short, 2.0, 100.0, manning(0.0328), breaks=(200 / 3,))
    for n in (50, 200):
        options = {"boundary": sides, "manning": 0.0328, "reconstruction": "weno5", "stepper": "ssp-rk3"}
        h, found, _ = settled(tmp_path, n, 100.0, bottom, 400.0, sides["right"]["depth"], **options)
        errors.append([np.abs(h - means(short, n, 100.0)).mean(), np.abs(found - 2.0).mean()])
    assert (orders(errors, (50, 200)) > 0.8).all(), errors


@pytest.mark.parametrize("depth", [1.2, 0.3])
def test_frictionless_flow_down_a_plane(tmp_path, depth):
    """Sub- and supercritical, from a dry bed or from rest; second order."""
    q, slope, length, errors = 1.0, 0.02, 10.0, []
    exact = on_a_plane(slope, q, depth, length)
    end = float(exact(np.array(length)))
    fast = depth < 0.4
    left = {"discharge": q} | ({"depth": depth} if fast else {})
    right = "open" if fast else {"level": f"{end - slope * length} + 0*t"}
    for n in (25, 50):
        start = None if fast else end - slope * length
        sides = {"left": left, "right": right}
        h, found, _ = settled(tmp_path, n, length, f"-{slope}*x", 200.0, start, boundary=sides)
        errors.append([np.abs(h - means(exact, n, length)).mean(), np.abs(found - q).mean()])
    assert errors[1][0] < 1e-5 or (orders(errors, (25, 50)) > 1.5)[0], errors
    assert errors[1][1] < 1e-6 or (orders(errors, (25, 50)) > 1.5)[1], errors


@pytest.mark.parametrize("law", [{"manning": 0.02}, {"darcy_weisbach": 0.05}, {"chezy": 40.0}])
@pytest.mark.parametrize("slope", [0.002, 0.05])
def test_uniform_flow_on_an_inclined_plane(tmp_path, law, slope):
    """The normal depth, where friction balances the slope; sub- and supercritical, from a dry bed."""
    q, length, errors = 0.5, 100.0, []
    drag = {"manning": manning, "darcy_weisbach": darcy_weisbach, "chezy": chezy}[next(iter(law))](*law.values())
    from scipy.optimize import brentq

    depth = brentq(lambda h: drag(h, q) - slope, 1e-3, 10.0)
    fast = depth < (q**2 / G) ** (1 / 3)
    left = {"discharge": q} | ({"depth": depth} if fast else {})
    for n in (25, 50):
        sides = {"left": left, "right": "open" if fast else {"depth": depth}}
        h, found, _ = settled(tmp_path, n, length, f"-{slope}*x", 1000.0, boundary=sides, **law)
        errors.append([np.abs(h - depth).mean() / depth, np.abs(found - q).mean() / q])
    assert ((np.array(errors[1]) < 1e-6) | (orders(errors, (25, 50)) > 1.5)).all(), errors


@pytest.mark.parametrize(("reconstruction", "stepper"), SCHEMES)
def test_the_swash_in_a_parabola(tmp_path, reconstruction, stepper):
    """A plane surface swings between two shores, for two periods; first order at the shores."""
    period, errors = 2 * np.pi / np.sqrt(G), []
    (depth, _), t = swash(0.0), 2.25 * 2 * np.pi / np.sqrt(G)
    assert period == pytest.approx(2 * np.pi / np.sqrt(2 * G * 0.5))
    for n in (50, 200):
        grid = channel(n, 4.0)
        formula = {"kind": "expression", "value": "0.5*((x - 2)**2 - 1)"}
        sides = {"left": "wall", "right": "wall", "bottom": "periodic", "top": "periodic"}
        equation = ShallowWater(gravity=G, bathymetry=formula, boundary=sides, reconstruction=reconstruction)
        state = np.zeros((1, 3, *grid.shape))
        state[0, 0] = means(depth, n, 4.0)
        simulation = Simulation(equation, grid, stepper, t, state, cfl=0.3 if reconstruction == "weno5" else 0.45)
        simulation.advance(1)
        exact = [means(f, n, 4.0) for f in swash(t)]
        errors.append([np.abs(simulation.state[0, k, 0] - exact[k]).mean() for k in (0, 1)])
    assert (orders(errors, (50, 200)) > 0.85).all(), errors
