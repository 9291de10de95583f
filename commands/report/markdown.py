"""The scores of a comparison in Markdown, for pages that are read in a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..comparison.results import Metrics
from ..terminal import printable
from .verdict import columns

SPECIAL = re.compile(r"([\\`*_\[\]<>|])")


def text(value: str) -> str:
    """A text of one line in which Markdown finds nothing to act on."""
    return SPECIAL.sub(r"\\\1", printable(" ".join(value.split())))


def table(headings: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table: the first columns, `left` of them, to the left, the others to the right. The cells are Markdown."""
    ruler = ["---" if i < left else "---:" for i in range(len(headings))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ruler, *lines))


def scores(metrics: Metrics) -> str:
    """One line per run with its errors, scores and costs; best values are bold and failed runs are marked."""
    listed = [(c, c.best(metrics.rows)) for c in columns(metrics) if c.score is None and not c.counts]
    lines = []
    for row in metrics.rows:
        cells = [f"**{c.text(row)}**" if row.name in best else c.text(row) for c, best in listed]
        lines.append([text(row.name) + (" (failed)" if row.failed else ""), row.kind, *cells])
    return table(["run", "kind", *(c.heading for c, _ in listed)], lines, left=2)
