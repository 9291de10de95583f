"""Random velocities for tracers in a flow that is not resolved, fitted to the velocity that the model lacks.

Both closures have the variance and the correlation time of the missing velocity along a tracer. With the first, the
velocities of two tracers are independent, however near they are; with the second they are values of one field.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from subgrid.solver.closure import Kind, Memory, Problem, Tendency, View
from subgrid.solver.equations.tracers.kernels import interpolate
from subgrid.solver.equations.tracers.splines import coefficients, finer
from subgrid.solver.grid import Grid
from subgrid.solver.random import SpectralNoise, Stream
from subgrid.solver.spectral import Operators

from ..learning import weights_file
from ..learning.learned_closure import LearnedClosure, TrainingJob
from ..learning.options import read_options
from ..learning.scores import root_mean_squares

if TYPE_CHECKING:
    from subgrid.ingest.training_set import Dataset

FITTED = "deviation, correlation time, correlation length"
NEGLIGIBLE = 1e-3  # modes of the random field below it, of the largest amplitude, are left out
BINS, TRIED = 24, 60  # of distances, and lengths, in the fit of the correlation length


class SubgridVelocity(LearnedClosure):
    """dx/dt += u'(t), with the standard deviation, correlation time and length of the missing velocity.

    scale: a factor of the deviation. For tracers. The weights hold three numbers, measured on the training set along
    the tracers of the reference: the deviation of a component, the lag at which its correlation falls to 1/e, and the
    length of the streamfunction whose velocity has the measured correlation in space (`fitted_length`).
    """

    kind: ClassVar[Kind] = "classical"
    tunable: ClassVar = {"scale": (0.1, 10.0)}
    scale: float = 1.0
    _deviation: float = PrivateAttr()
    _persistence: float = PrivateAttr()

    def start(self, problem: Problem) -> Memory:
        self.require_equation(problem, "tracers")
        path = self.find_weights(problem)
        tensors, _ = weights_file.load(path, self.method)
        with weights_file.using(path):
            deviation, time, length = map(float, tensors["fitted"])
        self._deviation, self._persistence = self.scale * deviation, math.exp(-problem.every * problem.step / time)
        return {"velocity": self._first(problem, length)}

    def __call__(self, view: View, memory: Memory) -> tuple[Tendency, Memory]:
        now = memory["velocity"]
        a = self._persistence
        following = a * now + math.sqrt(1 - a * a) * self._draw(view.random)
        return Tendency(self._at(now, view.state)), {"velocity": following}

    @abstractmethod
    def _first(self, problem: Problem, length: float) -> NDArray:
        """A draw of the stationary law."""

    @abstractmethod
    def _draw(self, stream: Stream) -> NDArray:
        """An independent draw of the same law."""

    @abstractmethod
    def _at(self, drawn: NDArray, positions: NDArray) -> NDArray:
        """The velocity (member, 2, entity) at the positions."""

    @classmethod
    def mismatch(cls, header: dict[str, Any], problem: Problem, strict: bool) -> str | None:
        """Weights serve any number of tracers in the flow on the grid that they are for."""
        equation, carrier = problem.equation, problem.grid.carrier
        assert carrier is not None
        made, own = header["equation"], {"name": equation.name} | equation.model_dump(mode="json")
        if made.get("carrier") != own["carrier"]:
            return f"is for the flow {made.get('carrier')}, the case has {own['carrier']}"
        if header.get("carrier_shape") != list(carrier.shape):
            return f"is for a flow on {header.get('carrier_shape')}, the case has {list(carrier.shape)}"
        return None

    @classmethod
    def train(cls, job: TrainingJob) -> dict[str, float]:
        """Measure the three numbers on the training set. Raises ValueError for options, which there are none."""
        read_options(cls.method, cls.training_options(), job.options)
        dataset = cast("Dataset", job.data)
        grid, equation = dataset.model.grid, dataset.model.equation
        if not equation.carried or grid.carrier is None:
            raise ValueError(f"{cls.method} is made for tracers, not for {equation.name}. Remedy: another closure")
        shape = dataset.sequences[0].shape
        terms = np.asarray(dataset.train[1], dtype=np.float64).reshape(shape)
        deviation = float(np.sqrt((terms**2).mean()))
        if not deviation > 0:
            raise ValueError(f"{cls.method}: the model lacks no velocity. Remedy: a finer reference.shape")
        interval = dataset.model.sampling * dataset.model.step
        time, length = fitted_time(terms, interval), fitted_length(dataset.sequences[0], terms, grid.carrier)
        scores = {"deviation": deviation, "correlation_time": time, "correlation_length": length}
        header = {
            "closure": cls.method,
            "version": version("subgrid"),
            **dataset.about,
            **job.origin,
            "carrier_shape": list(grid.carrier.shape),
            "fitted": FITTED,
            "normalisation": {"term": root_mean_squares(dataset.train[1])},
            "scores": scores,
        }
        weights_file.save(job.target, {"fitted": np.array([deviation, time, length])}, header)
        job.progress(1, 1, scores)
        return scores


class OUDisplacement(SubgridVelocity):
    """u' of each tracer and component is an Ornstein-Uhlenbeck process, independent of that of all others.

    The displacement has the Lagrangian statistics of one particle. Taylor, Proc. London Math. Soc. 20 (1922) 196.
    """

    method: ClassVar[str] = "ou-displacement"
    _shape: tuple[int, int] = PrivateAttr()

    def _first(self, problem: Problem, length: float) -> NDArray:
        self._shape = (2, problem.grid.points)
        return self._draw(Stream(problem.seed, f"{self.method}/start", 0, problem.members))

    def _draw(self, stream: Stream) -> NDArray:
        return self._deviation * stream.normal(self._shape)

    def _at(self, drawn: NDArray, positions: NDArray) -> NDArray:
        return drawn


class CorrelatedVelocity(SubgridVelocity):
    """u' is a random field without divergence, whose modes are independent Ornstein-Uhlenbeck processes.

    u' = (d psi/dy, -d psi/dx), psi Gaussian with the correlation exp(-r^2 / 2 l^2): two near tracers feel nearly the
    same velocity. Kraichnan, Phys. Fluids 13 (1970) 22.
    """

    method: ClassVar[str] = "correlated-velocity"
    _law: SpectralNoise = PrivateAttr()
    _operators: Operators = PrivateAttr()
    _fine: Operators = PrivateAttr()

    def _first(self, problem: Problem, length: float) -> NDArray:
        assert problem.grid.carrier is not None
        grid, amplitude = streamfunction(problem.grid.carrier, length)
        self._law = SpectralNoise(grid, amplitude)
        self._operators, self._fine = Operators(grid), Operators(finer(grid))
        return self._draw(Stream(problem.seed, f"{self.method}/start", 0, problem.members))

    def _draw(self, stream: Stream) -> NDArray:
        return self._deviation * self._law.sample(stream.seed, stream.purpose, stream.members, stream.step)

    def _at(self, drawn: NDArray, positions: NDArray) -> NDArray:
        ky, kx = self._operators.k
        velocity = np.stack([1j * ky * drawn, -1j * kx * drawn], axis=1)
        c = coefficients(velocity, self._operators, self._fine)
        x = np.ascontiguousarray(positions, dtype=np.float64)
        found = np.empty_like(x)
        interpolate(c, x, *self._operators.grid.origin, *self._fine.grid.spacing, found, 0, x.shape[-1])
        return found


def streamfunction(domain: Grid, length: float) -> tuple[Grid, NDArray[np.float64]]:
    """A grid that resolves the streamfunction, and the amplitudes of its modes for a velocity of variance 1 each way.

    E|psi_hat_k|^2 is proportional to exp(-l^2 |k|^2 / 2), the transform of the correlation exp(-r^2 / 2 l^2).
    """
    largest = math.sqrt(-4 * math.log(NEGLIGIBLE)) / length
    shape = tuple(2 * max(4, math.ceil(largest * period / (2 * math.pi))) + 2 for period in domain.length)
    grid = domain.refined(shape)
    k2: Any = sum(k**2 for k in grid.wavenumbers())
    power = np.exp(-0.5 * length**2 * k2) * (k2 > 0)
    for m, n in zip(grid.integer_wavenumbers(), grid.shape, strict=True):
        power = power * (2 * np.abs(m) < n)
    variance = 0.5 * float((k2 * power * grid.half_plane_weight()).sum())  # of one component
    return grid, np.sqrt(power / variance)


def fitted_time(terms: NDArray, interval: float) -> float:
    """The lag at which the correlation of terms (trajectory, time, 2, entity) along the tracers falls to 1/e.

    Linear between lags; the interval of samples over -log(correlation) where it falls faster, and the length of the
    record where it does not fall so far.
    """
    count = terms.shape[1]
    curve = [1.0]
    for lag in range(1, count):
        early, late = terms[:, :-lag], terms[:, lag:]
        curve.append(float((early * late).mean() / np.sqrt((early**2).mean() * (late**2).mean())))
        if curve[-1] < math.exp(-1):
            part = (curve[-2] - math.exp(-1)) / (curve[-2] - curve[-1])
            return interval * (lag - 1 + part)
    return interval * max(1, count - 1)


def fitted_length(states: NDArray, terms: NDArray, domain: Grid) -> float:
    """The l of least square error of (1 - r^2 / 2 l^2) exp(-r^2 / 2 l^2), the correlation of u'(x) . u'(x + r).

    states, terms: (trajectory, time, 2, entity). All pairs of tracers at all times, with distances over the period, in
    bins up to half of the shorter period; each bin counts once.
    """
    period = np.array(domain.length)[::-1, None]
    reach = min(domain.length) / 2
    limits = np.geomspace(reach / 200, reach, BINS + 1)
    i, j = np.triu_indices(states.shape[-1], 1)
    products, counts = np.zeros(BINS + 2), np.zeros(BINS + 2)
    for x, term in zip(states.reshape(-1, *states.shape[2:]), terms.reshape(-1, *terms.shape[2:]), strict=True):
        apart = x[:, i] - x[:, j]
        apart -= period * np.rint(apart / period)
        index = np.digitize(np.sqrt((apart**2).sum(axis=0)), limits)
        products += np.bincount(index, (term[:, i] * term[:, j]).sum(axis=0), minlength=BINS + 2)
        counts += np.bincount(index, minlength=BINS + 2)
    held = counts[1:-1] > 0
    measured = products[1:-1][held] / counts[1:-1][held] / (terms**2).sum(axis=2).mean()
    r2 = (limits[:-1] * limits[1:])[held]
    lengths = np.geomspace(reach / 100, reach, TRIED)
    ratio = r2 / (2 * lengths[:, None] ** 2)
    errors = (((1 - ratio) * np.exp(-ratio) - measured) ** 2).sum(axis=1)
    return float(lengths[int(errors.argmin())])
