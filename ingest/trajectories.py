"""Trajectories of the complete equation on the reference grid, restricted to the case's grid and kept on disk.

One directory holds `request.json` (what was asked for; its hash names the directory), `state.npy`
(trajectory, time, field, *grid), `term.npy` (trajectory, call, field, *grid), `fine.npy` (trajectory, field,
*reference grid) and, when all is there, `done.json`. An interrupted generation goes on from its checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.solver.case.tables import Case
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.record import read_arrays, write_arrays, write_json
from subgrid.solver.spectral import Transforms

from .missing_term import MissingTerm
from .requests import Request
from .restriction import Restrict

CHECKPOINT_SECONDS = 60.0
Progress = Callable[[int, int, str], None]


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
