"""Checks of the times of a case: its span and intervals are whole numbers of its steps."""

from __future__ import annotations

from collections.abc import Iterator

from .base import common_interval, dividing, multiple
from .output import OutputTable
from .sweep_design import SweepTable
from .tables import ReferenceTable, TimeTable

MOST_OUTPUTS = 10**6


def whole(spans: dict[str, float], step: float) -> Iterator[str]:
    """A mistake for each of the spans, by their keys, that is not a whole number of steps."""
    fitting = _fitting(list(spans.values()), step) if spans else None
    for key, span in spans.items():
        try:
            multiple(span, step, fitting)
        except ValueError as error:
            yield f"{key}: {error}"


def _fitting(spans: list[float], step: float) -> float | None:
    """A step near to `step` of which all spans are whole numbers; None if there is no simple one."""
    shared = spans[0]
    try:
        for span in spans[1:]:
            shared = common_interval(span, shared)
        found = shared / max(1, round(shared / step))
        for span in spans:
            multiple(span, found)
    except (ValueError, ArithmeticError):
        return None
    return found


def whole_steps(time: TimeTable, output: OutputTable) -> Iterator[str]:
    """Mistakes for spans of the case that are not a whole number of its steps."""
    assert time.step is not None
    spans = {"time.end - time.start": time.end - time.start}
    spans |= {f"{key}.every": group.every for key, group in output.all().items()}
    if not isinstance(output.checkpoint_every, str):
        spans["output.checkpoint_every"] = output.checkpoint_every
    yield from whole(spans, time.step)


def joint_interval(time: TimeTable, output: OutputTable) -> float:
    """The longest interval that divides the span of the case and the intervals of all outputs.

    Raises ValueError, with the key, if there is none.
    """
    found = time.end - time.start
    for key, group in output.all().items():
        try:
            found = common_interval(group.every, found)
        except ValueError as error:
            raise ValueError(f"{key}.every: {error}") from None
    return found


def output_mistakes(time: TimeTable, output: OutputTable) -> Iterator[str]:
    """Mistakes in the intervals of outputs, which need not divide the span."""
    span = time.end - time.start
    found = False
    for key, group in output.all().items():
        if group.every > span * (1 + 1e-9):
            found = True
            yield f"{key}.every: must not exceed time.end - time.start = {span:g}, found {group.every:g}"
        elif span / group.every > MOST_OUTPUTS:
            found = True
            yield f"{key}.every: gives {span / group.every:.2g} outputs, expected at most {MOST_OUTPUTS}"
    if found:
        return
    if time.step is not None:
        yield from whole_steps(time, output)
    elif time.cfl is not None:
        try:
            joint_interval(time, output)
        except ValueError as error:
            yield str(error)


def sweep_mistakes(
    sweep: SweepTable, time: TimeTable, output: OutputTable, reference: ReferenceTable | None
) -> Iterator[str]:
    """Mistakes in the intervals of a sweep, whose runs are training data at equal distances in time."""
    if sweep.reference and (reference is None or reference.shape is None or reference.file is not None):
        yield "sweep.reference: needs a [reference] with a shape. Remedy: reference.shape, or sweep.reference = false"
    elif sweep.reference and reference is not None:
        for key in ("start", "initial"):
            if getattr(reference, key) is not None:
                yield f"sweep.reference: its runs start as the case does. Remedy: remove reference.{key}"
        every = "output.every" if sweep.every is None else "sweep.every"
        if step := reference.step or time.step:
            yield from whole({f"{every} (in steps of the reference)": sweep.every or output.every}, step)
    if sweep.every is not None:
        yield from whole({"sweep.every": sweep.every}, time.step or sweep.every)
        yield from whole({"output.every (in steps of sweep.every)": output.every}, sweep.every)
    span = time.end - time.start
    if output.every < span:
        try:
            multiple(span, output.every)
        except ValueError:
            yield (
                f"output.every: with [sweep] it must divide time.end - time.start = {span:g}, found "
                f"{output.every:g}. Remedy: {dividing(output.every, span):.10g}"
            )
