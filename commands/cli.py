"""The command line. Heavy libraries are imported inside the commands, so that --help is fast."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from .exit_codes import DONE, FAILED, INTERRUPTED, MISTAKE, REMEDY
from .failures import explain, underway
from .terminal import accept_every_character, display, give_up_output, say

__all__ = ["DONE", "FAILED", "INTERRUPTED", "MISTAKE", "app", "execute", "main"]

app = App(
    name="subgrid",
    help="Run PDEs on coarse grids with closures selected by name, and measure whether a closure is worth its cost.",
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `execute` prints what can be resumed
)
common = Group("Common options")

Set = Annotated[
    tuple[str, ...],
    Parameter(name="--set", group=common, negative=(), help="Override a value of the case: table.key=value."),
]
Out = Annotated[Path | None, Parameter(name="--out", group=common, help="Folder or file for the results.")]
Backend = Annotated[
    str | None,
    Parameter(
        name="--backend", group=common, help="Array backend: numpy, cupy or torch[:device]; default: that of the case."
    ),
]
Json = Annotated[
    bool, Parameter(name="--json", group=common, negative=(), help="Print the result as JSON, without progress bars.")
]

Workers = Annotated[int | None, Parameter(negative=(), help="Processes on this machine that share the work, by Dask.")]
Scheduler = Annotated[str | None, Parameter(negative=(), help="Address of a Dask scheduler, whose workers share it.")]


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command and exit with 0, 2 (mistake of the user), 3 (the run failed) or 130 (interrupted)."""
    sys.exit(execute(sys.argv[1:] if arguments is None else arguments))


def execute(arguments: list[str]) -> int:
    """Run a command, print the message of an error on standard error, and return the exit code."""
    accept_every_character()
    underway.clear()
    try:
        code = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of the output has what it wanted, as `head`
        give_up_output()
        return DONE
    except KeyboardInterrupt:
        return say(REMEDY, INTERRUPTED)
    except (Exception, SystemExit) as error:
        give_up_output()
        found = explain(error, shlex.join(["subgrid", *arguments]))
        if found is None:
            raise
        return say(found[1], found[0])


def _run(arguments: list[str]) -> int:
    if unusable := [a for a in arguments if "\0" in a or not _is_text(a)]:
        return say(f"the argument {unusable[0]!r} is not UTF-8 text. Remedy: rename the file or folder", MISTAKE)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return say(f"{error}\nSee: subgrid --help", MISTAKE)
    return DONE


def _is_text(argument: str) -> bool:
    """False for an argument with bytes that are not UTF-8, which Python holds as surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in argument)


def _read(case: Path, overrides: tuple[str, ...], backend: str | None) -> Any:
    from subgrid.solver.backend import available_threads, select
    from subgrid.solver.case.reading import read

    available_threads()  # refuses a wrong SUBGRID_THREADS before anything is written
    chosen = [f"backend={backend}"] if backend is not None else []
    if backend is not None:
        select(backend)
    checked = read(case, [*overrides, *chosen])
    select(checked.backend)
    return checked


def _target(out: Path | None, case: Path, what: str) -> Path:
    """The folder for the results, absolute: a plug-in may change the working directory."""
    return (out if out is not None else Path("runs") / f"{case.stem}-{what}").absolute()


def _file(out: Path | None, key: str = "--out") -> Path | None:
    """The file for a command's result, refused before the command runs unless it is or can be a file of its own."""
    if out is not None and out.is_dir():
        raise ValueError(f"{key} {out}: is a folder, expected a file. Remedy: name a file")
    if out is not None and out.is_symlink():
        raise ValueError(f"{key} {out}: is a symbolic link, which is not followed. Remedy: name the file itself")
    if out is not None and out.exists() and not out.is_file():
        raise ValueError(f"{key} {out}: is a device or a pipe, expected a file. Remedy: name a file")
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"{key} {out}: there is no folder {out.parent}. Remedy: make it, or choose another file")
    return out


