"""Registered latents: the position of a travelling pattern, and modes of the pattern at rest.

    u(x) ~ sum_j a_j m_j(x - s),    z = (s, a_1, ..., a_q),

on a periodic grid, s along every axis. A shift multiplies Fourier coefficients by exp(-i k s), which is exact for what
the grid resolves. The modes m span the patterns of the training runs, each shifted back by its position: first that of
the template, then those of what it leaves. s and a follow from a snapshot by Gauss-Newton for

    min_{s, a} |u - sum_j a_j m_j(. - s)|^2,

started at the grid point where the patterns fit best (cross-correlation by FFT) and projected on the modes in each step
(variable projection). Positions are unwrapped along a window, so a crossing of the boundary is no jump.

With `band` < 1 the modes have no wavenumbers above this fraction of those of the grid, and weights hold them on a
coarser grid. Only the leading modes are latents; the coefficients of `pattern_modes` further ones are a function of
them that `pattern.py` fits after the evolution is known.

With one mode this is the pulse of linear convection: its latents move along straight lines, where the free
latents of an autoencoder fold. Sources: shifted proper orthogonal decomposition, Reiss et al., SIAM J. Sci. Comput. 40
(2018) A1322; variable projection, Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973) 413.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..learning.basis import Basis
from .pattern import Pattern

ITERATIONS = 8
ROUND_OFF = 1e-14  # of a position
LEAST = 1e-6  # relative size below which a further mode is noise of single precision
SMALLEST = 0.01  # deviation of a coefficient, relative to the size of all
BLOCK = 256  # snapshots located at a time
MOST = 20_000_000  # values of the snapshots that give the modes


class Registered(nn.Module):
    """Positions and coefficients of snapshots; see above.

    patterns: the modes at rest (mode, field, *grid), orthonormal, first those whose coefficients are latents. modes:
    the same on the grid that `band` leaves. level: mean of each field, which shifts do not change. pattern: the
    coefficients of the other modes, or None. Latents are (s along each axis, in units of the domain, then a), in double
    precision; normalised, their mean over the training runs is 0 and their standard deviation 1. basis: the values at
    the points.
    """

    modes: Tensor
    patterns: Tensor
    level: Tensor
    centre: Tensor
    deviation: Tensor

    def __init__(self, options: Mapping[str, Any], basis: Basis, about: Mapping[str, Any]) -> None:
        super().__init__()
        self.basis, self.fields, self.shape = basis, len(about["fields"]), tuple(about["shape"])
        self.positions = len(self.shape)
        modes, further = options["latent"] - self.positions, options.get("pattern_modes", 0)
        if modes < 1:
            raise ValueError(
                f"train.mi2a.latent: {options['latent']} latents hold {self.positions} positions and no pattern. "
                f"Remedy: latent = {self.positions + 1} or more"
            )
        self.coarse = tuple(max(4, 2 * round(n * options.get("band", 1.0) / 2)) for n in self.shape)
        if options.get("band", 1.0) == 1:
            self.coarse = self.shape
        shape = (modes + further, self.fields)
        self.register_buffer("modes", torch.zeros((*shape, *self.coarse), dtype=torch.float64))
        self.register_buffer("patterns", torch.zeros((*shape, *self.shape), dtype=torch.float64), persistent=False)
        self.register_buffer("level", torch.zeros((self.fields, *[1] * self.positions), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(options["latent"], dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(options["latent"], dtype=torch.float64))
        self.pattern: Pattern | None = None
        if further:
            cells = self.shape if options["cell_phase"] else ()
            self.pattern = Pattern(modes, options["features"], further, cells)
        axes = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in self.shape[:-1]]
        axes.append(torch.fft.rfftfreq(self.shape[-1], 1 / self.shape[-1], dtype=torch.float64))
        self.waves = [2 * torch.pi * k for k in torch.meshgrid(*axes, indexing="ij")]
        self.axes = tuple(range(-self.positions, 0))

    @property
    def latent(self) -> int:
        return len(self.centre)

    def placed(self, device: str | torch.device) -> None:
        """Move all tensors to a device."""
        self.basis, self.waves = self.basis.to(device), [k.to(device) for k in self.waves]
        self.to(device)

    @property
    def leading(self) -> Tensor:
        """The modes whose coefficients are latents."""
        return self.patterns[: self.latent - self.positions]

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        found = super().load_state_dict(*args, **options)
        self.patterns.copy_(resampled(self.modes, self.shape))
        return found

    @torch.no_grad()
    def fit(self, c: Tensor, template: str) -> None:
        """Find the modes, and normalise the latents, for coefficients c (run, time, point) of the training runs.

        template "snapshot": the first mode is the first snapshot of the first run, which locates all others. "run": the
        first run is at rest, and its snapshots give the modes. Then the snapshots of all runs, shifted back to their
        positions, give the modes.
        """
        fields = self.basis.states(c).reshape(*c.shape[:2], self.fields, *self.shape).double()
        self.level.copy_(fields.mean((0, 1, *self.axes)).reshape(self.level.shape))
        wanted = len(self.patterns)
        first = fields[0, :1] if template == "snapshot" else fields[0]
        self._span(first - self.level, wanted)
        some = fields[:: -(-fields.numel() // MOST)]
        s = self._raw(some)[..., : self.positions].flatten(0, 1)
        pairs = zip(some.flatten(0, 1).split(BLOCK), s.split(BLOCK), strict=True)
        at_rest = torch.cat([self.shifted(part, -place) for part, place in pairs])
        self._span(resampled(resampled(at_rest - self.level, self.coarse), self.shape), wanted)
        self.modes.copy_(resampled(self.patterns, self.coarse))
        if self.pattern is not None:
            self.modes.copy_(self.modes.half())  # so that weights keep them in half precision
            self.patterns.copy_(resampled(self.modes, self.shape))
        z = self._raw(fields)
        self.centre.copy_(z.flatten(0, 1).mean(0))
        self.deviation.copy_(z.flatten(0, 1).std(0).clamp_min(1e-12))
        # a coefficient that hardly varies in training does so with noise, which must not dominate the latents
        size = z[..., self.positions :].square().sum(-1).mean().sqrt()
        self.deviation[self.positions :] = self.deviation[self.positions :].clamp_min(SMALLEST * size)

    def _span(self, patterns: Tensor, wanted: int) -> None:
        """Set the patterns to the `wanted` leading singular vectors of patterns (snapshot, field, *grid)."""
        flat = patterns.flatten(1)
        values, vectors = torch.linalg.eigh(flat @ flat.T if len(flat) <= flat.shape[1] else flat.T @ flat)
        values, vectors = values.flip(0), vectors.flip(1)
        kept = min(wanted, int((values > LEAST**2 * values[0]).sum()))
        leading = vectors[:, :kept]
        if len(flat) <= flat.shape[1]:
            leading = flat.T @ leading / values[:kept].sqrt()
        self.patterns.zero_()
        self.patterns[:kept] = leading.T.reshape(kept, *self.patterns.shape[1:])

    def _forward(self, fields: Tensor) -> Tensor:
        return torch.fft.rfftn(fields, dim=self.axes, norm="ortho")

    def _back(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfftn(spectrum, s=self.shape, dim=self.axes, norm="ortho")

    def shifted(self, fields: Tensor, s: Tensor) -> Tensor:
        """u(x - s) of fields (snapshot, field, *grid) and shifts (snapshot, axis) in units of the domain."""
        return self._back(self._forward(fields) * self._turn(s)[:, None])

    def _turn(self, s: Tensor) -> Tensor:
        angle = torch.zeros((), device=s.device)
        for i, k in enumerate(self.waves):
            angle = angle + s[:, i].reshape(-1, *[1] * self.positions) * k
        return torch.polar(torch.ones_like(angle), -angle)

    def locate(self, fields: Tensor, near: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions (snapshot, axis) in [-1/2, 1/2], and coefficients (snapshot, mode), of (snapshot, field, *grid).

        near: positions (snapshot, axis) that the found ones are less than a quarter of the domain away from.
        """
        fields = fields - self.level
        spectrum, modes = self._forward(fields), self._forward(self.leading)
        fits = sum(self._back((spectrum * m.conj()).sum(1)).square() for m in modes)
        assert isinstance(fits, Tensor)
        for axis, n in enumerate(self.shape if near is not None else ()):
            assert near is not None
            off = torch.arange(n, device=near.device) / n - near[:, axis, None]
            far = (off - off.round()).abs() >= 0.25
            fits = fits.masked_fill(far.reshape(len(far), *[n if i == axis else 1 for i in range(self.positions)]), -1)
        best = fits.flatten(1).argmax(1)
        s = torch.stack(
            [p / n for p, n in zip(torch.unravel_index(best, self.shape), self.shape, strict=True)], 1
        ).double()
        flat = self.leading.flatten(1)
        for _ in range(ITERATIONS):
            at_rest = self._back(spectrum * self._turn(-s)[:, None])
            a = at_rest.flatten(1) @ flat.T
            pattern = (a @ flat).reshape(fields.shape)
            # d/ds of the pattern at s, seen at rest, without what a change of a would explain
            turned = self._forward(pattern)
            slopes = torch.stack([self._back(-1j * k * turned).flatten(1) for k in self.waves], 2)
            slopes = slopes - flat.T @ (flat @ slopes)
            off = (at_rest - pattern).flatten(1)[..., None]
            normal = slopes.transpose(1, 2) @ slopes
            ridge = 1e-14 * normal.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-300)
            normal = normal + ridge[:, None, None] * torch.eye(len(self.shape)).to(normal)
            change = torch.linalg.solve(normal, slopes.transpose(1, 2) @ off)[..., 0].clamp(-0.05, 0.05)
            s = s + change
            if float(change.abs().max()) < ROUND_OFF:
                break
        a = self._back(spectrum * self._turn(-s)[:, None]).flatten(1) @ flat.T
        return s - s.round(), a

    @torch.no_grad()
    def complete(self, c: Tensor, z: Tensor, held_out: Tensor, path: Tensor, seed: int) -> dict[str, Any]:
        """Fit the coefficients of the further modes to runs c (run, time, point) with latents z; returns the choice.

        path: latents of roll-outs of the runs held out, to their end.
        """
        assert self.pattern is not None
        flat, modes = (self.centre + self.deviation * z.double()).flatten(0, 1), self.patterns[len(self.leading) :]
        found = []
        for part, s in zip(c.flatten(0, 1).split(BLOCK), flat[:, : self.positions].split(BLOCK), strict=True):
            fields = self.basis.states(part).double().reshape(-1, self.fields, *self.shape) - self.level
            found.append(self.shifted(fields, -s).flatten(1) @ modes.flatten(1).T)
        b = torch.cat(found).reshape(*z.shape[:2], -1)

        def parts(z: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.centre + self.deviation * z.double()
            return z.double()[..., self.positions :], raw[..., : self.positions]

        return self.pattern.fit(*parts(z), b, held_out, parts(path), seed)

    def metric(self, z: Tensor) -> Tensor:
        """w (latent,) such that sum w dz^2 is |du|^2 to first order, on average over latents z (..., latent).

        The coefficients are those of orthonormal modes; along the positions the mean of |du/ds|^2 counts.
        """
        a = (self.centre + self.deviation * z.double()).flatten(0, -2)[:, self.positions :]
        spectrum = self._forward(self.leading)
        weights = torch.ones(self.latent, dtype=torch.float64)
        for axis, k in enumerate(self.waves):
            slopes = self._back(-1j * k * spectrum).flatten(1)
            weights[axis] = torch.einsum("ni,ij,nj->n", a, slopes @ slopes.T, a).mean()
        return weights * self.deviation**2

    def _raw(self, fields: Tensor) -> Tensor:
        """Latents (..., time, latent) of fields (..., time, field, *grid), not normalised."""
        runs = fields.reshape(-1, *fields.shape[-2 - self.positions :])
        found = []
        for part in runs.split(BLOCK):
            s, a = self.locate(part[:, 0])
            path = [(s, a)]
            for now in part.unbind(1)[1:]:  # waves may focus again elsewhere, where they look as at their origin
                s, a = self.locate(now, near=s)
                path.append((s, a))
            s, a = (torch.stack(x, 1) for x in zip(*path, strict=True))
            found.append(torch.cat([unwrapped(s), a], -1))
        return torch.cat(found).reshape(*fields.shape[: -1 - self.positions], -1)

    @torch.no_grad()
    def encode(self, states: Tensor) -> Tensor:
        """Normalised latents (..., time, latent) of states (..., time, point); positions are unwrapped along time."""
        z = self._raw(states.double().reshape(*states.shape[:-1], self.fields, *self.shape))
        return (z - self.centre) / self.deviation

    def latents(self, c: Tensor) -> Tensor:
        """The same of coefficients (..., time, point) of the basis."""
        return self.encode(self.basis.states(c))

    def joined(self, z: Tensor) -> Tensor:
        """Normalised latents (..., time, latent) of states that were encoded one by one, with positions unwrapped."""
        z = z.double() * self.deviation + self.centre
        s = unwrapped(z[..., : self.positions])
        return (torch.cat([s, z[..., self.positions :]], -1) - self.centre) / self.deviation

    def aligned(self, z: Tensor, like: Tensor) -> Tensor:
        """The latents z with positions moved around the domain to where those of `like` are."""
        turns = ((z - like) * self.deviation)[..., : self.positions].round()
        moved = z[..., : self.positions] - turns / self.deviation[: self.positions]
        return torch.cat([moved, z[..., self.positions :]], -1)

    def decoded(self, z: Tensor) -> Tensor:
        """The same as `decode`, in coefficients of the basis."""
        return self.basis.coefficients(self.decode(z))

    def decode(self, z: Tensor) -> Tensor:
        """States (..., point) of normalised latents."""
        flat = (self.centre + self.deviation * z.double()).reshape(-1, self.latent)
        s, a = flat[:, : self.positions], flat[:, self.positions :]
        if self.pattern is not None:
            known = z.double().reshape(-1, self.latent)[:, self.positions :]
            a = torch.cat([a, self.pattern(known, s)], 1)
        fields = (a @ self.patterns.flatten(1)).reshape(-1, self.fields, *self.shape)
        return (self.shifted(fields, s) + self.level).flatten(1).reshape(*z.shape[:-1], -1).float()


def resampled(fields: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Periodic fields (..., *grid) on a grid of another shape, by their Fourier series; wavenumbers that one of the
    grids does not resolve are left out."""
    for axis, n in zip(range(-len(shape), 0), shape, strict=True):
        points = fields.shape[axis]
        if n != points:
            spectrum = torch.fft.rfft(fields, dim=axis, norm="forward")
            spectrum = spectrum.narrow(axis, 0, min(n, points) // 2)
            fields = torch.fft.irfft(spectrum, n, dim=axis, norm="forward")
    return fields


def unwrapped(s: Tensor) -> Tensor:
    """Positions (..., time, axis) whose steps are the shortest on the circle of circumference 1."""
    steps = s.diff(dim=-2)
    steps = steps - steps.round()
    return torch.cat([s[..., :1, :], s[..., :1, :] + steps.cumsum(-2)], -2)
