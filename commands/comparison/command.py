"""The command `compare`."""

from __future__ import annotations

from pathlib import Path

from ..cli import Backend, Json, Out, Scheduler, Set, Workers, _command, _read, _target


def compare(
    case: Path,
    *,
    set_: Set = (),
    out: Out = None,
    backend: Backend = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json_: Json = False,
) -> None:
    """Compare the uncorrected model and every closure with the reference and with a frontier of classical runs.

    Writes metrics.json, comparison.zarr, pictures and report.html to runs/CASE-compare, or to --out. With workers, the
    same command goes on with a comparison that ended early; costs are measured when no worker is at work.
    """
    from ..report import printed
    from .compare import compare as compare_case

    target = _target(out, case, "compare")
    checked = _read(case, set_, backend)
    result = compare_case(
        checked, out=target, progress=not json_, command=_command(), workers=workers, scheduler=scheduler
    )
    printed.scores(result, target, json_)
