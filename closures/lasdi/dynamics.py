"""Latent dynamics, affine or quadratic, whose coefficients are polynomials of the parameters.

    dz/dt = [1, z, ...] Xi(mu),    Xi(mu) = sum_k p_k(mu) Xi_k,

z (run, time, latent), Xi (run, entry, latent), p_k the monomials up to a degree in the scaled parameters. One joint
least-squares fit over all runs determines the Xi_k, called `operator` in the code. In separate fits per run, nearly
collinear latents leave some coefficients undetermined, so they are not a smooth function of the parameters and cannot
be interpolated to unseen parameters.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from .options import Library

SUBSTEPS = 2  # of RK4 per step, for quadratic dynamics
LIMIT = 1e3  # on the size of latents, for quadratic dynamics


def monomials(scaled: Tensor, degree: int) -> Tensor:
    """All products of at most `degree` scaled parameters (run, parameter): (run, term), the first being 1."""
    terms = [torch.ones_like(scaled[:, 0])]
    for order in range(1, degree + 1):
        for chosen in itertools.combinations_with_replacement(range(scaled.shape[1]), order):
            terms.append(scaled[:, list(chosen)].prod(dim=1))
    return torch.stack(terms, dim=1)


def library(z: Tensor, kind: Library = "affine") -> Tensor:
    """[1, z] of latents (..., latent), or [1, z, z_i z_j with i <= j]; (..., entry)."""
    parts = [torch.ones_like(z[..., :1]), z]
    if kind == "quadratic":
        i, j = torch.triu_indices(z.shape[-1], z.shape[-1], device=z.device)
        parts.append(z[..., i] * z[..., j])
    return torch.cat(parts, dim=-1)


def kind_of(coefficients: Tensor) -> Library:
    """The library of coefficients (..., entry, latent), from their shape."""
    return "affine" if coefficients.shape[-2] == 1 + coefficients.shape[-1] else "quadratic"


def equation_sides(z: Tensor, rate: Tensor | None, step: float, kind: Library = "affine") -> tuple[Tensor, Tensor]:
    """Both sides (library, rate) of dz/dt = library Xi from evenly spaced latents, in double precision.

    With a rate: the values at every time, the strong form. Without: the weak form, that is, integrals with test
    functions phi = (1 - s^2)^4, -1 < s < 1, which vanish at the ends of their support, so that
    int phi dz/dt = -int phi' z. It needs no derivative of z and averages noise. A support covers an eighth of the time
    span, at least 9 times, and adjacent centres are a quarter of a support apart. Source: Messenger and Bortz, arXiv
    2005.04339.

    Raises ValueError for fewer times than one support.
    """
    z = z.double()
    if rate is not None:
        return library(z, kind), rate.double()
    count = z.shape[1]
    half = max(4, count // 16)
    if count < 2 * half + 1:
        raise ValueError(f"the weak form needs {2 * half + 1} times or more, not {count}. Remedy: a smaller stride")
    s = torch.arange(-half, half + 1, dtype=torch.float64, device=z.device) / half
    unit = 1 / half**0.5
    phi, slope = unit * (1 - s**2) ** 4, unit * -8 * s * (1 - s**2) ** 3 / (half * step)
    windows = range(0, count - 2 * half, max(1, half // 2))

    def integral(values: Tensor, weights: Tensor) -> Tensor:
        pieces = [torch.einsum("w,rwi->ri", weights, values[:, k : k + 2 * half + 1]) for k in windows]
        return torch.stack(pieces, dim=1)

    return integral(library(z, kind), phi), integral(z, -slope)


def fit(library: Tensor, rate: Tensor, terms: Tensor, ridge: float = 1e-8) -> Tensor:
    """The operator Xi_k (term, entry, latent) that minimises sum |rate - library Xi(mu)|^2 over all runs and times.

    library (run, time, entry), rate (run, time, latent), terms (run, term). Solves the normal equations in double
    precision, scaled to a unit diagonal and with a small ridge; differentiable.
    """
    library, rate, terms = library.double(), rate.double(), terms.double()
    gram = library.transpose(1, 2) @ library
    side = library.transpose(1, 2) @ rate
    count, size, latent = terms.shape[1], library.shape[2], rate.shape[2]
    matrix = torch.einsum("ra,rb,rij->aibj", terms, terms, gram).reshape(count * size, count * size)
    right = torch.einsum("ra,rij->aij", terms, side).reshape(count * size, latent)
    scale = matrix.diagonal().clamp_min(1e-30).rsqrt()
    matrix = scale[:, None] * matrix * scale + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    solution = torch.linalg.solve(matrix, scale[:, None] * right)
    return (scale[:, None] * solution).reshape(count, size, latent)


def at(operator: Tensor, terms: Tensor) -> Tensor:
    """Xi(mu) = sum_k p_k(mu) Xi_k of each run, (run, entry, latent)."""
    return torch.einsum("ra,aij->rij", terms.double(), operator)


def _generator(coefficients: Tensor) -> Tensor:
    """The matrix M of d[1, z]/dt = [1, z] M."""
    return torch.cat([torch.zeros_like(coefficients[..., :1]), coefficients], dim=-1)


def trajectories(start: Tensor, coefficients: Tensor, step: float, count: int) -> Tensor:
    """z at 0, step, ..., (count - 1) step from `start` (run, latent): (run, time, latent) in double precision.

    Affine dynamics is solved exactly by the matrix exponential of M step and repeated doubling; quadratic dynamics by
    RK4 with steps of step / SUBSTEPS, where latents are limited to +-LIMIT.
    """
    if kind_of(coefficients) == "quadratic":
        return _integrated(start.double(), coefficients, step, count)
    power = torch.linalg.matrix_exp(_generator(coefficients) * step)
    found = library(start.double())[:, None]
    while found.shape[1] < count:
        found = torch.cat([found, found @ power], dim=1)
        power = power @ power
    return found[:, :count, 1:]


def _integrated(z: Tensor, coefficients: Tensor, step: float, count: int) -> Tensor:
    """RK4 of quadratic dynamics."""
    h = step / SUBSTEPS

    def rate(z: Tensor) -> Tensor:
        return (library(z, "quadratic")[:, None] @ coefficients)[:, 0]

    found = [z]
    for _ in range(count - 1):
        for _ in range(SUBSTEPS):
            a = rate(z)
            b = rate(z + 0.5 * h * a)
            c = rate(z + 0.5 * h * b)
            d = rate(z + h * c)
            z = torch.clamp(z + h / 6 * (a + 2 * b + 2 * c + d), -LIMIT, LIMIT)
        found.append(z)
    return torch.stack(found, dim=1)


def fastest_growth(coefficients: Tensor) -> complex:
    """The eigenvalue with the largest real part of the linear parts of all runs."""
    values = torch.linalg.eigvals(coefficients[..., 1 : 1 + coefficients.shape[-1], :]).reshape(-1)
    return complex(values[values.real.argmax()])


def derivative(values: Tensor, step: float) -> Tensor:
    """d/dt along axis 1 by fourth-order differences, one-sided at the ends; second order for fewer than five times."""
    count = values.shape[1]
    if count < 5:
        return torch.gradient(values, spacing=step, dim=1, edge_order=min(2, count - 1))[0]
    inner = (values[:, :-4] - 8 * values[:, 1:-3] + 8 * values[:, 3:-1] - values[:, 4:]) / (12 * step)
    first = torch.tensor([-25.0, 48.0, -36.0, 16.0, -3.0], dtype=values.dtype) / (12 * step)
    second = torch.tensor([-3.0, -10.0, 18.0, -6.0, 1.0], dtype=values.dtype) / (12 * step)
    ends = [torch.einsum("i,ri...->r...", w, values[:, :5]) for w in (first, second)]
    reversed_end = values.flip(1)[:, :5]
    ends += [-torch.einsum("i,ri...->r...", w, reversed_end) for w in (second, first)]
    return torch.cat([torch.stack(ends[:2], 1), inner, torch.stack(ends[2:], 1)], dim=1)


@dataclass
class Spread:
    """Gaussian processes over the parameters, one per coefficient, for the residual coefficients of each run.

    The residual coefficients of a run are those of a separate fit to rate - library Xi(mu). scaled (run, parameter),
    residual (run, coefficient); kernel (coefficient, 2 + parameter): the logarithms of variance, noise and lengths of
    variance exp(-|d / lengths|^2 / 2) + noise.
    """

    scaled: Tensor
    residual: Tensor
    kernel: Tensor

    @classmethod
    def fit(cls, library: Tensor, rate: Tensor, coefficients: Tensor, scaled: Tensor, ridge: float = 1e-3) -> Spread:
        """Residual coefficients by ridge regression on libraries of unit variance; kernels by maximum likelihood."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        left, times = rate - library @ coefficients, library.shape[1]
        scale = library.square().mean(dim=(0, 1)).rsqrt()
        scaled_library = library * scale
        gram = scaled_library.transpose(1, 2) @ scaled_library / times
        gram = gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype)
        found = torch.linalg.solve(gram, scaled_library.transpose(1, 2) @ left / times) * scale[:, None]
        residual = found.reshape(len(found), -1)
        kernels = []
        for column in residual.T:
            unit = float(column.std()) or 1.0
            kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF([1.0] * scaled.shape[1], (0.1, 20.0))
            kernel = kernel + WhiteKernel(0.1, (1e-6, 10.0))
            process = GaussianProcessRegressor(kernel, alpha=0.0, n_restarts_optimizer=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                process.fit(scaled.numpy(), column.numpy() / unit)
            parts = process.kernel_.get_params()
            lengths = torch.as_tensor(parts["k1__k2__length_scale"], dtype=torch.float64).reshape(-1)
            levels = torch.tensor([parts["k1__k1__constant_value"], parts["k2__noise_level"]], dtype=torch.float64)
            kernels.append(torch.cat([torch.log(levels * unit**2), torch.log(lengths)]))
        return cls(scaled.double(), residual, torch.stack(kernels))

    def at(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Predictive mean and standard deviation of the residual coefficients, (point, coefficient)."""
        variance, noise = self.kernel[:, 0].exp(), self.kernel[:, 1].exp()
        inverse = (-self.kernel[:, 2:]).exp()

        def covariance(a: Tensor, b: Tensor) -> Tensor:
            difference = (a[:, None] - b)[None] * inverse[:, None, None]
            return variance[:, None, None] * torch.exp(-0.5 * difference.square().sum(-1))

        eye = torch.eye(len(self.scaled), dtype=torch.float64, device=self.scaled.device)
        known = covariance(self.scaled, self.scaled) + noise[:, None, None] * eye
        cross = covariance(scaled.double(), self.scaled)
        weights = torch.linalg.solve(known, cross.transpose(1, 2))
        mean = torch.einsum("cxp,xc->pc", weights, self.residual)
        reduced = variance[:, None] - torch.einsum("cpx,cxp->cp", cross, weights)
        return mean, (reduced.clamp_min(0) + noise[:, None]).sqrt().T
