"""Trajectories of the complete equation on the reference grid, restricted to the case's grid and kept on disk.

One directory holds `request.json` (what was asked for; its hash names the directory), `state.npy`
(trajectory, time, field, *grid), `term.npy` (trajectory, call, field, *grid), `fine.npy` (trajectory, field,
*reference grid) and, when all is there, `done.json`. An interrupted generation goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case import Case, ReferenceTable, multiple
from subgrid.solver.equations import Equation
from subgrid.solver.initial_state import InitialState
from subgrid.solver.record import read_arrays, write_arrays, write_json
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Transforms

from .restriction import MissingTerm, Restrict, Restriction

FORMAT = 1
CHECKPOINT_SECONDS = 60.0
Progress = Callable[[int, int, str], None]


def cache() -> Path:
    """Where generated data lie: SUBGRID_CACHE, or ~/.cache/subgrid."""
    return Path(os.environ.get("SUBGRID_CACHE") or Path.home() / ".cache" / "subgrid")


@dataclass(frozen=True)
class Request:
    """Everything the data depend on. Times are counted in steps of the reference from its start.

    state_steps, term_steps: (first, last, every), or None where nothing is kept. term_noise: whether the term
    contains the omitted noise of its step, as a training set of the benchmark of arXiv 2506.20771 does.
    """

    equation: dict[str, Any]
    grid: dict[str, Any]
    reference_shape: tuple[int, ...]
    stepper: str
    step: float
    start: float
    initial: dict[str, Any]
    trajectories: int
    seed: int
    restrict: Restriction
    state_steps: tuple[int, int, int]
    term_steps: tuple[int, int, int] | None
    term_noise: bool
    fine_at: int | None
    cfl: float | None = None

    def directory(self) -> Path:
        """The directory named by the content of the request."""
        content = asdict(self) | {"format": FORMAT}
        if self.cfl is None:
            del content["cfl"]
        text = json.dumps(content, sort_keys=True)
        return cache() / hashlib.sha256(text.encode()).hexdigest()[:20]


def described(initial: InitialState) -> dict[str, Any]:
    """The table [initial] as plain data; of a file its content counts, wherever it lies."""
    data = initial.model_dump(mode="json", exclude_none=True)
    return data | (_content(data["path"]) if "path" in data else {})


def _base(case: Case, reference: ReferenceTable) -> dict[str, Any]:
    if reference.shape is None:
        raise ValueError("this reference is a closed form; it has no trajectories to generate")
    return {
        "equation": description(case.build_equation()),
        "grid": case.grid.model_dump(mode="json", exclude_defaults=True),
        "reference_shape": reference.shape,
        "stepper": reference.stepper or case.time.stepper,
        "step": reference.step or case.step,
        "cfl": reference.cfl or case.time.cfl,
        "start": case.time.start if reference.start is None else reference.start,
        "initial": described(reference.initial or case.initial),
        "restrict": reference.restrict,
    }


def description(equation: Equation) -> dict[str, Any]:
    """The equation's name and parameters as plain data, with the content of files it names."""
    data = {"name": equation.name} | equation.model_dump(mode="json")
    return data | {k: v | _content(v["path"]) for k, v in data.items() if isinstance(v, dict) and "path" in v}


def _content(path: str) -> dict[str, str]:
    """What stands for a file: wherever it lies, its content counts."""
    return {"path": Path(path).name, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}


def reference_request(case: Case) -> Request:
    """The case's reference: states at the output times, the missing term wherever an oracle is called."""
    reference = case.reference
    if reference is None:
        raise ValueError("the case has no [reference] table")
    base = _base(case, reference)
    h = base["step"]
    begin = multiple(case.time.start - base["start"], h) if case.time.start > base["start"] else 0
    last = begin + multiple(case.time.end - case.time.start, h)
    tables = [*case.closure, *(c for row in case.compare.closures for c in row.closures)]
    every = math.gcd(*(c.every for c in tables if c.name == "oracle"))
    return Request(
        **base,
        trajectories=reference.trajectories,
        seed=reference.seed,
        state_steps=(begin, last, multiple(case.output.every, h)),
        term_steps=(begin, last, multiple(every * case.step, h)) if every else None,
        term_noise=False,
        fine_at=begin,
    )


def training_request(case: Case) -> Request:
    """The case's training set: pairs (state, missing term) at the sampling times of [training]."""
    if case.reference is None or case.training is None:
        raise ValueError("a training set needs the tables [reference] and [training]")
    training = case.training
    if training.seed == case.reference.seed:
        raise ValueError("training.seed must differ from reference.seed: they would share trajectories")
    base = _base(case, case.reference)
    h = base["step"]
    begin = multiple(training.start - base["start"], h) if training.start > base["start"] else 0
    every = multiple(training.every, h)
    span = (begin, begin + multiple(training.end - training.start, h) - every, every)
    return Request(
        **base,
        trajectories=training.trajectories,
        seed=training.seed,
        state_steps=span,
        term_steps=span,
        term_noise=True,
        fine_at=None,
    )


