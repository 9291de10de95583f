"""Ghost cells beyond the prescribed sides of shallow water, as array code in any namespace `xp`.

At the face of a side the flow has a depth h and a velocity w out of the domain. Of its two characteristics the one with
speed w + c, c = sqrt(g h), comes from the inside and carries w + 2 c, and the other brings the condition:

    w_b + 2 c_b = w + 2 c,    and    h_b = depth,  h_b + b = level,  or  h_b w_b = discharge;

the last is a cubic equation for c_b, of which the subcritical root is taken. With one condition water passes the side
at most at critical speed: water cannot be drawn faster, and a level below the critical depth is a free overfall. With
two conditions both are imposed. Where the water leaves at more than critical speed nothing is imposed, unless a bore
that is as deep as the condition asks would move into the domain. The face is that of the first cell, with limited
slopes; the ghost cells continue the line through the first cell and the face. Explicit steppers then replace the flux
of mass by the prescribed discharge: entirely, if depth or level are given too, else where they differ by more than 1 %.
sides_kernels computes the same with Numba. Source of the invariants: Toro, Shock-Capturing Methods for Free-Surface
Shallow Flows (2001), chapter 5.
"""

from __future__ import annotations

from typing import Any

from .array_code import WIDTHS, Array, Cells, mass_flux, root, velocity

DEPTH = 3  # ghost cells
STEEPEST = 0.1  # change over half a cell that ghost cells continue, of surface or depth and of velocity, relative


SLACK = 0.01  # of a discharge without depth or level, by which the flux of mass may differ from it


def slack(values: Any) -> float:
    """SLACK if a side has a discharge alone: it then damps standing waves, which an exact one reflects entirely."""
    return SLACK if values[1] is None and values[2] is None else 0.0


def _minmod(a: Array, b: Array, xp: Any) -> Array:
    smaller = xp.where(xp.abs(a) < xp.abs(b), a, b)
    return xp.where(a * b > 0, smaller, xp.zeros_like(a))


def _clip(a: Array, largest: Array, xp: Any) -> Array:
    return xp.minimum(xp.maximum(a, -largest), largest)


def speed_of_discharge(invariant: Array, discharge: Array, gravity: float, xp: Any) -> Array:
    """c_b with c_b^2 (R - 2 c_b) = g q, R = w + 2 c; the critical speed where no subcritical flow has this discharge.

    With c_b = R/6 + (R/3) cos(p), cos(3 p) = 1 - 54 g q / R^3; cosh for q < 0.
    """
    none = xp.zeros_like(invariant)
    flux = gravity * discharge
    critical = xp.abs(flux) ** (1 / 3)
    enters = discharge < 0
    least = xp.where(enters, critical, 3 * critical)  # R at which the flow is critical
    subcritical = (invariant > least) & (discharge != 0)
    r = xp.where(subcritical, invariant, none + 1)
    ratio = 1 - 54 * flux / (r * r * r)  # -1 < ratio < 1 if water leaves, 1 < ratio < 55 if it enters
    cosine = xp.cos(xp.acos(xp.where(subcritical & ~enters, ratio, none)) / 3)
    hyperbolic = xp.cosh(xp.acosh(xp.where(subcritical & enters, ratio, none + 2)) / 3)
    found = r / 6 + r / 3 * xp.where(enters, hyperbolic, cosine)
    limit = xp.where(enters, critical, xp.maximum(invariant, none) / 3)
    found = xp.where(subcritical, found, limit)
    return xp.where(discharge == 0, 0.5 * xp.maximum(invariant, none), found)


