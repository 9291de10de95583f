"""Spans and intervals that are not whole numbers of steps: the step that is named fits all of them."""

from __future__ import annotations

import re

import pytest

from subgrid.solver.case.base import multiple
from subgrid.solver.case.intervals import whole


@pytest.mark.parametrize(
    ("spans", "step", "expected"),
    [
        ((5.0, 0.5), 0.03, 0.5 / 17),
        ((5.0, 0.07), 0.05, 0.01),
        ((5.0, 0.5), 0.3, 0.25),
        ((5.0, 0.5), 7.0, 0.5),
        ((1.0, 0.3, 0.25), 0.1, 0.05),
        ((5.01,), 0.05, 0.0501),
    ],
)
def test_the_step_that_is_named_fits_every_span(spans, step, expected):
    mistakes = list(whole({f"key {i}": span for i, span in enumerate(spans)}, step))
    assert mistakes
    for mistake in mistakes:
        found = re.search(r"nearest step that fits: (\S+)\)$", mistake)
        assert found and float(found[1]) == pytest.approx(expected, rel=1e-8)
    assert [multiple(span, expected) for span in spans]


def test_without_a_simple_common_step_each_span_has_its_own():
    first, second = whole({"a": 2**0.5, "b": 3**0.5}, 0.3)
    assert "fits: 0.2828427125)" in first and "fits: 0.2886751346)" in second
    assert not list(whole({"a": 1.0, "b": 0.3}, 0.1)) and not list(whole({}, 0.1))