class Trajectories:
    """Read-only access to generated data."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "done.json").is_file():
            raise ValueError(f"{directory} holds no finished trajectories. Remedy: `subgrid data CASE`")
        self.directory = directory
        self.request: dict[str, Any] = json.loads((directory / "request.json").read_text())
        self.step, self.start = float(self.request["step"]), float(self.request["start"])

    def _open(self, name: str) -> NDArray:
        return np.load(self.directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    @property
    def state(self) -> NDArray:
        """(trajectory, time, field, *grid), float64."""
        return self._open("state")

    @property
    def term(self) -> NDArray:
        """(trajectory, call, field, *grid), float32."""
        return self._open("term")

    @property
    def fine(self) -> NDArray:
        """(trajectory, field, *reference grid): the reference's own state where the case starts."""
        return self._open("fine")

    def times(self, name: str = "state") -> NDArray[np.float64]:
        """Times of the entries of `state` or `term`."""
        first, last, every = self.request[f"{name}_steps"]
        return self.start + self.step * np.arange(first, last + 1, every)


def generate(case: Case, request: Request, progress: Progress = lambda done, total, what: None) -> Trajectories:
    """Make the requested trajectories, or find them in the cache, or go on from where they were left."""
    directory = request.directory()
    if (directory / "done.json").is_file():
        return Trajectories(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "request.json", asdict(request))
    model = case.build_equation()
    equation = model.complete()
    coarse = case.grid.grid()
    fine = coarse.refined(request.reference_shape)
    ids = tuple(range(request.trajectories))
    assert case.reference is not None
    initial = case.reference.initial or case.initial
    simulation = Simulation(
        equation,
        fine,
        request.stepper,
        request.step,
        initial.state(equation, fine, ids, request.seed),
        start=request.start,
        seed=request.seed,
        members=ids,
        cfl=request.cfl,
    )
    checkpoint = directory / "checkpoint.npz"
    if checkpoint.is_file():
        simulation.restore(read_arrays(checkpoint))
    restrict = Restrict(equation, fine, coarse, request.restrict)
    missing = MissingTerm(model, restrict, len(ids))
    fields = len(equation.fields)
    files = {
        name: _array(directory / f"{name}.npy", (len(ids), _count(span), fields, *coarse.shape), dtype)
        for name, span, dtype in (("state", request.state_steps, "f8"), ("term", request.term_steps, "f4"))
        if span
    }
    law = model.noise.law(coarse) if request.term_noise and model.noise and not model.has("noise") else None
    saved = time.monotonic()
    steps = max(span[1] for span in (request.state_steps, request.term_steps) if span)

    def at(n: int) -> None:
        nonlocal saved
        if due(request.state_steps, n) or due(request.term_steps, n) or n == request.fine_at:
            state = simulation.state
            if due(request.state_steps, n):
                files["state"][:, _index(request.state_steps, n)] = restrict(state)
            if request.term_steps and due(request.term_steps, n):
                term = missing(state)
                if law is not None:
                    drawn = law.sample(request.seed, "equation", ids, n + round(request.start / request.step))
                    term[:, 0] += Transforms(coarse).to_physical(drawn) / math.sqrt(request.step)
                files["term"][:, _index(request.term_steps, n)] = term
            if n == request.fine_at:
                np.save(directory / "fine.npy", state)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            for file in files.values():
                file.flush()
            write_arrays(checkpoint, simulation.checkpoint())
            saved = time.monotonic()
        progress(n, steps, "reference run" if request.fine_at is not None else "training set")

    def events(n: int) -> int:
        spans = [s for s in (request.state_steps, request.term_steps) if s]
        ahead = [_next(s, n) - n for s in spans] + [100]
        if request.fine_at is not None and request.fine_at > n:
            ahead.append(request.fine_at - n)
        return min(a for a in ahead if a > 0)

    simulation.run(steps, events, at)
    for file in files.values():
        file.flush()
    write_json(directory / "done.json", {"steps": steps})
    checkpoint.unlink(missing_ok=True)
    return Trajectories(directory)


def _count(span: tuple[int, int, int]) -> int:
    first, last, every = span
    return (last - first) // every + 1


def _index(span: tuple[int, int, int], n: int) -> int:
    return (n - span[0]) // span[2]


def due(span: tuple[int, int, int] | None, n: int) -> bool:
    """Whether step n is one of first, first + every, ..., last."""
    return span is not None and span[0] <= n <= span[1] and (n - span[0]) % span[2] == 0


def _next(span: tuple[int, int, int], n: int) -> int:
    """The first step of the span after n, or n where there is none."""
    first, last, every = span
    if n < first:
        return first
    following = first + ((n - first) // every + 1) * every
    return following if following <= last else n


def _array(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    if path.is_file():
        return np.lib.format.open_memmap(path, mode="r+")
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