def ghosts(
    h: tuple[Array, Array, Array],
    q: tuple[Array, Array, Array],
    p: Array,
    b: tuple[Array, Array, Array] | None,
    discharge: Array | None,
    depth: Array | None,
    level: Array | None,
    gravity: float,
    dry_depth: float,
    xp: Any,
) -> tuple[list[tuple[Array, Array, Array]], Array, Array]:
    """Ghost cells from the side outwards: depth, momentum out of the domain and along the side; and the discharge out
    of the domain with where it is imposed.

    h, q: depth and momentum out of the domain of the first three cells from the side inwards; p: momentum along the
    side of the first; b: their bottom.
    """
    none = xp.zeros_like(h[0])
    h = tuple(xp.maximum(a, none) for a in h)  # type: ignore[assignment]
    e = h if b is None else tuple(a + c for a, c in zip(h, b, strict=True))
    rise = none if b is None else none + 0.5 * (b[0] - b[1])  # of the bottom from the cell to the face
    height = none if b is None else b[0] + rise
    h_face = e[0] + 0.5 * _minmod(e[0] - e[1], e[1] - e[2], xp) - height
    q_face = q[0] + 0.5 * _minmod(q[0] - q[1], q[1] - q[2], xp)
    wet = xp.minimum(xp.minimum(h[0], h[1]), h[2]) > dry_depth
    smooth = wet & (xp.abs(h_face - h[0]) <= 0.5 * h[0])
    h_face, q_face = xp.where(smooth, h_face, h[0]), xp.where(smooth, q_face, q[0])
    height = xp.where(smooth, height, height - rise)
    w, c = velocity(h_face, q_face, dry_depth, xp), root(gravity * h_face, xp)
    invariant = w + 2 * c

    wanted = None if depth is None else none + depth
    if level is not None:
        wanted = xp.maximum(level - height, none)
    if discharge is not None and wanted is not None:
        h_b, w_b = wanted, velocity(wanted, none + discharge, dry_depth, xp)
        through, imposed = none + discharge, h_face >= 0
    else:
        if wanted is not None:
            c_b = root(gravity * wanted, xp)
            overfall = invariant > 3 * c_b
            c_b = xp.where(overfall, invariant / 3, c_b)
            h_b = xp.where(overfall, c_b * c_b / gravity, wanted)
            w_b = xp.maximum(invariant - 2 * c_b, -c_b)
        else:
            flux = none + discharge  # type: ignore[operator]
            c_b = speed_of_discharge(invariant, flux, gravity, xp)
            h_b = c_b * c_b / gravity
            w_b = xp.minimum(velocity(h_b, flux, dry_depth, xp), c_b)
        bore = 0.5 * gravity * h_b * (h_b + h_face) > w * w * h_face
        leaves = (w >= c) & ~bore
        through, imposed = none, leaves & ~leaves
        if discharge is not None:
            through, imposed = xp.minimum(none + discharge, h_b * root(gravity * h_b, xp)), ~leaves
        h_b, w_b = xp.where(leaves, h_face, h_b), xp.where(leaves, w, w_b)

    v = xp.where(w_b < 0, none, velocity(h[0], p, dry_depth, xp))
    lift, most = h_b + height - e[0], STEEPEST * h_b
    even = xp.minimum(xp.abs(lift), xp.abs(h_b - h[0])) <= most  # the surface, or the depth on a slope
    lift = xp.where(even, lift, _clip(lift, most, xp))
    faster = _clip(w_b - velocity(h[0], q[0], dry_depth, xp), STEEPEST * (xp.abs(w_b) + root(gravity * h_b, xp)), xp)
    found = []
    for k in range(DEPTH):
        ground = height if b is None else b[0] + 2 * (k + 1) * rise
        h_k = xp.where(h_b > 0, xp.maximum(h_b + (2 * k + 1) * lift + (height - ground), none), none)
        found.append((h_k, h_k * (w_b + (2 * k + 1) * faster), h_k * v))
    return found, through, imposed


