"""Smagorinsky's eddy viscosity with a coefficient from the resolved scales."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from subgrid.solver.closure import Memory, Problem

from .eddy_viscosity import EddyViscosity


class DynamicSmagorinsky(EddyViscosity):
    """nu_e = C Delta^2 |S|, with C = max(0, <L_ij M_ij> / <M_ij M_ij>) of each member at each call.

    L_ij = hat(u_i u_j) - hat(u_i) hat(u_j), without its trace, is the stress between the grid and a test filter (hat),
    a sharp cut at k_cut / ratio. M_ij = 2 Delta^2 [hat(|S| S_ij) - ratio^2 |hat S| hat S_ij]. <.> is over the domain.
    C takes the place of Smagorinsky's squared coefficient. It vanishes in laminar flow that the test filter resolves.

    For Kolmogorov flow. Raises ClosureError for anything else. Sources: Germano, Piomelli, Moin and Cabot, Phys. Fluids
    A 3 (1991) 1760; Lilly, Phys. Fluids A 4 (1992) 633.
    """

    ratio: Annotated[float, Field(gt=1, le=8)] = 2.0
    _kept: NDArray = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov")
        memory = super().start(problem)
        grid = problem.grid
        numbers = zip(grid.integer_wavenumbers(), grid.cuts, strict=True)
        kept = np.ones(grid.spectral_shape, dtype=bool)
        for m, cut in numbers:
            kept &= self.ratio * np.abs(m) <= cut
        self._kept = kept
        return memory

    def viscosity(self, spectrum: NDArray, strain: NDArray) -> NDArray:
        return self.coefficient(spectrum)[:, None, None] * self._width**2 * strain

    def coefficient(self, spectrum: NDArray) -> NDArray[np.float64]:
        """C (member,) of vorticity coefficients (member, *spectral_shape)."""
        to_physical = self._transforms.to_physical
        ky, kx = self._operators.k
        psi = spectrum * self._operators.inverse_k2
        factors = (1j * ky, -1j * kx, -kx * ky, 0.5 * (kx**2 - ky**2))  # u, v, S_xx, S_xy
        u, v, xx, xy = (to_physical(factor * psi) for factor in factors)
        u_, v_, xx_, xy_ = (to_physical(factor * psi * self._kept) for factor in factors)
        l_xx = 0.5 * (self._filtered(u * u - v * v) - (u_ * u_ - v_ * v_))
        l_xy = self._filtered(u * v) - u_ * v_
        size, size_ = 2 * np.hypot(xx, xy), 2 * np.hypot(xx_, xy_)
        m_xx = 2 * self._width**2 * (self._filtered(size * xx) - self.ratio**2 * size_ * xx_)
        m_xy = 2 * self._width**2 * (self._filtered(size * xy) - self.ratio**2 * size_ * xy_)
        work = (l_xx * m_xx + l_xy * m_xy).mean(axis=(1, 2))
        square = (m_xx**2 + m_xy**2).mean(axis=(1, 2))
        return np.maximum(work, 0.0) / np.where(square > 0, square, 1.0)

    def _filtered(self, product: NDArray) -> NDArray:
        return self._transforms.to_physical(self._transforms.to_spectrum(product) * self._kept)
