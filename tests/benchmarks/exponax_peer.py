"""Exponax's Kolmogorov flow, set up as ours, in the ways in which it may run fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import exponax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from subgrid.solver.equations import Kolmogorov
from subgrid.solver.grid import Grid

Work = Callable[[], object]


class Peer:
    """ETDRK2 in Fourier space, with the parameters, the forcing and the kept modes of `flow` on a square grid.

    Exponax's vorticity is minus ours, transposed: it advects with the opposite sign, and forces along the other axis.
    """

    def __init__(self, flow: Kolmogorov, grid: Grid, step: float) -> None:
        assert flow.forcing is not None
        assert flow.forcing.kind == "sine"
        self.n = grid.shape[0]
        self.step = exponax.stepper.KolmogorovFlowVorticity(
            2,
            grid.length[0],
            self.n,
            step,
            diffusivity=flow.viscosity,
            drag=-flow.drag,
            injection_mode=flow.forcing.wavenumber,
            injection_scale=-flow.forcing.amplitude,
            order=2,
            dealiasing_fraction=(grid.cuts[0] + 1.5) / (self.n // 2),
        ).step_fourier

    def coefficients(self, w: NDArray) -> jax.Array:
        return jnp.fft.rfft2(-jnp.asarray(w).swapaxes(-1, -2))

    def after(self, steps: int, w: NDArray) -> NDArray:
        """The vorticity (member, 1, y, x) after some steps."""
        w_hat = jax.lax.fori_loop(0, steps, lambda i, v: jax.vmap(self.step)(v), self.coefficients(w))
        return -np.asarray(jnp.fft.irfft2(w_hat, s=(self.n, self.n))).swapaxes(-1, -2)

    def one_member(self, steps: int, w: NDArray) -> dict[str, Work]:
        """A Python loop with donated arrays, one fori_loop, one scan."""
        start = self.coefficients(w[0])
        once = jax.jit(lambda v: self.step(v), donate_argnums=0)
        fori = jax.jit(lambda v: jax.lax.fori_loop(0, steps, lambda i, x: self.step(x), v))
        scan = jax.jit(lambda v: jax.lax.scan(lambda x, _: (self.step(x), None), v, None, length=steps)[0])
        return {
            "loop": lambda: functools.reduce(lambda v, _: once(v), range(steps), start + 0).block_until_ready(),
            "fori": lambda: fori(start).block_until_ready(),
            "scan": lambda: scan(start).block_until_ready(),
        }

    def ensemble(self, steps: int, w: NDArray) -> dict[str, Work]:
        """vmap on one device with all threads, on two devices, and in two Python threads with half the members each."""
        start = self.coefficients(w)
        several = jax.jit(lambda v: jax.lax.fori_loop(0, steps, lambda i, x: jax.vmap(self.step)(x), v))
        apart = jax.device_put(start, NamedSharding(Mesh(jax.devices(), ("member",)), PartitionSpec("member")))
        halves, pool = jnp.split(start, 2), ThreadPoolExecutor(2)
        return {
            "vmap": lambda: several(start).block_until_ready(),
            "devices": lambda: several(apart).block_until_ready(),
            "threads": lambda: list(pool.map(lambda half: several(half).block_until_ready(), halves)),
        }
