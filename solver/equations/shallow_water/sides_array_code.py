"""Ghost cells beyond the prescribed sides of shallow water, as array code in any namespace `xp`.

At the face of a side the flow has a depth h and a velocity w out of the domain. Of its two characteristics the one with
speed w + c, c = sqrt(g h), comes from the inside and carries w + 2 c, and the other brings the condition:

    w_b + 2 c_b = w + 2 c,    and    h_b = depth,  h_b + b = level,  or  h_b w_b = discharge;

the last is a cubic equation for c_b, of which the subcritical root is taken. With one condition water passes the side
at most at critical speed: water cannot be drawn faster, and a level below the critical depth is a free overfall. With
two conditions both are imposed. Where the water leaves at more than critical speed nothing is imposed, unless a bore
that is as deep as the condition asks would move into the domain. The face is that of the first cell, with limited
slopes; the ghost cells continue the line through the first cell and the face. sides_kernels computes the same with
Numba. Source: Toro, Shock-Capturing Methods for Free-Surface Shallow Flows (2001), chapter 5 for the invariants.
"""

from __future__ import annotations

from typing import Any

from .array_code import Array, root, velocity

DEPTH = 3  # ghost cells
STEEPEST = 0.1  # change of depth or velocity over half a cell that ghost cells continue, over depth and speed


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
) -> list[tuple[Array, Array, Array]]:
    """Depth, momentum out of the domain and momentum along the side of the ghost cells, from the side outwards.

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
    w, c = velocity(h_face, q_face, dry_depth, xp), root(gravity * h_face, xp)
    invariant = w + 2 * c

    wanted = None if depth is None else none + depth
    if level is not None:
        wanted = xp.maximum(level - height, none)
    if discharge is not None and wanted is not None:
        h_b, w_b = wanted, velocity(wanted, none + discharge, dry_depth, xp)
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
        h_b, w_b = xp.where(leaves, h_face, h_b), xp.where(leaves, w, w_b)

    v = xp.where(w_b < 0, none, velocity(h[0], p, dry_depth, xp))
    lift = _clip(h_b + height - e[0], STEEPEST * h_b, xp)
    faster = _clip(w_b - velocity(h[0], q[0], dry_depth, xp), STEEPEST * (xp.abs(w_b) + root(gravity * h_b, xp)), xp)
    found = []
    for k in range(DEPTH):
        h_k = xp.maximum(h_b + (2 * k + 1) * (lift - rise), none)
        found.append((h_k, h_k * (w_b + (2 * k + 1) * faster), h_k * v))
    return found


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


def padded(
    state: Array, bottom: Array | None, values: dict[str, Any], gravity: float, dry_depth: float, xp: Any
) -> Array:
    """The state (member, 3, y, x) with ghost cells beyond the sides in `values`: discharge, depth, level by side.

    Corners repeat the ghost cells beside them; no flux of a cell of the domain depends on them.
    """
    (_, _), (left, right) = padding(values)
    beyond = {side: _beyond(state, bottom, side, given, gravity, dry_depth, xp) for side, given in values.items()}
    rows = [state]
    if "left" in beyond:
        rows.insert(0, beyond["left"])
    if "right" in beyond:
        rows.append(beyond["right"])
    whole = [xp.concat(rows, axis=-1)]
    for side, place in (("bottom", 0), ("top", 1)):
        if side in beyond:
            found = beyond[side]
            found = xp.concat([found[..., :1]] * left + [found] + [found[..., -1:]] * right, axis=-1)
            whole.insert(place * len(whole), found)
    return xp.concat(whole, axis=-2)


def _beyond(
    state: Array, bottom: Array | None, side: str, values: Any, gravity: float, dry_depth: float, xp: Any
) -> Array:
    """The ghost cells beyond one side, (member, 3, y, 3) or (member, 3, 3, x)."""
    along_y, low = side in ("bottom", "top"), side in ("left", "bottom")
    turned = xp.matrix_transpose(state) if along_y else state
    ground = bottom if bottom is None or not along_y else xp.matrix_transpose(bottom)
    cells = (0, 1, 2) if low else (-1, -2, -3)
    along, across, sign = (2, 1, -1.0) if along_y else (1, 2, -1.0)
    sign = sign if low else 1.0
    found = ghosts(
        tuple(turned[:, 0, :, i] for i in cells),  # type: ignore[arg-type]
        tuple(sign * turned[:, along, :, i] for i in cells),  # type: ignore[arg-type]
        turned[:, across, :, cells[0]],
        None if ground is None else tuple(ground[None, :, i] + 0 * turned[:, 0, :, 0] for i in cells),  # type: ignore
        *values,
        gravity,
        dry_depth,
        xp,
    )
    parts = [{0: h, along: sign * q, across: p} for h, q, p in (reversed(found) if low else found)]
    turned = xp.stack([xp.stack([cell[k] for k in range(3)], axis=1) for cell in parts], axis=-1)
    return xp.matrix_transpose(turned) if along_y else turned


def inner(state: Array, widths: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    """The state without ghost cells."""
    (bottom, top), (left, right) = widths
    return state[..., bottom : state.shape[-2] - top, left : state.shape[-1] - right]
