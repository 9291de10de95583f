"""The scoreboard: the speed-up of every applicable closure on every case, on one page.

    python studies/results.py [--short] [--case NAME] [--closure FILE.py:CLASS]

    make results                         # hours; writes docs/results/scoreboard.md
    make results SHORT=1                 # minutes; writes runs/results-short/scoreboard.md
    make results PLUGIN=my.py:Class      # with a closure of yours on every case that accepts it

Every case of cases/ with rows or a frontier is compared, one after the other. The closures are the rows of [compare],
the other installed classical and learned closures that accept the case, with their default options, and those of
--closure. The short form makes the overrides `set` under [expected] of each case.

Comparisons are kept in runs/results or runs/results-short. Run the command again after an interrupt: it goes on where
it stopped. A finished comparison is run again only if its case, its closures or a file that they use changed.

The page is docs/results/scoreboard.md for all cases in the full form without --closure, else scoreboard.md in the
folder of the comparisons. Exit codes: 0, 2 for wrong input, 3 if a comparison failed, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from results_page import Result, write

from subgrid.closures.learning.learned_closure import LearnedClosure
from subgrid.commands.comparison.compare import compare, resume_comparison
from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.entry import handle_signals
from subgrid.commands.exit_codes import DONE, FAILED, INTERRUPTED, Interrupted
from subgrid.commands.failures import explain
from subgrid.commands.report import printed
from subgrid.commands.terminal import accept_every_character, display, say
from subgrid.ingest.given_closures import given_rows, with_rows
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import describe_initial
from subgrid.solver.backend.files import FolderLock, read_json, remove_temporary, replace_folder, write_json
from subgrid.solver.case.inputs import differences, with_contents
from subgrid.solver.case.reading import check, overridden, read
from subgrid.solver.case.tables import Case
from subgrid.solver.closure import PluginError, Problem, UnknownClosure
from subgrid.solver.closure.discovery import CLOSURES, find, load
from subgrid.solver.equations.plugin_errors import plugin_errors
from subgrid.solver.equations.plugins import is_path, unknown
from subgrid.solver.simulation.build import build_simulation
from subgrid.solver.simulation.folder import COMPARISON, UNUSED_IN_COMPARISONS

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run the command and return its exit code. root: the folder of cases/, docs/ and runs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the short version of each case: minutes, not hours")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="only this case; repeatable")
    parser.add_argument("--closure", action="append", default=[], metavar="FILE.py:CLASS", help="a closure of yours")
    options = parser.parse_args(arguments)
    accept_every_character()
    try:
        return results(options.short, options.case, options.closure, root)
    except (Interrupted, KeyboardInterrupt):
        return say("interrupted. Run the same command again: it goes on where it stopped", INTERRUPTED)
    except Exception as error:
        found = explain(error, shlex.join(["studies/results.py", *arguments]))
        if found is None:
            raise
        return say(found[1], found[0])


def results(short: bool, names: list[str], closures: list[str], root: Path) -> int:
    """Compare the cases and write the page. Raises ValueError, before anything is written, for wrong input."""
    plugins = {text: plugin(text) for text in dict.fromkeys(closures)}
    cases = chosen(root / "cases", names, short)
    out = root / "runs" / ("results-short" if short else "results")
    out.mkdir(parents=True, exist_ok=True)
    done: list[Result] = []
    with FolderLock(out.parent):  # costs are timed: no other comparison of this command may run beside them
        remove_temporary(out)
        for i, (path, overrides) in enumerate(cases):
            began = time.perf_counter()
            display(f"[{i + 1}/{len(cases)}] {path.stem}")
            done.append(result(path, overrides, plugins, out, short))
            took = f"{time.perf_counter() - began:.0f} s"
            display(f"  failed after {took}: {done[-1].failed}" if done[-1].failed else f"  done, {took}")
            write(done, out / "scoreboard.md", out / "scoreboard", arguments_of(short, names, closures))
    target = out / "scoreboard.md"
    failed = [r.name for r in done if r.failed]
    if not (short or names or closures or failed):
        target = root / "docs" / "results" / "scoreboard.md"
        write(done, target, root / "docs" / "pictures" / "results", [])
    display(f"scoreboard: {target}")
    if failed:
        return say(f"failed: {', '.join(failed)}. Remedy: see the page; run the command again", FAILED)
    return DONE


def arguments_of(short: bool, names: list[str], closures: list[str]) -> list[str]:
    """The options of the command line."""
    repeated = [part for name in names for part in ("--case", name)]
    repeated += [part for text in closures for part in ("--closure", text)]
    return [*(["--short"] if short else []), *repeated]


def plugin(text: str) -> dict[str, Any]:
    """The table of a closure given by name, or by FILE.py:CLASS from the working directory. Raises ValueError."""
    by_path = is_path(text)
    try:
        if by_path:
            load(text, Path.cwd())
        else:
            find(text)
    except UnknownClosure as error:
        raise ValueError(f"--closure {text}: {error}. Remedy: FILE.py:CLASS, or a name in `subgrid list`") from None
    return {"path": os.path.abspath(text)} if by_path else {"name": text}


def chosen(folder: Path, names: list[str], short: bool) -> list[tuple[Path, list[str]]]:
    """The files of the cases and their overrides. Raises ValueError for an unknown name or a case that is not valid."""
    files = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    for name in names:
        if name not in files:
            raise ValueError(f"--case {name}: {unknown(name, files)}")
    found = []
    for name, path in files.items():
        if names and name not in names:
            continue
        case = read(path)
        if case.reference is None or not (case.compare.closures or case.compare.frontier):
            if names:
                raise ValueError(f"--case {name}: it has no speed-ups. Remedy: [reference], and rows or a frontier")
            continue
        overrides = list(case.expected.get("set", [])) if short else []
        read(path, overrides)
        found.append((path, overrides))
    if not found:
        raise ValueError(f"{folder} holds no case with a reference and rows or a frontier. Remedy: add one")
    return found


def result(path: Path, overrides: list[str], plugins: dict[str, dict[str, Any]], out: Path, short: bool) -> Result:
    """The comparison of a case, kept from an earlier run of the command or made now; one that fails says why."""
    case = read(path, overrides)
    rows, added, accepted, refused = rows_of(case, path, overrides, plugins)
    label = "+".join([path.stem, *map(bare, accepted)])
    command = shlex.join(["python", "studies/results.py", *arguments_of(short, [path.stem], accepted)])
    found = Result(path.stem, case, command, added, refused, out / label)
    try:
        case = with_rows(case, rows)
        found.comparison = compared(case, out / label, command)
        if not (out / label / "report.html").is_file():
            printed.path(out / label, "page", as_json=False)
    except (KeyboardInterrupt, Interrupted, OSError, MemoryError):
        raise
    except Exception as error:  # hours of other cases do not end with this one
        known = explain(error, command)
        if known is None:
            traceback.print_exc()
        found.failed = known[1] if known else f"{type(error).__name__}: {error}"
    return found


def rows_of(
    case: Case, path: Path, overrides: list[str], plugins: dict[str, dict[str, Any]]
) -> tuple[list[Any], list[str], list[str], dict[str, str]]:
    """The rows of a comparison; names of the installed closures and plug-ins that are added to those of the case; and,
    by name, why the case refuses a plug-in.

    plugins: their tables by the texts of --closure. Rows that are added are called as often as the case's first one.
    """
    rows: list[Any] = list(case.compare.closures)
    named = {table.name for row in rows for table in row.closures}
    every = rows[0].closures[0].every if rows else 1
    added: list[str] = []
    accepted: list[str] = []
    refused: dict[str, str] = {}
    for name, cls in CLOSURES.available():
        table = {"name": name, "every": every}
        if cls.kind in ("classical", "learned") and name not in named and not fault(path, overrides, table):
            rows.append(table)
            added.append(name)
    for text, table in plugins.items():
        if table.get("name") in {*named, *added}:
            continue
        if why := fault(path, overrides, table | {"every": every}):
            refused[bare(text)] = why
        else:
            rows.append(table | {"every": every})
            accepted.append(text)
    return rows, added, accepted, refused


def bare(text: str) -> str:
    """The name of a closure that is given as FILE.py:CLASS or by name."""
    return text.rpartition(":")[2]


def fault(path: Path, overrides: list[str], table: dict[str, Any]) -> str | None:
    """Why a closure does not fit a case; None if it does. The reference is not needed, and nothing is run."""
    try:
        case = with_step(read(path, overrides))
        (row,) = given_rows(case.folder, [table], "closure")
        equation, grid = case.build_equation(), case.grid.grid()
        if not row.closures[0].find(case.folder).needs_reference:
            with plugin_errors():
                build_simulation(
                    case, equation, grid, np.ones((1, len(equation.fields), *grid.shape)),
                    closures=[row.closures[0].couple(case.folder)], folder=case.folder,
                    initial=describe_initial(case.initial),
                )  # fmt: skip
        data = overridden(path, overrides)
        data["compare"] = {**data.get("compare", {})}
        data["compare"]["closures"] = [*data["compare"].get("closures", []), table]
        check(data, path.stem, path.parent)
    except (PluginError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def compared(case: Case, folder: Path, command: str) -> Comparison:
    """The comparison in `folder`: finished before, continued, or, if what it depends on is another, made again."""
    record = folder.with_name(f"{folder.name}.json")
    now = json.loads(json.dumps(inputs(case)))
    if (folder / "case.toml").is_file():
        changes = differences(read_json(record), now) if record.is_file() else [f"{record} is missing"]
        if not changes:
            return resume_comparison(folder)
        display("  is run again: " + "; ".join(changes[:3]))
    elif folder.exists() and not (folder / COMPARISON).exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds no comparison. Remedy: move it elsewhere")
    replace_folder(folder, lambda new: None)
    write_json(record, now)
    return compare(case, out=folder, command=command)


def inputs(case: Case) -> dict[str, Any]:
    """What a comparison depends on: the tables of its case, and the contents of the files that they and its closures
    use."""
    stepped = with_step(case)
    tables = {k: v for k, v in stepped.resolved().items() if k not in UNUSED_IN_COMPARISONS}
    weights: dict[str, Any] = {}
    for row in stepped.compare.closures:
        for table in row.closures:
            closure = table.couple(case.folder).closure
            if isinstance(closure, LearnedClosure):
                try:
                    file = closure.find_weights(problem(stepped, table.every))
                except PluginError:  # the row says so
                    continue
                weights[row.name] = [*weights.get(row.name, []), str(file)]
    return {"case": with_contents(tables), "weights": with_contents(weights)}


def problem(case: Case, every: int) -> Problem:
    """What a closure of the case is started with, without the reference."""
    members = tuple(range(case.ensemble.members))
    return Problem(
        case.build_equation(), case.grid.grid(), case.step, every, case.time.start, members, case.ensemble.seed,
        folder=case.folder, initial=describe_initial(case.initial),
    )  # fmt: skip


if __name__ == "__main__":
    handle_signals()
    sys.exit(main(sys.argv[1:]))
