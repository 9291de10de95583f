"""Rows for Fourier grids: Kolmogorov flow against exponax, torch-cfd and the bare transforms; Burgers by the clock."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from exponax_peer import Peer
from numpy.typing import NDArray
from timing import TURNS, Disagreement, Row, Work, against, ratio, repeat, take_turns

from subgrid.commands.run import run
from subgrid.solver import spectral
from subgrid.solver.case.tables import Case
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.grid import Grid
from subgrid.solver.initial.profiles import Sine
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.compiled import bind
from subgrid.solver.time_stepping.schemes import ETDRK2

SIZES = (64, 128, 256, 512)
MEMBERS = 32
AGREEMENT = 1e-10  # of the largest vorticity: difference from exponax allowed after ten steps
FLOW = Kolmogorov(viscosity=1e-3, drag=0.1, forcing=SineForcing(amplitude=1.0, wavenumber=4))
FIELD = GaussianRandomField(exponent=2.5, tau=5.0)


def square(n: int) -> Grid:
    return Grid((n, n), (2 * np.pi, 2 * np.pi))


def vorticity(n: int, members: int = 1) -> NDArray:
    """Random vorticity on the modes that the 2/3 rule keeps, (member, 1, y, x)."""
    transforms = spectral.Transforms(square(n))
    w = FIELD.state(FLOW, square(n), tuple(range(members)), 0)
    return transforms.to_physical(transforms.to_spectrum(w) * square(n).mask())


def bare_step(n: int) -> Work:
    """One step of one member, by the stepper alone."""
    u = spectral.Transforms(square(n)).to_spectrum(vorticity(n))[0]
    stepper = bind(ETDRK2, FLOW.right_hand_side(square(n), 1), u.shape, "complex128", 0.256 / n)
    return lambda: stepper.advance(u, 0.0, None)


def agree(n: int, members: int) -> None:
    """Raises Disagreement if exponax's vorticity after ten steps differs from ours."""
    simulation = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, vorticity(n, members))
    theirs = Peer(FLOW, square(n), 0.256 / n).after(10, simulation.state)
    simulation.advance(10)
    difference = float(np.abs(simulation.state - theirs).max() / np.abs(theirs).max())
    print(f"{members} of {n} x {n}: {difference:.1e} from exponax after ten steps", file=sys.stderr)
    if difference > AGREEMENT:
        raise Disagreement(f"exponax and subgrid differ by more than {AGREEMENT:g}")


def one_member(n: int) -> Row:
    steps = max(2, 2**18 // n**2)
    theirs = Peer(FLOW, square(n), 0.256 / n).one_member(steps, vorticity(n))
    return against(f"step {n}", 3.0 if n <= 128 else 2.0, steps, "exponax", repeat(steps, bare_step(n)), theirs)


def ensemble() -> Row:
    n, steps = 64, 16
    simulation = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, vorticity(n, MEMBERS), threads=2)
    theirs = Peer(FLOW, square(n), 0.256 / n).ensemble(steps, vorticity(n, MEMBERS))
    return against(f"ensemble {MEMBERS}", 3.5, steps, "exponax", lambda: simulation.advance(steps), theirs)


