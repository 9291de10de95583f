"""The table of scores: in a terminal, as a data frame, and in a notebook."""

from __future__ import annotations

import html as escaping
import re
from typing import TYPE_CHECKING

from ..comparison.results import Metrics, Row
from ..terminal import printable
from .verdict import NOT_REACHED, columns

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table

HEADING, CELL, LONGEST = 19, 8, 28  # characters of the headings of the lines, and least and most of one run
ORACLE = "An oracle is given the true term, so it is not ranked."


def terminal(metrics: Metrics, width: int = 80) -> Group:
    """The table for a terminal, one column for each run: best values are bold, failed runs are red and marked.

    width: of the terminal, in characters. Runs that do not fit beside each other follow below. Names are broken at
    spaces and hyphens, and inside a word only where it is longer than LONGEST.
    """
    from rich.console import Group
    from rich.text import Text

    parts, first, room = [], 0, width - HEADING
    widths = [_width(row) for row in metrics.rows]
    for i, wide in enumerate(widths):
        if i > first and wide > room:
            parts.append(_beside(metrics, first, i, widths))
            first, room = i, width - HEADING
        room -= wide
    parts.append(_beside(metrics, first, len(widths), widths))
    parts[0].title = Text(printable(metrics.case))
    if any(row.kind == "oracle" for row in metrics.rows):
        parts[-1].caption = ORACLE
    return Group(*parts)


def _lines(name: str) -> list[str]:
    """A name in lines that end at spaces or after hyphens, as short as its longest word allows."""
    words = re.findall(r"[^\s-]+-?|-", name) or [name]
    limit = min(max(CELL, *map(len, words)), LONGEST)
    found = [""]
    for word in words:
        spaced = " " if found[-1] and not found[-1].endswith("-") else ""
        if found[-1] and len(found[-1]) + len(spaced) + len(word) > limit:
            found.append(word)
        else:
            found[-1] += spaced + word
    return found


def _width(row: Row) -> int:
    """The characters of the column of a run, with the space before the next."""
    return min(max(CELL, *map(len, _lines(printable(row.name)))), LONGEST) + 2


def _beside(metrics: Metrics, first: int, last: int, widths: list[int]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = metrics.rows[first:last]
    result = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    result.add_column(no_wrap=True, min_width=12)
    for row, wide in zip(rows, widths[first:last], strict=True):
        lines = _lines(printable(row.name)) + (["failed"] if row.failed else [])
        style = "red" if row.failed else ""
        heading = Text("\n".join(lines))
        result.add_column(
            heading, justify="right", overflow="fold", style=style, header_style=style, max_width=wide - 1
        )
    for column in columns(metrics):
        best = column.best(metrics.rows)
        cells = []
        for row in rows:
            text = column.text(row, missing="-").replace(NOT_REACHED, NOT_REACHED.replace(" ", "\n"))
            cells.append(Text(text, style="bold green" if row.name in best else ""))
        result.add_row(Text(column.heading), *cells)
    return result


def frame(metrics: Metrics) -> pd.DataFrame:
    """One line per run, indexed by its name: kind, the scores under their long names, and why it failed."""
    import pandas as pd

    columns_ = columns(metrics)
    data: dict[str, list[object]] = {"kind": [row.kind for row in metrics.rows]}
    data |= {column.name: [column.value(row) for row in metrics.rows] for column in columns_}
    data["failed"] = [row.failed or "" for row in metrics.rows]
    found = pd.DataFrame(data, index=pd.Index([row.name for row in metrics.rows], name="run"))
    return found.astype({c.name: "int64" if c.counts else "float64" for c in columns_})


def html(metrics: Metrics) -> str:
    """One line per run as an HTML table that needs no style sheet; best values are bold."""
    listed = [(column, column.best(metrics.rows)) for column in columns(metrics)]
    head = "".join(f'<th title="{_text(c.meaning)}">{_text(c.heading)}</th>' for c, _ in listed)
    lines = []
    for row in metrics.rows:
        cells = []
        for column, best in listed:
            text = _text(column.text(row))
            cells.append(f"<td><b>{text}</b></td>" if row.name in best else f"<td>{text}</td>")
        failed = f"<br><small>failed: {_text(row.failed)}</small>" if row.failed else ""
        lines.append(
            f'<tr><th style="text-align:left">{_text(row.name)}{failed}</th><td>{row.kind}</td>{"".join(cells)}</tr>'
        )
    caption = "Bold: best of the runs that finished."
    caption += f" {ORACLE}" if any(row.kind == "oracle" for row in metrics.rows) else ""
    return (
        f"<table><caption>{_text(metrics.case)}. {caption}</caption>"
        f"<thead><tr><th>run</th><th>kind</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _text(value: str) -> str:
    return escaping.escape(printable(value, keep="\n"))
