"""Smagorinsky's eddy viscosity with a coefficient from the resolved scales."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Memory, Problem

from .eddy_viscosity import Array, EddyViscosity


class DynamicSmagorinsky(EddyViscosity):
    """nu_e = C Delta^2 |S|, with C = max(0, <L.M> / <M.M>) of each member at each call.

    flux = "vorticity": L_i = hat(u_i w) - hat(u_i) hat(w) is the flux of vorticity between the grid and a test filter
    (hat), a sharp cut at k_cut / ratio, and M_i = Delta^2 [hat(|S| d_i w) - ratio^2 |hat S| d_i hat w].
    flux = "momentum": L_ij = hat(u_i u_j) - hat(u_i) hat(u_j), without its trace, and
    M_ij = 2 Delta^2 [hat(|S| S_ij) - ratio^2 |hat S| hat S_ij].

    Means are over the domain. C takes the place of Smagorinsky's squared coefficient. In two dimensions energy goes to
    large scales, so the momentum form mostly finds C < 0 and is clipped; the flux of vorticity goes to small scales.

    For Kolmogorov flow. Raises ClosureError for anything else. Sources: Germano, Piomelli, Moin and Cabot, Phys. Fluids
    A 3 (1991) 1760; Lilly, Phys. Fluids A 4 (1992) 633; for vorticity, Maulik and San, Int. J. Comput. Fluid Dyn. 31
    (2017) 69.
    """

    flux: Literal["vorticity", "momentum"] = "vorticity"
    ratio: Annotated[float, Field(gt=1, le=8)] = 2.0
    _kept: Array = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov")
        memory = super().start(problem)
        grid = problem.grid
        numbers = zip(grid.integer_wavenumbers(), grid.cuts, strict=True)
        kept = np.ones(grid.spectral_shape, dtype=bool)
        for m, cut in numbers:
            kept &= self.ratio * np.abs(m) <= cut
        self._kept = problem.arrays.asarray(kept)
        return memory

    def viscosity(self, spectrum: Array, strain: Array) -> Array:
        return self.coefficient(spectrum)[:, None, None] * self._width**2 * strain

    def coefficient(self, spectrum: Array) -> Array:
        """C (member,) of vorticity coefficients (member, *spectral_shape)."""
        pairs = self._vorticity_pairs(spectrum) if self.flux == "vorticity" else self._momentum_pairs(spectrum)
        xp = self._operators.xp
        work = sum(xp.mean(found * model, axis=(1, 2)) for found, model in pairs)
        square = sum(xp.mean(model * model, axis=(1, 2)) for _, model in pairs)
        return xp.maximum(work, xp.zeros_like(work)) / xp.where(square > 0, square, xp.ones_like(square))

    def _vorticity_pairs(self, w: Array) -> list[tuple[Array, Array]]:
        """(L_x, M_x) and (L_y, M_y)."""
        ky, kx = self._operators.k
        psi, to_physical = w * self._operators.inverse_k2, self._operators.to_physical
        size, size_ = (2 * self._operators.xp.hypot(*self._strain(p)) for p in (psi, psi * self._kept))
        value, value_ = to_physical(w), to_physical(w * self._kept)
        pairs = []
        for velocity, gradient in ((1j * ky * psi, 1j * kx * w), (-1j * kx * psi, 1j * ky * w)):
            u, u_ = to_physical(velocity), to_physical(velocity * self._kept)
            slope, slope_ = to_physical(gradient), to_physical(gradient * self._kept)
            model = self._width**2 * (self._filtered(size * slope) - self.ratio**2 * size_ * slope_)
            pairs.append((self._filtered(u * value) - u_ * value_, model))
        return pairs

    def _momentum_pairs(self, w: Array) -> list[tuple[Array, Array]]:
        """(L_xx, M_xx) and (L_xy, M_xy); the other components are equal or opposite."""
        ky, kx = self._operators.k
        psi, to_physical = w * self._operators.inverse_k2, self._operators.to_physical
        u, v, u_, v_ = (to_physical(f * p) for p in (psi, psi * self._kept) for f in (1j * ky, -1j * kx))
        strain, strain_ = self._strain(psi), self._strain(psi * self._kept)
        size, size_ = (2 * self._operators.xp.hypot(*s) for s in (strain, strain_))
        stress = (
            0.5 * (self._filtered(u * u - v * v) - (u_ * u_ - v_ * v_)),
            self._filtered(u * v) - u_ * v_,
        )
        model = (
            2 * self._width**2 * (self._filtered(size * s) - self.ratio**2 * size_ * s_)
            for s, s_ in zip(strain, strain_, strict=True)
        )
        return list(zip(stress, model, strict=True))

    def _strain(self, psi: Array) -> tuple[Array, Array]:
        """S_xx and S_xy of a stream function."""
        ky, kx = self._operators.k
        return self._operators.to_physical(-kx * ky * psi), self._operators.to_physical(0.5 * (kx**2 - ky**2) * psi)

    def _filtered(self, product: Array) -> Array:
        return self._operators.to_physical(self._operators.to_spectrum(product) * self._kept)