def nonlinear(n: int) -> Row:
    count = max(2, 2**18 // n**2)
    transforms, rhs = spectral.Transforms(square(n)), FLOW.right_hand_side(square(n), 1)
    u = transforms.to_spectrum(vorticity(n))[0]
    out = np.zeros_like(u)
    spectrum, physical = spectral.empty((2, *u.shape), "complex128"), spectral.empty((2, 1, n, n))
    inverse, forward = transforms.inverse(spectrum, physical), transforms.forward(physical, spectrum)
    own = transforms.through(1, lambda values: None)[1]
    contestants = {"term": lambda: rhs(u, 0.0, out), "real": lambda: (inverse(), forward()), "own": own}
    times = take_turns(count, **{name: repeat(count, work) for name, work in contestants.items()})
    term, real, own_time = (times[name].min() for name in contestants)
    detail = f"{term:9.1f} us, transforms {real:.1f} us; {term / own_time:.2f} of its own complex ones"
    return ratio(f"N / FFTs {n}", times["term"], times["real"], 1.3, False, detail)


def whole_run(n: int) -> Row:
    steps, step, flow = 2**26 // n**2, 0.256 / n, FLOW.model_dump(include={"viscosity", "drag", "forcing"})
    tables = {
        "title": "benchmark",
        "equation": {"name": "kolmogorov", **flow},
        "grid": {"shape": (n, n), "length": square(n).length},
        "time": {"end": steps * step, "step": step, "stepper": "etdrk2"},
        "initial": FIELD.model_dump(exclude_none=True),
        "output": {"every": steps * step},
    }
    case, whole = Case.model_validate(tables), []

    def subgrid_run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            summary = json.loads(run(case, out=Path(folder) / "run", progress=False).attrs["summary"])
        whole.append(1e6 * summary["seconds"]["total"] / steps)

    bare = take_turns(steps, turns=5, run=subgrid_run, bare=repeat(steps, bare_step(n)))["bare"]
    times = np.array(whole[1:])
    detail = f"{times.min():9.1f} us, bare steps {bare.min():.1f} us"
    return ratio(f"run {n}", times, bare, 1.05, False, detail)


def burgers() -> Row:
    grid, equation, count = Grid((256,), (2 * np.pi,)), Burgers(viscosity=0.01), 500
    u = spectral.Transforms(grid).to_spectrum(Sine().state(equation, grid, (0,), 0))
    stepper = bind(ETDRK2, equation.right_hand_side(grid, 1), u.shape, "complex128", 1e-3)
    times = take_turns(count, turns=3 * TURNS, ours=repeat(count, lambda: stepper.advance(u, 0.0, None)))["ours"]
    return ratio("burgers 256", times, np.ones_like(times), 15.0, False, "microseconds a step")


def torch_term(n: int) -> Iterator[Row]:
    """The array code on torch, forcing included, over its own four transforms; torch-cfd's of the same flow over it."""
    import torch
    from torch_cfd.forcings import KolmogorovForcing
    from torch_cfd.grids import Grid as TheirGrid
    from torch_cfd.spectral import NavierStokes2DSpectral

    from subgrid.solver.backend import select

    torch.set_num_threads(1)
    count = max(2, 2**17 // n**2)
    operators = spectral.Operators(square(n), backend=select("torch"))
    w = operators.forward(torch.from_numpy(vorticity(n)))
    physical = operators.inverse(w)
    theirs = TheirGrid((n, n), domain=((0, 2 * np.pi), (0, 2 * np.pi)))
    forcing = KolmogorovForcing(grid=theirs, scale=1.0, wave_number=4)
    peer = NavierStokes2DSpectral(FLOW.viscosity, theirs, FLOW.drag, forcing_fn=forcing).double()
    their_w = torch.fft.rfft2(torch.from_numpy(vorticity(n)[0]))
    contestants = {
        "term": lambda: FLOW.nonlinear(operators, w, 0.0),
        "own": lambda: [operators.inverse(w), operators.inverse(w), *map(operators.forward, (physical, physical))],
        "peer": lambda: peer.explicit_terms(their_w, 0.0),
    }
    with torch.no_grad():
        times = take_turns(count, **{name: repeat(count, work) for name, work in contestants.items()})
    detail = f"{times['term'].min():9.1f} us, transforms {times['own'].min():.1f} us"
    yield ratio(f"torch N / FFTs {n}", times["term"], times["own"], 1.5, False, detail)
    detail = f"{times['term'].min():9.1f} us, torch-cfd {times['peer'].min():.1f} us"
    yield ratio(f"torch N {n}", times["peer"], times["term"], 2.2 if n == 512 else 2.0, True, detail)


def rows() -> Iterator[Row]:
    for n in SIZES:
        agree(n, 1)
        yield one_member(n)
    for n in SIZES:
        yield nonlinear(n)
    for n in SIZES:
        yield from torch_term(n)
    for n in SIZES:
        yield whole_run(n)
    yield burgers()
