"""Numba kernel of the velocity at the positions of tracers, and the right-hand side of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...backend import kernel, share

if TYPE_CHECKING:
    from .equation import Carried

COST = 60.0  # nanoseconds per position on one thread


@kernel(error_model="numpy", fastmath={"contract"})
def spline_weights(t, w):
    """Weights of a quintic B-spline at the points -2 ... 3, at the distance t in [0, 1) from point 0."""
    u = 1.0 - t
    t2, u2 = t * t, u * u
    scale = 1.0 / 120.0
    w[0] = u2 * u2 * u * scale
    w[1] = ((((5.0 * t - 20.0) * t + 20.0) * t + 20.0) * t - 50.0) * t * scale + 26.0 * scale
    w[2] = ((30.0 - 10.0 * t) * t2 - 60.0) * t2 * scale + 66.0 * scale
    w[3] = ((30.0 - 10.0 * u) * u2 - 60.0) * u2 * scale + 66.0 * scale
    w[4] = ((((5.0 * u - 20.0) * u + 20.0) * u + 20.0) * u - 50.0) * u * scale + 26.0 * scale
    w[5] = t2 * t2 * t * scale


@kernel(error_model="numpy", fastmath={"contract"})
def interpolate(c, x, origin_y, origin_x, spacing_y, spacing_x, out, first, last):
    """out (member, 2, entity) = the splines c (member, 2, y, x) at x (member, 2, entity), for first <= entity < last.

    The rows of x are x and y. Positions are periodic: an index is taken modulo the number of points.
    """
    rows, columns = c.shape[2], c.shape[3]
    wy, wx = np.empty(6, c.dtype), np.empty(6, c.dtype)
    jx = np.empty(6, np.int64)
    for b in range(x.shape[0]):
        for e in range(first, last):
            across, along = (x[b, 1, e] - origin_y) / spacing_y, (x[b, 0, e] - origin_x) / spacing_x
            below, left = np.floor(across), np.floor(along)
            spline_weights(across - below, wy)
            spline_weights(along - left, wx)
            column, row = (int(left) - 2) % columns, (int(below) - 2) % rows
            for i in range(6):
                jx[i] = column
                column = column + 1 if column + 1 < columns else 0
            u = 0.0
            v = 0.0
            for i in range(6):
                su = 0.0
                sv = 0.0
                for j in range(6):
                    su += wx[j] * c[b, 0, row, jx[j]]
                    sv += wx[j] * c[b, 1, row, jx[j]]
                u += wy[i] * su
                v += wy[i] * sv
                row = row + 1 if row + 1 < rows else 0
            out[b, 0, e] = u
            out[b, 1, e] = v


class Advection:
    """dx/dt = u(x, t) for a batch (member, 2, entity); `carry` gives it the flow, before the first step."""

    def __init__(self, entities: int, members: int) -> None:
        self.linear: NDArray | None = None
        self.rows, self.columns = np.ones(1, dtype=bool), entities
        self._shape = (members, 2, entities)
        self._flow: Carried | None = None
        self._members = slice(None)

    def carry(self, flow: Carried, members: slice) -> None:
        """Take the velocity of a flow, that of these of its members."""
        self._flow, self._members = flow, members

    def __call__(self, u: NDArray, t: float, out: NDArray) -> None:
        assert self._flow is not None
        x, found = u.reshape(self._shape), out.reshape(self._shape)
        c = self._flow.coefficients(t)[self._members]
        place = (*self._flow.origin, *self._flow.spacing)

        def work(first: int, last: int, _: int) -> None:
            interpolate(c, x, *place, found, first, last)

        share(work, x.shape[2], COST * x.shape[0])
