"""Rows for the limits of the machine: the shortest time that one core could need for a kernel over the time it takes.

The limits are measured here, on the core that runs the kernels, in the precision of the kernel:

memory      bytes per second of the triad a = b + s c over arrays that together are as large as what the kernel touches,
            so that caches count as such.
arithmetic  operations per second of chains of fused multiply-adds, two operations each.
division    divisions per second of one array by another, in the first-level cache; a square root counts as one.

A kernel needs at least the longest of three times: its traffic over the first, its operations over the second, its
divisions over the third. Traffic is what it reads and writes once, whatever its method. Operations are those of the
formulas in its source, counted by hand: sums, products, minima, comparisons and selections, one each. The share is that
time over the measured one. At least 0.5 is required, or a reason stands behind; such a row counts as met.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import fourier
import numba
import numpy as np
import shallow_water
import vlasov
from timing import Row, Work, repeat

from subgrid.solver import spectral
from subgrid.solver.backend import PRECISIONS
from subgrid.solver.equations import ChargedParticles, ShallowWater, VlasovPoisson
from subgrid.solver.equations.particles.initial import RandomParticles
from subgrid.solver.equations.vlasov_poisson.initial import TwoStreamHypar
from subgrid.solver.grid import Grid
from subgrid.solver.time_stepping.compiled import bind
from subgrid.solver.time_stepping.schemes import ETDRK2, STRANG

TURNS, REQUIRED = 9, 0.5


class Kernel(NamedTuple):
    """What a kernel does per cell, and why its share may be less than what is required."""

    bytes: float
    operations: float
    divisions: float
    reason: str


UNFUSED = "where no product meets a sum, the core does half of the operations: twice this share of that rate"
SHUFFLES = "a transform moves values between lanes and lines as often as it computes"
SLOPES, FLUX, WENO5_CELL = 46, 64, 278  # operations of shallow water per cell and direction
WATER = Kernel(9, 2 * (SLOPES + FLUX) + 25, 7, UNFUSED)  # the state, its base and the result have three values each
WENO5_WATER = {
    name: Kernel(9, WATER.operations + 2 * WENO5_CELL, 7 + divisions, UNFUSED)
    for name, divisions in (("float64", 38), ("float32", 26))  # weights by one common division in single precision
}
SWEEP = Kernel(6, 175, 5, UNFUSED)
WENO5_VLASOV = {"float64": Kernel(2, 160, 3, UNFUSED), "float32": Kernel(2, 160, 5, UNFUSED)}
STRANG_STEP = Kernel(7, 3 * 28 + 1, 0, "13 loads a cell cross cache lines; the kick copies columns to packed storage")
PAIR = Kernel(0, 24, 2, "a row of 1 ... 19 pairs fills few vectors")


@numba.njit(error_model="numpy", fastmath={"contract"})
def triad(a, b, c, s, count):
    for _ in range(count):
        for i in range(a.shape[0]):
            a[i] = b[i] + s * c[i]


@numba.njit(error_model="numpy", fastmath={"contract"})
def chains(a, s, t, count):
    """Eight dependent operations per value: enough of them per load and store, and few enough to overlap."""
    for _ in range(count):
        for i in range(a.shape[0]):
            x = a[i] * s + t
            x = x * s + t
            x = x * s + t
            x = x * s + t
            x = x * s + t
            x = x * s + t
            x = x * s + t
            a[i] = x * s + t


@numba.njit(error_model="numpy")
def divide(a, b, count):
    for _ in range(count):
        for i in range(a.shape[0]):
            a[i] = b[i] / a[i]


def seconds(work: Work) -> float:
    """Median time of the processor; at least a millisecond per turn."""
    work()
    began = time.process_time()
    work()
    count = max(1, math.ceil(1e-3 / max(time.process_time() - began, 1e-6)))
    turns = []
    for _ in range(TURNS):
        began = time.process_time()
        repeat(count, work)()
        turns.append((time.process_time() - began) / count)
    return float(np.median(turns))


def shortest(work: Work) -> float:
    """Of three medians: a limit is what the core can do, whatever else the machine does."""
    return min(seconds(work) for _ in range(3))


@cache
def bandwidth(size: int, precision: str) -> float:
    """Bytes per second of a triad over arrays of `size` bytes in all."""
    a, b, c = np.ones((3, max(64, size // (3 * np.dtype(precision).itemsize))), precision)
    s, count = a.dtype.type(0.5), max(1, 2**18 // a.size)
    return count * 3 * a.nbytes / shortest(lambda: triad(a, b, c, s, count))


@cache
def arithmetic(precision: str) -> float:
    """Operations per second of fused multiply-adds."""
    a = np.ones(512, precision)
    s = a.dtype.type(0.5)
    return 1000 * 8 * 2 * a.size / shortest(lambda: chains(a, s, s, 1000))


@cache
def division(precision: str) -> float:
    """Divisions per second."""
    a, b = np.random.default_rng(0).uniform(0.5, 2.0, (2, 512)).astype(precision)
    return 1000 * a.size / shortest(lambda: divide(a, b, 1000))


def row(what: str, kernel: Kernel, cells: float, touched: int, work: Work, precision: str = "float64") -> Row:
    """The share of the limit; `touched`: bytes of all arrays of the kernel, kernel.bytes in values per cell."""
    width, taken = np.dtype(precision).itemsize, seconds(work)
    times = {
        "memory": width * kernel.bytes * cells / bandwidth(touched, precision),
        "arithmetic": kernel.operations * cells / arithmetic(precision),
        "division": kernel.divisions * cells / division(precision),
    }
    bound = max(times, key=lambda name: times[name])
    share = times[bound] / taken
    detail = f"{1e9 * taken / cells:7.2f} ns a cell, {bound} {1e9 * times[bound] / cells:.2f}; "
    detail += (
        f"{width * kernel.bytes:.0f} B, {kernel.operations:.0f} operations, {kernel.divisions:.0f} divisions a cell"
    )
    if share < REQUIRED:
        return Row(f"roofline {what}", share, share, 0.0, True, f"{detail}; {kernel.reason}")
    return Row(f"roofline {what}", share, share, REQUIRED, True, detail)


def kolmogorov(n: int, precision: str) -> Row:
    """A step of ETDRK2: two nonlinear terms, of two complex transforms each, pruned by the 2/3 rule, and two stages.

    A transform of n^2 values takes 5 n^2 log2(n^2) operations, 5/6 of it without the modes that are zero, and passes
    twice through memory, once per axis. A stage reads u, up to two rates and four coefficients, and writes u.
    """
    transforms, flow, grid = spectral.Transforms(fourier.square(n)), fourier.FLOW, fourier.square(n)
    kind = "complex128" if precision == "float64" else "complex64"
    u = transforms.to_spectrum(fourier.vorticity(n))[0].astype(kind)
    stepper = bind(ETDRK2, flow.right_hand_side(grid, 1, dtype=precision), u.shape, kind, 0.256 / n)
    kernel = Kernel(
        2 * (2 * 2 * 4 * 5 / 6) + 2 * 6,
        2 * (2 * 5 / 6 * 10 * np.log2(n) + 15) + 2 * 8,
        0,
        SHUFFLES,
    )
    touched = 6 * u.nbytes + 2 * n * n * u.itemsize
    return row(f"kolmogorov {n} {precision}", kernel, n * n, touched, lambda: stepper.advance(u, 0.0, None), precision)


def water(n: int, precision: str) -> Iterator[Row]:
    """Stages of the explicit steppers, and one sweep along either axis, of the radial dam break at t = 0.2."""
    grid = Grid((n, n), (shallow_water.LENGTH, shallow_water.LENGTH))
    u = shallow_water.ours(n, 0.2).astype(precision)
    for scheme, kernel in (("muscl", WATER), ("weno5", WENO5_WATER[precision])):
        equation = ShallowWater(gravity=1.0, boundary="wall", reconstruction=scheme)
        rhs, out = equation.right_hand_side(grid, 1, dtype=precision), np.zeros_like(u)

        def stage(rhs=rhs, out=out) -> None:
            rhs.stage(u, 0.0, out, u, 0.5, 0.5, 1e-3, None)

        yield row(f"water {scheme} {n} {precision}", kernel, n * n, 2 * u.nbytes, stage, precision)
    rhs, v = shallow_water.EQUATION.right_hand_side(grid, 1, dtype=precision), u.copy()
    for part in "xy":
        work: Work = lambda part=part: rhs.flow(part, v, 0.01 / n)  # noqa: E731
        yield row(f"water sweep {part} {n} {precision}", SWEEP, n * n, v.nbytes, work, precision)


def phase_space(n: int, precision: str) -> Iterator[Row]:
    """A right-hand side with WENO5 fluxes, and a split step: two shifts along x, one along v, and the field."""
    equation, grid = VlasovPoisson(), Grid((n, n), (14.0, 2 * np.pi), (-7 - 7 / n, -np.pi / n))
    u = TwoStreamHypar().state(vlasov.EQUATION, grid, (0,), 0)[0].astype(precision)
    rhs, out = equation.right_hand_side(grid, 1, dtype=precision), np.zeros_like(u)
    name = f"{n} {precision}"
    yield row(f"vlasov weno5 {name}", WENO5_VLASOV[precision], n * n, 3 * u.nbytes, lambda: rhs(u, 0.0, out), precision)
    stepper = bind(STRANG, equation.right_hand_side(grid, 1, dtype=precision), u.shape, precision, 0.64 / n)
    shifted, touched = u.copy(), u.nbytes
    yield row(
        f"vlasov strang {name}",
        STRANG_STEP,
        n * n,
        touched,
        lambda: stepper.advance(shifted, 0.0, None),
        precision,
    )


def particles(members: int, count: int, precision: str) -> Row:
    """Forces between all pairs; "cells" are pairs."""
    equation, grid = ChargedParticles(), Grid((count,), (float(count),))
    u = RandomParticles().state(equation, grid, tuple(range(members)), 0).astype(precision).reshape(members, 7, count)
    rhs = equation.right_hand_side(grid, members, dtype=precision)

    def forces() -> None:
        rhs._known[...] = np.nan  # forces are computed anew where positions differ from the known ones
        rhs.acceleration(u)

    pairs = members * count * (count - 1) / 2
    return row(f"particles {members} of {count} {precision}", PAIR, pairs, u.nbytes, forces, precision)


def rows() -> Iterator[Row]:
    for precision in PRECISIONS:
        rates = ", ".join(f"{1e-9 * bandwidth(2**k, precision):.0f} GB/s at {2**k >> 10} kB" for k in (14, 18, 22, 26))
        print(f"{precision}: {1e-9 * arithmetic(precision):.0f} billion operations/s, ", end="")
        print(f"{1e-9 * division(precision):.2f} billion divisions/s; triad {rates}")
        for n in (64, 256, 1024):
            yield kolmogorov(n, precision)
        for n in (128, 512):
            yield from water(n, precision)
        for n in (128, 512):
            yield from phase_space(n, precision)
        yield particles(1000, 20, precision)
