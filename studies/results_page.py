"""The page of `studies/results.py`: speed-ups with intervals, closure by case; then table and picture of each case."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from PIL import Image

from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.comparison.results import Row
from subgrid.commands.comparison.samples import as_error
from subgrid.commands.report import markdown
from subgrid.commands.report.drawing import Plot, style
from subgrid.commands.report.page import plots
from subgrid.commands.report.speedups import SPEEDUPS, Cell, cells
from subgrid.commands.report.verdict import CLOSURES
from subgrid.solver.backend.files import replace
from subgrid.solver.case.tables import Case

PICTURE = "frontier"
LARGEST = 60_000  # bytes of a picture
KINDS = ("none", "classical", "learned", "sum", "oracle")  # order of the lines of a table
MEANING = (
    "- **Speed-up.** The speed-up of a run is the CPU time of the cheapest classical run of equal error, over the CPU "
    "time of the run: above 1 it is worth its cost. The classical runs are the uncorrected model and the classical "
    "closures on a ladder of grids, each with its best stepper and step; between them the cost is interpolated in the "
    "logarithms, and beyond them there is a bound, `> x` or `< x`."
)
MARKS = (
    "- **Marks.** `[low, high]` is the central 95 % interval over trajectories, a dash in it an end beyond the ladder. "
    "**Bold**: all of the interval is above 1. *Failed*: the run stopped early. *Refused*: the closure is not made for "
    "the case. An asterisk: the closure is not a row of the case file; its options are the defaults. The oracle is "
    "given the true term."
)
RULE = (
    "A closure is worth using for a score if all of the interval of its speed-up is above 1, and not if all of it is "
    "below; otherwise it is a tie. Where several are worth using for a score, the one with the highest lower end is "
    "named. Where no classical run of the ladder is as accurate, the most accurate closure is named with the bound. "
    "Failed runs, the uncorrected run and the oracle are left out. A case of one trajectory has no interval; the "
    "number itself decides."
)


@dataclass
class Result:
    """The comparison of one case, or why it failed.

    command: what makes it again. added: names of rows that are not in the case file. refused: closures that do not fit
    the case, with the reason. folder: that of the comparison.
    """

    name: str
    case: Case
    command: str
    added: list[str]
    refused: dict[str, str]
    folder: Path
    comparison: Comparison | None = None
    failed: str | None = None
    _picture: bytes | None = None

    @property
    def rows(self) -> list[Row]:
        return [] if self.comparison is None else self.comparison.metrics.rows

    def label(self, row: Row) -> str:
        """The name of a row, in Markdown, with an asterisk if it is not in the case file."""
        return markdown.text(row.name) + ("\\*" if row.name in self.added else "")

    def picture(self) -> bytes | None:
        """The picture of cost against error, None if there is none."""
        if self._picture is None and self.comparison is not None:
            plot = plots(self.comparison.metrics, self.comparison.dataset).get(PICTURE)
            self._picture = None if plot is None else small_png(plot)
        return self._picture


def small_png(plot: Plot) -> bytes:
    """A picture of at most LARGEST bytes, with 64 colours. Raises ValueError if it has more at 50 dots per inch."""
    for dots in (100, 80, 65, 50):
        buffer, reduced = io.BytesIO(), io.BytesIO()
        with style():
            plot.draw().savefig(buffer, format="png", backend="agg", dpi=dots)
        Image.open(buffer).convert("RGB").quantize(64).save(reduced, format="png", optimize=True)
        if reduced.tell() <= LARGEST:
            return reduced.getvalue()
    raise ValueError(f"{plot.title}: the picture has {reduced.tell()} bytes, expected at most {LARGEST}")


def write(results: list[Result], target: Path, pictures: Path, options: list[str]) -> None:
    """Write the page to `target` and its pictures to the folder `pictures`, in the place of earlier ones.

    options: those of the command.
    """
    pictures.mkdir(parents=True, exist_ok=True)
    wanted = {f"{r.name}.png": picture for r in results if (picture := r.picture()) is not None}
    for name, picture in wanted.items():
        replace(pictures / name, picture)
    for left in pictures.glob("*.png"):
        if left.name not in wanted:
            left.unlink()
    links = {name.removesuffix(".png"): Path(relpath(pictures / name, target.parent)).as_posix() for name in wanted}
    replace(target, page(results, links, options).encode())


def page(results: list[Result], pictures: dict[str, str], options: list[str]) -> str:
    """The page in Markdown. pictures: their addresses by the name of the case."""
    parts = ["# Scoreboard", "\n".join(f"    {line}" for line in commands(options))]
    if "--short" in options:
        parts.append(
            "This is the short form: short versions of the cases, which show that everything runs and no more."
        )
    parts.append("\n".join([MEANING, MARKS, *made_with(results)]))
    parts += ["## Which closure is worth using", RULE, "\n".join(f"- {recommendation(r)}" for r in results)]
    for score, (_, name) in SPEEDUPS.items():
        parts += [f"## Speed-up at equal {name}", speedups(results, score)]
    parts.append("## Cases")
    for r in results:
        parts += section(r, pictures.get(r.name))
    return "\n\n".join(parts) + "\n"


def commands(options: list[str]) -> list[str]:
    """The command of the page, through make where make has its options."""
    if not options:
        return ["make results"]
    found = [shlex.join(["python", "studies/results.py", *options])]
    return ["make results SHORT=1", *found[1:]] if options == ["--short"] else found


def made_with(results: list[Result]) -> list[str]:
    """Machine, versions and trajectories."""
    known = [r.comparison.metrics for r in results if r.comparison is not None]
    machines = dict.fromkeys(m.machine for m in known)
    versions = dict.fromkeys(", ".join(f"{name} {v}" for name, v in sorted(m.versions.items())) for m in known)
    revisions = dict.fromkeys(m.git for m in known if m.git)
    git = f"; git {', '.join(revisions)}" if revisions else ""
    counts = ", ".join(f"{r.name} {trajectories(r)}" for r in results)
    return [
        f"- **Machine.** {'; '.join(map(markdown.text, machines)) or '–'}. Costs are CPU seconds of one thread.",
        f"- **Versions.** {'; '.join(map(markdown.text, versions)) or '–'}{git}.",
        f"- **Trajectories.** {counts}.",
    ]


def trajectories(r: Result) -> int:
    return 0 if r.case.reference is None else r.case.reference.trajectories


def recommendation(r: Result) -> str:
    """Which closure is worth using on a case, in one sentence."""
    start = f"[{r.name}](#{r.name}): "
    if r.failed is not None:
        return f"{start}the comparison failed ({markdown.text(r.failed)})."
    closures = [row for row in r.rows if row.kind in CLOSURES]
    if not closures:
        return f"{start}no closure that is installed is made for it."
    found = [(row, name, cell) for row in closures if not row.failed for name, cell in cells(row).items()]
    if not found:
        return f"{start}{'every closure failed' if all(row.failed for row in closures) else 'no speed-up is known'}."
    scores = list(dict.fromkeys(name for _, name, _ in found))
    for outcome, words in (
        ("beats", "worth using: "),
        ("beyond", "more accurate than every classical run of the ladder: "),
        ("ties", "a tie, not shown to be worth using: "),
        ("loses", "no closure is worth using; the speed-ups nearest to 1 are those of "),
    ):
        reached = [entry for entry in found if entry[2].outcome == outcome]
        if outcome == "beyond":
            reached = [(row, name, cell) for row, name, cell in reached if most_accurate(row, name, closures)]
        best = [
            max(entries, key=lambda entry: (entry[2].lowest, entry[2].highest))
            for score in scores
            if (entries := [entry for entry in reached if entry[1] == score])
        ]
        if best:
            named = (f"**{r.label(row)}** for {name} ({shown(cell)})" for row, name, cell in best)
            return f"{start}{words}{', '.join(named)}."
    raise AssertionError


def most_accurate(row: Row, name: str, closures: list[Row]) -> bool:
    """Whether no closure has a better mean of the score of this name; those without a speed-up count as well."""
    score = next(score for score, (_, full) in SPEEDUPS.items() if full == name)
    errors = [as_error(score, value) for other in closures if (value := other.means.get(score)) is not None]
    value = row.means.get(score)
    return value is not None and bool(as_error(score, value) <= min(errors))


def shown(cell: Cell) -> str:
    """A speed-up and its interval, in Markdown."""
    return f"{cell.text} {cell.interval}".strip().replace("<", "&lt;").replace(">", "&gt;")


def speedups(results: list[Result], score: str) -> str:
    """The table of the speed-ups for one score: a line for each closure, a column for each case that has one."""
    name = SPEEDUPS[score][1]
    columns = [r for r in results if any(name in cells(row) and row.kind != "none" for row in r.rows)]
    if not columns:
        return "No run has a speed-up for this score."
    lines = {}
    for label in labels(columns):
        cells_ = [cell(r, label, name) for r in columns]
        if any(text != "–" for text in cells_):
            lines[label] = [label, *cells_]
    return markdown.table(["closure", *(f"[{r.name}](#{r.name})" for r in columns)], lines.values())


def labels(results: Iterable[Result]) -> list[str]:
    """The names of the runs in all cases without asterisks: by kind, then as they come; those refused at the end."""
    kinds: dict[str, int] = {}
    for row in (row for r in results for row in r.rows if row.kind in KINDS):
        kinds.setdefault(markdown.text(row.name), KINDS.index(row.kind))
    refused = (markdown.text(name) for r in results for name in r.refused)
    return list(dict.fromkeys([*sorted(kinds, key=lambda name: kinds[name]), *refused]))


def cell(r: Result, label: str, score: str) -> str:
    """The cell of a closure and a case: its speed-up, or why there is none."""
    if label in map(markdown.text, r.refused):
        return "*refused*"
    row = next((row for row in r.rows if markdown.text(row.name) == label), None)
    if row is None:
        return "–"
    if row.failed:
        return "*failed*"
    value = cells(row).get(score)
    if value is None:
        return "–"
    text = f"**{shown(value)}**" if value.outcome == "beats" and row.kind in CLOSURES else shown(value)
    return text + ("\\*" if row.name in r.added else "")


def section(r: Result, picture: str | None) -> list[str]:
    """The part of the page about one case: its command, its table, failures and refusals, and its picture."""
    parts = [f"### {r.name}"]
    if r.comparison is None:
        return [*parts, f"The comparison failed: {markdown.text(r.failed or '')}", f"    {r.command}"]
    metrics = r.comparison.metrics
    members = r.case.ensemble.members
    parts.append(
        f"{markdown.text(metrics.case)}. Trajectories: {trajectories(r)}, members: {members}. Reference: "
        f"{markdown.text(metrics.reference.description)}."
    )
    parts += [f"    {metrics.command}", markdown.scores(metrics)]
    notes = [f"- {r.label(row)} failed: {markdown.text(row.failed)}" for row in metrics.rows if row.failed]
    notes += [f"- {markdown.text(name)} is refused: {markdown.text(why)}" for name, why in r.refused.items()]
    if notes:
        parts.append("\n".join(notes))
    if picture is not None:
        parts.append(f"![Cost against error on {r.name}]({picture})")
    return parts
