"""The gradient (Clark) model: the leading term of the subgrid flux in the filter width."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from subgrid.solver.closure import Memory, Problem, Tendency, View

from .eddy_viscosity import Array, EddyViscosity


class Gradient(EddyViscosity):
    """dw/dt += -div s, s_i = coefficient Delta^2 / 12 A_ik d_k w.

    stabilised = false: A_ik = d_k u_i. This is the subgrid flux hat(u_i w) - hat(u_i) hat(w) of a Gaussian filter of
    variance Delta^2 / 12, to fourth order in Delta. It sharpens gradients along directions of stretching, and runs with
    it alone are unstable.

    stabilised = true: the strain rate in A is replaced by its negative part, (S - sqrt(S_xx^2 + S_xy^2) 1) / 2, so
    that the enstrophy decreases at every point; the rotation, which transfers none, stays.

    For Kolmogorov flow. Raises ClosureError for anything else. Sources: Clark, Ferziger and Reynolds, J. Fluid Mech. 91
    (1979) 1; Cottet, Jiroveanu and Michaux, ESAIM: M2AN 37 (2003) 187.
    """

    tunable: ClassVar = {"coefficient": (0.05, 20.0)}
    coefficient: Annotated[float, Field(ge=0)] = 1.0
    stabilised: bool = True

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "kolmogorov")
        return super().start(problem)

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        to_physical, to_spectrum = self._operators.to_physical, self._operators.to_spectrum
        ky, kx = self._operators.k
        w = to_spectrum(view.array[:, 0, ...]) * self._operators.mask
        psi = w * self._operators.inverse_k2
        xx, xy = to_physical(-kx * ky * psi), to_physical(0.5 * (kx**2 - ky**2) * psi)
        half = 0.5 * to_physical(w)  # u_y = S_xy - w/2, v_x = S_xy + w/2
        loss = self.viscosity(w, 2 * self._operators.xp.hypot(xx, xy))
        if self.stabilised:
            xx, xy = 0.5 * xx, 0.5 * xy
        w_x, w_y = to_physical(1j * kx * w), to_physical(1j * ky * w)
        factor = self.coefficient * self._width**2 / 12
        s_x = factor * (xx * w_x + (xy - half) * w_y) - loss * w_x
        s_y = factor * ((xy + half) * w_x - xx * w_y) - loss * w_y
        rate = -1j * kx * to_spectrum(s_x) - 1j * ky * to_spectrum(s_y)
        return Tendency(to_physical(rate * self._operators.mask)[:, None, ...]), memory

    def viscosity(self, spectrum: Array, strain: Array) -> Array:
        """The isotropic part of the stabilised model: coefficient Delta^2 / 12 times |S| / 4."""
        return self.coefficient * self._width**2 / 12 * 0.25 * strain * self.stabilised
