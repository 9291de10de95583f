"""The step of a case that sets a Courant number alone."""

from __future__ import annotations

import math

import numpy as np

from ..equations.base import Equation
from .intervals import joint_interval, whole_steps
from .mistakes import CaseError
from .tables import Case


def resolve_step(case: Case, equation: Equation, state: np.ndarray) -> Case:
    """The case with a step in place of time.cfl alone: cfl / sum(speed / spacing), shortened to divide the intervals of
    outputs: those of [output] and of its groups and, where one does not divide the span, the last one.

    state (member, field, *grid): the initial state, which gives the speeds. If the speeds of the equation may grow,
    steps are adaptive during the run, and the step of the case, on whose multiples outputs lie, is the longest that
    divides these intervals. Raises CaseError if the state is at rest, ValueError if no step divides the intervals.
    """
    if case.time.step is not None or case.time.cfl is None:
        return case
    interval = joint_interval(case.time, case.output)
    if equation.adaptive:
        time = case.time.model_copy(update={"step": interval})
    else:
        rate = equation.largest_rate(state, case.grid.grid())
        if rate <= 0:
            at_rest = "time.cfl: the initial state is at rest and gives no step. Remedy: set time.step"
            raise CaseError(case.title, [at_rest])
        count = math.ceil(interval * rate / case.time.cfl)
        time = case.time.model_copy(update={"step": interval / count, "cfl": None})
    if mistakes := list(whole_steps(time, case.output)):
        raise CaseError(case.title, mistakes)
    return case.model_copy(update={"time": time})
