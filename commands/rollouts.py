"""Rollouts over the validation trajectories of a case, which score candidates for the options of a closure."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from subgrid.ingest.entities import carrier_state, mask_of, restricted_carrier
from subgrid.ingest.perturbation import perturbed
from subgrid.ingest.requests import Request, describe_initial, training_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.base import multiple
from subgrid.solver.case.tables import Case, ClosureTable
from subgrid.solver.closure import PluginError
from subgrid.solver.simulation import BlowUp
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.schedule import Collector

from .comparison import metrics
from .comparison.entities import without_placeholders
from .progress import Bars

Score = Literal["relative_l2", "correlation_time", "spectrum_distance", "crps"]


class Rollouts:
    """The error of closures over the validation trajectories: runs from the start of [training] to its end."""

    def __init__(self, case: Case, score: Score, bars: Bars) -> None:
        assert case.training is not None
        owners = case.reference.trajectories if case.reference else 1
        self._members = case.ensemble.members // owners if score == "crps" else 1
        request = training_request(case)
        trajectories = generate(case, request, bars)
        self._case, self._score = case, score
        self.failure = ""  # why the last run that failed did
        last = case.training.trajectories
        numbers = range(self._members * (last - case.training.validation), self._members * last)
        self._numbers = tuple(numbers)  # with one member each, those of the trajectories, whose noise stirs them
        self._times = trajectories.times()
        self._real = mask_of(case, range(last - case.training.validation, last))
        truth = np.moveaxis(np.array(trajectories.state[-case.training.validation :]), 1, 0)
        self._initial = truth[0]
        self._truth = without_placeholders(truth, self._real)
        self._equation, self._grid = case.build_equation(), case.grid.grid()
        self._every = multiple(case.training.every, case.step)
        self._flow = self._carrier(request, bars)

    def _carrier(self, request: Request, bars: Bars) -> NDArray | None:
        """The flow that carries the entities of each rollout at its start, restricted to the grid of the case.

        Raises ValueError for a [training] that starts later than the reference, since the flow there is not kept.
        """
        case, training, reference = self._case, self._case.training, self._case.reference
        assert training is not None
        if not self._equation.carried or reference is None:
            return None
        if training.start != request.start:
            raise ValueError(
                f"training.start: the flow of the tracers is known at t = {request.start:g} alone, found "
                f"{training.start:g}. Remedy: training.start = {request.start:g}, and a longer equation.spin_up"
            )
        fine = self._grid.refined(request.reference_shape)
        ids = tuple(range(training.trajectories - training.validation, training.trajectories))
        flow = carrier_state(
            case, reference.initial or case.initial, self._equation.complete(), fine, ids, request.seed, request.step,
            request.start, lambda done, total: bars(done, total, "flow of the validation trajectories"),
        )  # fmt: skip
        if flow is None:
            return None
        flow = restricted_carrier(flow, self._equation, fine, self._grid, reference.restrict)
        return np.repeat(flow, self._members, axis=0)

    def __call__(self, tables: tuple[ClosureTable, ...], perturbation: float) -> float:
        """The score, inverted if larger is better; infinite for a run that fails."""
        case = self._case
        assert case.training is not None
        state = np.repeat(self._initial, self._members, axis=0)
        ids = tuple(range(len(state)))
        mask = None if self._real is None else np.repeat(self._real, self._members, axis=0)
        state = perturbed(state, self._equation, self._grid, ids, case.ensemble.seed, perturbation)
        try:
            simulation = build_simulation(
                case,
                self._equation,
                self._grid,
                state,
                start=case.training.start,
                seed=case.training.seed,
                members=self._numbers,
                closures=[table.couple(case.folder) for table in tables],
                folder=case.folder,
                initial=describe_initial(case.initial),
                mask=mask,
                carrier=self._flow,
            )
            run = Collector(simulation, (len(self._times) - 1) * self._every, self._every)
            with np.errstate(all="ignore"):
                states = np.stack(run.run()).astype(np.float64, copy=False)
        except (BlowUp, PluginError) as error:
            self.failure = str(error)
            return math.inf
        return self._error(without_placeholders(states, mask))

    def _error(self, states: NDArray) -> float:
        if self._score == "crps":
            ensemble = states.reshape(*self._truth.shape[:2], self._members, *self._truth.shape[2:])
            errors = metrics.crps(ensemble, self._truth)
            errors = errors if self._real is None else errors / self._real.mean(axis=1)
            return float(errors[1:].mean())
        if self._score == "relative_l2":
            return float(metrics.relative_l2(states, self._truth)[1:].mean())
        if self._score == "correlation_time":
            follows = metrics.correlation(states, self._truth, self._real)
            spans = metrics.correlation_time(follows, self._times, self._case.compare.correlation_threshold)
            return 1 / float(spans.mean()) if spans.any() else math.inf
        energy, true = (metrics.energy_spectrum(u, self._equation, self._grid) for u in (states, self._truth))
        distance = metrics.spectrum_distance(energy, true, min(self._grid.cuts) - 1)
        if distance is None:
            raise ValueError(f"--score spectrum_distance: {self._equation.name} has no spectrum here")
        return distance