def _command() -> str:
    return shlex.join(["subgrid", *sys.argv[1:]])


def _command_of_training() -> str:
    """The command line without where its results go: the header of weights holds what made them and no path."""
    kept, skip = [], False
    for argument in sys.argv[1:]:
        if not (skip or argument in ("--out", "--json") or argument.startswith("--out=")):
            kept.append(argument)
        skip = argument == "--out"
    return shlex.join(["subgrid", *kept])


def _finish(result: dict[str, Any], as_json: bool, show: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        show()


@app.command
def run(
    case: Path,
    *,
    set_: Set = (),
    out: Out = None,
    backend: Backend = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json_: Json = False,
) -> None:
    """Run a case. Results go to runs/CASE-run, or to --out. --workers, --scheduler: for blocks of its members."""
    from .run import run as run_case

    target = _target(out, case, "run")
    checked = _read(case, set_, backend)
    shared: dict[str, Any] = {"workers": workers, "scheduler": scheduler}
    summary = json.loads(run_case(checked, out=target, progress=not json_, **shared).attrs["summary"])
    _finish(summary, json_, lambda: _summary(summary, target))


@app.command
def resume(
    folder: Path,
    *,
    until: float | None = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json_: Json = False,
) -> None:
    """Continue a run from its last checkpoint, or compute the missing rows of a comparison.

    --until: a later end of a run, also of one that is done. --workers, --scheduler: for blocks of the
    members of a run that was begun with them, and for the rows of a comparison.
    """
    from subgrid.solver.backend import available_threads
    from subgrid.solver.simulation.folder import COMPARISON

    available_threads()
    if (folder / COMPARISON).exists():
        from .comparison.compare import resume_comparison
        from .report import printed

        if until is not None:
            raise ValueError("--until is for runs; the rows of a comparison end at time.end. Remedy: leave it out")
        found = resume_comparison(folder, progress=not json_, workers=workers, scheduler=scheduler)
        printed.scores(found, folder, json_)
        return
    from .run import resume as resume_run

    shared: dict[str, Any] = {"workers": workers, "scheduler": scheduler}
    summary = json.loads(resume_run(folder, until=until, progress=not json_, **shared).attrs["summary"])
    _finish(summary, json_, lambda: _summary(summary, folder))


def _summary(summary: dict[str, Any], folder: Path) -> None:
    total = summary["seconds"]["total"]
    steps = "" if summary["steps"] is None else f"{summary['steps']} steps "
    display(f"{summary['status']}: {steps}to t = {summary['time']:g} in {total:.1f} s -> {folder}")


@app.command
def report(folder: Path, *, style: Literal["page", "one-column", "two-column"] = "page", json_: Json = False) -> None:
    """Draw the report of a comparison again, or that of a run: its scalars, budgets and last state.

    --style: draw the pictures for a paper instead, as PDF and PNG, one or two columns wide.
    """
    from .report import printed

    printed.path(folder, style, json_)


for _name, _module, _help in (  # imported when they are called
    (
        "compare",
        "comparison.command",
        "Compare the uncorrected model and every closure with the reference and a frontier of classical runs.",
    ),
    ("export", "export", "Write a trained network as ONNX, for the closure `model` and for other programs."),
    (
        "tune",
        "tuning",
        "Choose options of a closure by rollouts on validation trajectories. --option NAME=LOW:HIGH: what is searched.",
    ),
    ("data", "data", "Compute the training set, the reference and the sweep of a case; --format: export them."),
    (
        "sweep",
        "sweep.command",
        "Run or compare a case for many values of its keys: one table, one Zarr store, one picture.",
    ),
    ("ingest", "data", "Report what a file or folder of data holds. --out: copy it to a Zarr store in the schema."),
):
    app.command(f"subgrid.commands.{_module}:{_name}", name=_name, help=_help)


@app.command
def train(
    case: Path,
    *,
    closure: str,
    objective: Literal["one-step", "rollout"] = "one-step",
    unroll: int | None = None,
    device: str = "cpu",
    set_: Set = (),
    out: Out = None,
    backend: Backend = None,
    json_: Json = False,
) -> None:
    """Compute the training set if it is not in the cache, train a closure and write its weights.

    Run the command again to resume. Options come from the table [train.CLOSURE] of the case. The objective "rollout"
    continues the training through the solver, over windows of UNROLL calls of the closure. Weights go to
    CASE-CLOSURE.safetensors, or to --out. DEVICE is one of torch: cpu, cuda, cuda:1, ...
    """
    from .train import short_name
    from .train import train as train_closure

    checked = _read(case, set_, backend)
    target = _file(out) or Path(f"{case.stem}-{short_name(closure)}.safetensors")
    file = case.name if case.is_file() else f"{case}.toml"
    origin = {"training_case": file, "training_command": _command_of_training()}
    how: dict[str, Any] = {"objective": objective, "unroll": unroll, "device": device}
    result = train_closure(checked, closure, out=target, progress=not json_, origin=origin, **how)
    scores = result["scores"]
    _finish(
        result | {"weights": str(target)},
        json_,
        lambda: display(
            f"weights: {target}  "
            + "  ".join(f"{k} {v:.4g}" for k, v in scores.items())
            + (f"\n{result['formula']}" if "formula" in result else "")
        ),
    )


@app.command
def check(
    case: Path,
    *,
    set_: Set = (),
    out: Out = None,
    backend: Backend = None,
    json_: Json = False,
    import_: Annotated[bool, Parameter(name="--import", negative=())] = False,
    memory: Annotated[bool, Parameter(negative=())] = False,
    closure: str | None = None,
    objective: Literal["one-step", "rollout"] = "one-step",
    unroll: int | None = None,
) -> None:
    """Validate a case without running it. --out: a file for the case with every default written out.

    --memory: predict the largest memory of `run` and `data` by a few steps on small grids, without closures, and refuse
    a case that does not fit into this machine. --closure NAME: that of `train`, too, with its --objective and --unroll,
    by short trainings on noise.

    --import: also import the files of plug-ins that the case names by `path`, which executes their code, and check
    their options and their answers. Without it these files are named, and the rest of the case is checked.
    """
    from subgrid.solver.backend import available_threads

    from .check import check as check_case

    available_threads()
    chosen = [f"backend={backend}"] if backend is not None else []
    tables, files = check_case(case, [*set_, *chosen], _file(out), import_)
    needs: dict[str, str] = {}
    if memory or closure or unroll is not None or objective != "one-step":
        from .check import memory_of

        needs = memory_of(_read(case, set_, backend), memory, closure, objective, unroll)

    def show() -> None:
        for name, text in needs.items():
            display(f"{name:{max(map(len, needs)) + 2}}{text}")
        unread = ["except for these files, which were not imported; --import executes and checks them:", *files]
        display(f"{case}: valid" + (", " + "\n  ".join(unread) if files else ""))

    _finish(tables | ({"not_imported": files} if files else {}) | ({"memory": needs} if needs else {}), json_, show)


@app.command(name="list")
def list_(*, json_: Json = False) -> None:
    """List equations, initial states, forcings, steppers, closures and shipped cases; why a plug-in is unavailable."""
    from .listing import show, table

    found = table()
    _finish(found, json_, lambda: show(found))


@app.command
def schema(*, out: Out = None) -> None:
    """Print the JSON schema of case files, for editors."""
    from subgrid.solver.case.tables import Case

    text = json.dumps(Case.model_json_schema(), indent=1)
    if (file := _file(out)) is not None:
        file.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


@app.command
def new(what: Literal["closure", "case"], name: str, *, out: Out = None, json_: Json = False) -> None:
    """Write a template that works as it is: a closure with its test and case, or a case. Files go to ., or to --out."""
    from .new import write

    files = write(what, name, out or Path())
    _finish({"files": [str(f) for f in files]}, json_, lambda: display("\n".join(str(f) for f in files)))
