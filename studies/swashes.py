"""Closed forms of SWASHES for shallow water, and the files of the cases that ship with them.

    python studies/swashes.py [FOLDER]

writes swashes-NAME.nc for NAME in subcritical, shock, macdonald and swash to FOLDER, by default cases/data: NetCDF 3
with depth and momenta as means over the cells of the case, at its start and at the times of its outputs; of the channel
of MacDonald also the bottom.

Source: Delestre, Lucas, Ksinant, Darboux, Laguerre, Vo, James and Cordier, Int. J. Numer. Meth. Fluids 72 (2013) 269.
MacDonald's channels choose a depth h(x) and find the bottom b(x) over which it is steady,

    b' = (q^2 / (g h^3) - 1) h' - 2 q r / (g h^2) - S_f,    q' = r, the rain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.io import netcdf_file

G = 9.81
NODES, WEIGHTS = leggauss(8)
FOLDER = Path(__file__).parent.parent / "cases" / "data"
ROWS = 4


def means(f, n, length):
    """Averages of f over n cells, exact where f is smooth in half cells."""
    x = length / n * (np.arange(2 * n)[:, None] / 2 + 0.25 * (1 + NODES))
    return (f(x) @ WEIGHTS / 2).reshape(n, 2).mean(axis=1)


BUMP = "max(0.2 - 0.05*(x - 10)**2, 0)"


def bump(x):
    return np.maximum(0.2 - 0.05 * (x - 10) ** 2, 0)


def bernoulli(head, b, q, fast):
    """The depth with q^2 / (2 g h^2) + h + b = head: of the two, the supercritical one if `fast`."""
    e = head - b
    c = q**2 / (2 * G)
    # h^3 - e h^2 + c = 0 has one negative root; h = e/3 (1 + 2 cos(...))
    angle = np.arccos(np.clip(1 - 27 * c / (2 * e**3), -1, 1)) / 3
    return e / 3 * (1 + 2 * np.cos(angle + (4 * np.pi / 3 if fast else 0)))


def over_bump(q, downstream, regime):
    """h(x) of the three steady flows over the bump."""
    critical = (q**2 / G) ** (1 / 3)
    crest = 1.5 * critical + 0.2
    tail = q**2 / (2 * G * downstream**2) + downstream

    def slow(x):
        return bernoulli(tail, bump(x), q, False)

    def transcritical(x):
        return np.where(x < 10, bernoulli(crest, bump(x), q, False), bernoulli(crest, bump(x), q, True))

    if regime == "subcritical":
        return slow
    if regime == "transcritical":
        return transcritical
    low, high = 10.01, 12.0
    for _ in range(60):  # bisection for the shock
        x = 0.5 * (low + high)
        before, after = transcritical(x), slow(x)
        excess = q**2 * (1 / before - 1 / after) + G / 2 * (before**2 - after**2)
        low, high = (x, high) if excess > 0 else (low, x)
    return lambda x: np.where(x < low, transcritical(x), slow(x))


def bed(depth, q, length, drag, rain=0.0, breaks=()):
    """Cell means of b over n cells: the integral of b' from the right end, where b = 0, over pieces."""
    fine = 4000

    def slope(x):
        step = 1e-6 * length
        h, flow = depth(x), q + rain * x
        up = (depth(x + step) - depth(x - step)) / (2 * step)
        return (flow**2 / (G * h**3) - 1) * up - 2 * flow * rain / (G * h**2) - drag(h, flow)

    def averages(n):
        edges = np.unique(np.concatenate([np.linspace(0, length, fine + 1), breaks]))
        half = 0.5 * np.diff(edges)
        x = (edges[:-1] + half)[:, None] + half[:, None] * NODES
        pieces = (slope(x) @ WEIGHTS) * half
        height = np.concatenate([[0.0], np.cumsum(pieces)])
        height -= height[-1]
        return means(lambda x: np.interp(x, edges, height), n, length)  # 4000 pieces

    return averages


def manning(n):
    return lambda h, q: n**2 * np.abs(q) * q / h ** (10 / 3)


SCALE = (4 / G) ** (1 / 3)


def subcritical(x):
    return SCALE * (1 + 0.5 * np.exp(-16 * (x / 1000 - 0.5) ** 2))


def swash(t):
    """h and h u of a plane surface that swings in the parabola b = h_0 ((x - 2)^2 - 1), h_0 = 1/2: two shores."""
    omega = np.sqrt(2 * G * 0.5)

    def depth(x):
        return np.maximum(-0.5 * ((x - 2 + 0.5 * np.cos(omega * t)) ** 2 - 1), 0)

    return depth, lambda x: depth(x) * 0.5 * omega * np.sin(omega * t)


def write(path, length, width, times, states, bottom=None):
    """A file of states (time, 3, x), the same in all rows."""
    n = states.shape[-1]
    axes = {
        "time": np.asarray(times),
        "y": width * (np.arange(ROWS) + 0.5) / ROWS,
        "x": length * (np.arange(n) + 0.5) / n,
    }
    with netcdf_file(path, "w") as file:
        for name, values in axes.items():
            file.createDimension(name, len(values))
            made = file.createVariable(name, "d", (name,))
            made[:] = values
            made.units, made.axis = ("time", "T") if name == "time" else ("length", name.upper())
        fields = {"depth": "length", "momentum_x": "length^2/time", "momentum_y": "length^2/time"}
        for i, (name, unit) in enumerate(fields.items()):
            made = file.createVariable(name, "d", ("time", "y", "x"))
            made[:] = np.repeat(states[:, i, None], ROWS, axis=1)
            made.units = unit
        if bottom is not None:
            made = file.createVariable("bathymetry", "d", ("y", "x"))
            made[:] = np.repeat(bottom[None], ROWS, axis=0)
            made.units = "length"


def steady(n, length, depth, q, level, bottom):
    """At the start water at rest up to `level`, or a dry bed; in the end the steady flow: (time, 3, x)."""
    states = np.zeros((2, 3, n))
    if level is not None:
        states[0, 0] = np.maximum(level - bottom, 0.0)
    states[1, 0], states[1, 1] = means(depth, n, length), q
    return states


def bump_means(n):
    """Averages of the bottom of the case, by the quadrature of formulas in cases: 4 points along each axis."""
    nodes, weights = leggauss(4)
    x = 25.0 / n * (np.arange(n)[:, None] + 0.5 + 0.5 * nodes)
    return bump(x) @ weights / 2


def main(folder):
    for name, q, downstream, regime in (("subcritical", 4.42, 2.0, "subcritical"), ("shock", 0.18, 0.33, "shock")):
        states = steady(100, 25.0, over_bump(q, downstream, regime), q, downstream, bump_means(100))
        write(folder / f"swashes-{name}.nc", 25.0, 100.0, [0.0, 300.0], states)
    bottom = bed(subcritical, 2.0, 1000.0, manning(0.033))(100)
    states = steady(100, 1000.0, subcritical, 2.0, float(subcritical(np.array(1000.0))), bottom)
    write(folder / "swashes-macdonald.nc", 1000.0, 4000.0, [0.0, 3000.0], states, bottom)
    times = np.linspace(0, 2 * 2 * np.pi / np.sqrt(G), 9)
    states = np.zeros((9, 3, 100))
    for i, t in enumerate(times):
        states[i, 0], states[i, 1] = (means(f, 100, 4.0) for f in swash(t))
    write(folder / "swashes-swash.nc", 4.0, 16.0, times, states)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    main(parser.parse_args().folder)