def padding(prescribed: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Ghost cells below and above along y and x, for prescribed sides by name."""
    left, right, bottom, top = (DEPTH if side in prescribed else 0 for side in ("left", "right", "bottom", "top"))
    return (bottom, top), (left, right)


def padded_bottom(b: Array, widths: tuple[tuple[int, int], tuple[int, int]], xp: Any) -> Array:
    """The bottom (y, x), continued beyond prescribed sides on the line through the last two cells."""
    for axis, (low, high) in enumerate(widths):
        b = b if axis else xp.matrix_transpose(b)
        first, last = b[..., :1] - b[..., 1:2], b[..., -1:] - b[..., -2:-1]
        below = [b[..., :1] + k * first for k in range(low, 0, -1)]
        above = [b[..., -1:] + k * last for k in range(1, high + 1)]
        b = xp.concat([*below, b, *above], axis=-1)
        b = b if axis else xp.matrix_transpose(b)
    return b


class Side:
    """One prescribed side of a state (member, 3, y, x), turned so that it lies across the last axis."""

    def __init__(self, name: str, values: Any) -> None:
        self.name, self.values = name, values
        self.along_y, self.low = name in ("bottom", "top"), name in ("left", "bottom")
        self.along, self.across = (2, 1) if self.along_y else (1, 2)
        self.outward = -1.0 if self.low else 1.0

    def turned(self, a: Array | None, xp: Any) -> Array | None:
        return a if a is None or not self.along_y else xp.matrix_transpose(a)

    def beyond(
        self, state: Array, bottom: Array | None, gravity: float, dry_depth: float, xp: Any
    ) -> tuple[Array, Array, Array]:
        """The ghost cells, (member, 3, y, 3) or (member, 3, 3, x), and the discharge with where it is imposed."""
        state, ground = self.turned(state, xp), self.turned(bottom, xp)
        cells = (0, 1, 2) if self.low else (-1, -2, -3)
        found, through, imposed = ghosts(
            tuple(state[:, 0, :, i] for i in cells),  # type: ignore[index, arg-type]
            tuple(self.outward * state[:, self.along, :, i] for i in cells),  # type: ignore[index, arg-type]
            state[:, self.across, :, cells[0]],  # type: ignore[index]
            None if ground is None else tuple(ground[None, :, i] + 0 * state[:, 0, :, 0] for i in cells),  # type: ignore
            *self.values,
            gravity,
            dry_depth,
            xp,
        )
        parts = [{0: h, self.along: self.outward * q, self.across: p} for h, q, p in found]
        parts = parts[::-1] if self.low else parts
        found = xp.stack([xp.stack([cell[k] for k in range(3)], axis=1) for cell in parts], axis=-1)
        return self.turned(found, xp), through, imposed

    def excess(
        self, padded: Array, bottom: Array | None, through: Array, imposed: Array, scheme: tuple[Any, ...], xp: Any
    ) -> Array:
        """What the flux of the mass out of the domain exceeds the imposed discharge by, (member, cell along the side).

        padded, bottom: with ghost cells, without those along the side. scheme: gravity, reconstruction, dry depth.
        """
        gravity, reconstruction, dry_depth = scheme
        width = WIDTHS[reconstruction]
        state, ground = self.turned(padded, xp), self.turned(bottom, xp)
        n = state.shape[-1]  # type: ignore[union-attr]
        near = slice(DEPTH - width, DEPTH + width) if self.low else slice(n - DEPTH - width, n - DEPTH + width)
        h, q, p = (state[:, k, :, near] for k in (0, self.along, self.across))  # type: ignore[index]
        h = xp.maximum(h, 0 * h)
        e = h if ground is None else h + ground[None, :, near]
        u, v = (velocity(h, a, dry_depth, xp) for a in (q, p))
        mass = mass_flux(Cells(h, e, u, v, q, p), ground is None, gravity, reconstruction, dry_depth, xp)
        excess = self.outward * mass - through
        excess = excess - _clip(excess, slack(self.values) * xp.abs(through), xp)
        return xp.where(imposed, excess, xp.zeros_like(through))


class Extension:
    """A state (member, 3, y, x) with ghost cells beyond prescribed sides."""

    def __init__(
        self, sides: dict[str, Any], bottom: Array | None, whole: Array | None, scheme: tuple[Any, ...], xp: Any
    ):
        """sides: discharge, depth and level by side; bottom, whole: the bottom without and with ghost cells."""
        self._sides = {name: Side(name, values) for name, values in sides.items()}
        self._bottom, self.bottom, self._scheme, self._xp = bottom, whole, scheme, xp
        self._widths = padding(sides)
        self._let_through: dict[str, tuple[Array, Array]] = {}

    def extended(self, state: Array) -> Array:
        """Corners repeat the ghost cells beside them; no flux of a cell of the domain depends on them."""
        (_, _), (left, right) = self._widths
        gravity, _, dry_depth = self._scheme
        beyond, xp = {}, self._xp
        for name, side in self._sides.items():
            beyond[name], *let_through = side.beyond(state, self._bottom, gravity, dry_depth, xp)
            self._let_through[name] = tuple(let_through)  # type: ignore[assignment]
        row = [beyond[name] if name else state for name in ("left", "", "right") if not name or name in beyond]
        middle = xp.concat(row, axis=-1) if len(row) > 1 else state
        column = []
        for name in ("bottom", "", "top"):
            if not name:
                column.append(middle)
            elif name in beyond:
                a = beyond[name]
                column.append(xp.concat([a[..., :1]] * left + [a] + [a[..., -1:]] * right, axis=-1))
        return xp.concat(column, axis=-2) if len(column) > 1 else middle

    def inner(self, state: Array) -> Array:
        """The state without ghost cells."""
        return inner(state, self._widths)

    def correct(self, rate: Array, extended: Array, spacing: tuple[float, float]) -> Array:
        """The rates (member, 3, y, x) with the imposed discharges in the place of the fluxes of mass."""
        (below, above), (left, right) = self._widths
        xp, depth = self._xp, rate[:, 0, ...]
        rows = slice(below, extended.shape[-2] - above), slice(left, extended.shape[-1] - right)
        for name, side in self._sides.items():
            if side.values[0] is None:
                continue
            strip = (rows[0], slice(None)) if not side.along_y else (slice(None), rows[1])
            bottom = None if self.bottom is None else self.bottom[strip]
            through, imposed = self._let_through[name]
            excess = side.excess(extended[:, :, *strip], bottom, through, imposed, self._scheme, xp)
            change = (excess / spacing[0 if side.along_y else 1])[..., None]
            turned = side.turned(depth, xp)
            cells = [turned[..., :1] + change, turned[..., 1:]]  # type: ignore[index]
            if not side.low:
                cells = [turned[..., :-1], turned[..., -1:] + change]  # type: ignore[index]
            depth = side.turned(xp.concat(cells, axis=-1), xp)
        return xp.concat([depth[:, None, ...], rate[:, 1:, ...]], axis=1)


def inner(state: Array, widths: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    """The state without ghost cells."""
    (bottom, top), (left, right) = widths
    return state[..., bottom : state.shape[-2] - top, left : state.shape[-1] - right]
