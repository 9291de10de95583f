"""Speed-ups and scores as a page in Markdown shows them."""

from __future__ import annotations

import pytest

from subgrid.commands.comparison.results import Metrics, Row
from subgrid.commands.report import markdown
from subgrid.commands.report.speedups import cells

ROW = {"name": "a", "kind": "learned", "times": [0.0, 1.0], "relative_l2": [0.0, 0.1]}


@pytest.mark.parametrize(
    "changes, text, interval, outcome",
    [
        ({"speedup": {"crps": [2, 1.5, 3]}}, "2", "[1.5, 3]", "beats"),
        ({"speedup": {"crps": [2, 0.5, 3]}}, "2", "[0.5, 3]", "ties"),
        ({"speedup": {"crps": [0.2, None, 0.3]}}, "0.2", "[–, 0.3]", "loses"),
        ({"speedup": {"crps": [2, None, None]}}, "2", "[–, –]", "ties"),  # both ends lie beyond the frontier
        ({"speedup": {"crps": [2, None, None]}, "intervals": {}}, "2", "", "beats"),  # one trajectory: no interval
        ({"speedup": {"crps": [None, None, None]}, "beyond": {"crps": ["<", 0.2]}}, "< 0.2", "", "loses"),
        ({"speedup": {"crps": [None, None, None]}, "beyond": {"crps": [">", 0.2]}}, "> 0.2", "", "beyond"),
        ({"speedup": {"crps": [None, None, None]}, "beyond": {"crps": [">", 2]}}, "> 2", "", "beats"),
    ],
)
def test_the_outcome_of_a_speed_up_follows_from_its_interval(changes, text, interval, outcome):
    row = Row.model_validate(ROW | {"intervals": {"crps": [0.1, 0.2]}} | changes)
    cell = cells(row)["CRPS"]
    assert (cell.text, cell.interval, cell.outcome) == (text, interval, outcome)


def test_names_cannot_act_in_a_table():
    assert markdown.text("a|b *c*\n<d> `e` \x1b[1m") == r"a\|b \*c\* \<d\> \`e\` \\x1b\[1m"


def test_the_table_of_scores_has_a_line_for_each_run_and_marks_best_and_failed_ones():
    rows = [
        ROW | {"name": "none", "kind": "none", "relative_l2": [0.0, 0.2], "speedup": {"crps": [2, 1.5, 3]}},
        ROW,
        ROW | {"name": "b", "failed": "not finite", "times": [0.0], "relative_l2": [0.0]},
    ]
    base = {"case": "x", "reference": {"shape": [1], "description": ""}, "command": "c", "versions": {}, "machine": "m"}
    found = markdown.scores(Metrics.model_validate(base | {"rows": rows})).splitlines()
    assert found == [
        "| run | kind | L2 t=0 | L2 t=1 | mean L2 |",
        "| --- | --- | ---: | ---: | ---: |",
        "| none | none | **0** | 0.2 | 0.1 |",
        "| a | learned | **0** | **0.1** | **0.05** |",
        "| b (failed) | learned | 0 | – | – |",
    ]
