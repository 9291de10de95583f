"""Speed of steps on a device: 2D vorticity against peers, shallow water and Vlasov against the memory bandwidth."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Place, Row, Sizes, unmeasured

from subgrid.solver.backend import NUMPY
from subgrid.solver.equations import Kolmogorov, ShallowWater, VlasovPoisson
from subgrid.solver.equations.forcing import SineForcing
from subgrid.solver.equations.shallow_water.initial import RandomSurface
from subgrid.solver.equations.vlasov_poisson.initial import TwoStream
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators
from subgrid.solver.time_stepping import cuda_graph
from subgrid.solver.time_stepping.launched import LaunchedStepper

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
FLOW = Kolmogorov(viscosity=1e-3, drag=0.1, forcing=SineForcing(amplitude=1.0, wavenumber=4))
PEERS = {"torch-cfd": 2.0, "jax-cfd": 1.5, "exponax": 1.5}
COMPARED = range(256, 1025)  # grids on which a speed-up is required


def square(n: int) -> Grid:
    return Grid((n, n), (2 * np.pi, 2 * np.pi))


@functools.lru_cache(maxsize=2)
def vorticity(n: int, members: int) -> np.ndarray:
    """Random vorticity on the modes that the 2/3 rule keeps, (member, 1, y, x)."""
    operators = Operators(square(n))
    w = GaussianRandomField(exponent=2.5, tau=5.0).state(FLOW, square(n), (0,), 0)
    one = operators.to_physical(operators.to_spectrum(w) * square(n).mask())[0]
    return np.stack([np.roll(one, (7 * m, 3 * m), (-2, -1)) for m in range(members)])


def vorticity_rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    rates: dict[tuple[int, int], float] = {}
    for n in sizes.grids:
        for members in (1, sizes.members):
            if members * n * n > sizes.values:
                continue
            state, step = vorticity(n, members), 0.256 / n
            run = Simulation(FLOW, square(n), "etdrk2", step, state, backend=place.backend)
            ours = place.seconds(lambda run=run: run.advance(1), sizes)
            rates[n, members] = members / ours
            what = f"{members} x {n}²"
            yield Row(f"etdrk2 step, {what}", 1e6 * ours, "microseconds")
            yield from single(place, sizes, n, members, ours)
            yield from kernels(place, sizes, n, members, ours, run)
            yield from peers(place, sizes, n, members, state, ours, run)
    n = sizes.grids[0]
    if (n, sizes.members) in rates:
        gain = rates[n, sizes.members] / rates[n, 1]
        required = 10.0 if n == 64 else None
        yield Row(f"members per second, {sizes.members} over 1 at {n}²", gain, "ratio", "", required)


def single(place: Place, sizes: Sizes, n: int, members: int, double: float) -> Iterator[Row]:
    """Single precision: its speed, and its difference from double precision after 100 steps."""
    backends = [replace(place.backend, precision=p) for p in ("float64", "float32")]
    runs = [Simulation(FLOW, square(n), "etdrk2", 0.256 / n, vorticity(n, members), backend=b) for b in backends]
    time = place.seconds(lambda: runs[1].advance(1), sizes)
    fresh = [Simulation(FLOW, square(n), "etdrk2", 0.256 / n, vorticity(n, members), backend=b) for b in backends]
    for run in fresh:
        run.advance(100)
    exact, found = (run.state for run in fresh)
    error = float(np.abs(exact - found).max() / np.abs(exact).max())
    detail = f"difference after 100 steps {error:.1e}"
    yield Row(f"single over double, {members} x {n}²", double / time, "ratio", detail)


def kernels(place: Place, sizes: Sizes, n: int, members: int, ours: float, run: Simulation) -> Iterator[Row]:
    """The time of array code over that of the step by CUDA kernels, and their difference after 20 steps."""
    what = f"array code over CUDA kernels, {members} x {n}²"
    if type(run._ensemble._stepper) is not LaunchedStepper:
        yield unmeasured(what, "Numba finds no CUDA device, or SUBGRID_CUDA_KERNELS=0")
        return
    state, found = vorticity(n, members), []
    given = os.environ.get("SUBGRID_CUDA_KERNELS", "")
    for choice in (given, "0"):
        os.environ["SUBGRID_CUDA_KERNELS"] = choice
        found.append(Simulation(FLOW, square(n), "etdrk2", 0.256 / n, state, backend=place.backend))
        found[-1].advance(20)
    os.environ["SUBGRID_CUDA_KERNELS"] = given
    launched, plain = (run.state for run in found)
    error = float(np.abs(plain - launched).max() / np.abs(plain).max())
    time = place.seconds(lambda: found[1].advance(1), sizes)
    yield Row(what, time / ours, "ratio", f"{1e6 * time:.0f} microseconds; difference {error:.1e}")


def peers(
    place: Place, sizes: Sizes, n: int, members: int, state: np.ndarray, ours: float, run: Simulation
) -> Iterator[Row]:
    """Each peer's time over ours: a step of exponax, the explicit terms of torch-cfd and jax-cfd.

    Our term is computed as in a run: by the kernels of the device, and replayed where steps are.
    """
    w = Operators(square(n), backend=place.backend).forward(place.backend.asarray(state))
    term = place.seconds(recorded(place, run._ensemble._stepper, w), sizes)
    for name, make in (("exponax", exponax_step), ("torch-cfd", torch_cfd_term), ("jax-cfd", jax_cfd_term)):
        what = f"{name} over ours, {members} x {n}²"
        required = PEERS[name] if n in COMPARED else None
        try:
            theirs, count = make(place, n, state)
            time = place.seconds(theirs, sizes) / count
        except Exception as error:  # whatever a peer lacks on this machine
            yield unmeasured(what, f"{type(error).__name__}: {error}")
            continue
        own = ours if name == "exponax" else term
        yield Row(what, time / own, "ratio", f"{1e6 * time:.0f} over {1e6 * own:.0f} microseconds", required)


def recorded(place: Place, stepper: Any, w: Any) -> Callable[[], Any]:
    """The nonlinear term of a stepper, as a CUDA graph where a step of this state is one."""

    def term() -> Any:
        return stepper.rate(w, 0.0)

    record = cuda_graph.recorder(place.backend)
    if record is None or w.shape[0] * math.prod(stepper.operators.grid.shape) > cuda_graph.LARGEST:
        return term
    term()
    return record(term)


def exponax_step(place: Place, n: int, state: np.ndarray) -> tuple[Callable[[], Any], int]:
    """Steps of all members under jit; the states after ten steps must be ours."""
    import jax
    from exponax_peer import Peer

    jax.config.update("jax_enable_x64", True)
    peer = Peer(FLOW, square(n), 0.256 / n)
    check = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, state[:1], backend=NUMPY)
    check.advance(10)
    theirs = peer.after(10, state[:1])
    if np.abs(check.state - theirs).max() > 1e-9 * np.abs(theirs).max():
        raise ValueError("exponax and subgrid differ after ten steps")
    start, count = peer.coefficients(state), 10
    steps = jax.jit(lambda v: jax.lax.fori_loop(0, count, lambda i, x: jax.vmap(peer.step)(x), v))
    return lambda: steps(start).block_until_ready(), count


def torch_cfd_term(place: Place, n: int, state: np.ndarray) -> tuple[Callable[[], Any], int]:
    import torch
    from torch_cfd.forcings import KolmogorovForcing
    from torch_cfd.grids import Grid as TheirGrid
    from torch_cfd.spectral import NavierStokes2DSpectral

    device = place.backend.device
    grid = TheirGrid((n, n), domain=((0, 2 * np.pi), (0, 2 * np.pi)), device=device)
    forcing = KolmogorovForcing(grid=grid, scale=1.0, wave_number=4)
    peer = NavierStokes2DSpectral(FLOW.viscosity, grid, FLOW.drag, forcing_fn=forcing).double().to(device)
    w = torch.fft.rfft2(torch.from_numpy(state[:, 0].copy()).to(device))

    def term() -> Any:
        with torch.no_grad():
            return peer.explicit_terms(w, 0.0)

    return term, 1


def jax_cfd_term(place: Place, n: int, state: np.ndarray) -> tuple[Callable[[], Any], int]:
    import jax
    import jax.numpy as jnp
    from jax_cfd.base import grids
    from jax_cfd.spectral import equations

    jax.config.update("jax_enable_x64", True)
    grid = grids.Grid((n, n), domain=((0, 2 * np.pi), (0, 2 * np.pi)))
    peer = equations.ForcedNavierStokes2D(FLOW.viscosity, grid, smooth=True)
    w = jnp.fft.rfft2(jnp.asarray(state[:, 0]))
    term = jax.jit(jax.vmap(peer.explicit_terms))
    return lambda: term(w).block_until_ready(), 1


def bandwidth_rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Share of the bandwidth of a step: a read and a write of the state for each stage, over the time."""
    large = place.backend.asarray(np.zeros(sizes.copied // 8))
    copied = 2 * sizes.copied / place.seconds(lambda: place.backend.copy(large), sizes)
    yield Row("bandwidth of a copy", 1e-9 * copied, "GB/s", "read and written")
    for n in sizes.cells:
        water, waves = ShallowWater(), RandomSurface(depth=1.0, amplitude=0.1, exponent=3.0, tau=3.0)
        plasma, phases = VlasovPoisson(), Grid((n, n), (14.0, 8 * np.pi), (-7.0, 0.0))
        basin = Grid((n, n), (1.0, 1.0))
        problems = (
            ("shallow water, ssp-rk2", water, basin, waves, "ssp-rk2", 0.1 / n, 2),
            ("Vlasov-Poisson, rk4", plasma, phases, TwoStream(amplitude=0.02, modes=3), "rk4", 1.0 / n, 4),
            ("Vlasov-Poisson, strang", plasma, phases, TwoStream(amplitude=0.02, modes=3), "strang", 1.0 / n, 3),
        )
        for name, equation, grid, initial, stepper, step, stages in problems:
            run = Simulation(
                equation, grid, stepper, step, initial.state(equation, grid, (0,), 0), backend=place.backend
            )
            time = place.seconds(lambda run=run: run.advance(1), sizes)
            share = 2 * stages * 8 * len(equation.fields) * n * n / time / copied
            detail = f"{1e-6 * n * n / time:.0f} million cells stepped per second"
            yield Row(f"{name}, {n}²", 100 * share, "% of the bandwidth", detail)
