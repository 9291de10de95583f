"""Speed, as ratios of times taken side by side: python tests/benchmarks/bench.py [--json FILE]

On Linux, in double precision; Kolmogorov flow from a random field with step 0.256 / n, Burgers from a sine.

step       exponax's ETDRK2 step of one member over ours: same parameters, forcing and kept modes, checked by comparing
           the states after ten steps. Exponax steps in Fourier space under jit, the fastest of three ways counts.
ensemble   the same for 32 members of 64 x 64 on two cores: Simulation.advance with two threads.
N / FFTs   the nonlinear term over the four real transforms it would take (it carries them out as two complex ones,
           with the modes above the 2/3 cut left out; the ratio to those alone stands behind).
run        `subgrid run` without closures, with its first and last output and its checkpoint, over bare steps.
burgers    microseconds of one ETDRK2 step of Burgers' equation, 256 points, one member.

All on one core, but for the ensemble: two, in a process of its own, as XLA counts cores when it starts. Contestants
take turns. `median` is that of the ratios turn by turn, and decides; `best`, the ratio of their shortest times, stands
beside it: far from the median, it tells that the machine was not quiet.
"""

# ruff: noqa: E402
from __future__ import annotations

import os
import sys

ENSEMBLE = "--ensemble" in sys.argv
CORES = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, CORES[-2:] if ENSEMBLE else CORES[-1:])  # before XLA counts them
FLAGS = "--xla_force_host_platform_device_count=2" if ENSEMBLE else "--xla_cpu_multi_thread_eigen=false"
os.environ |= {"XLA_FLAGS": FLAGS, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from exponax_peer import Peer, Work
from numpy.typing import NDArray

from subgrid.commands.progress import Bars
from subgrid.commands.run import run
from subgrid.solver import spectral
from subgrid.solver.case import Case
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.equations.kolmogorov import Forcing
from subgrid.solver.grid import Grid
from subgrid.solver.initial import GaussianRandomField, Sine
from subgrid.solver.simulation import Simulation
from subgrid.solver.steppers import ETDRK2
from subgrid.solver.stepping import bind

TURNS = 21
SIZES = (64, 128, 256, 512)
MEMBERS = 32
AGREEMENT = 1e-10  # of the largest vorticity: difference from exponax allowed after ten steps
FLOW = Kolmogorov(viscosity=1e-3, drag=0.1, forcing=Forcing(kind="sine", amplitude=1.0, wavenumber=4))
FIELD = GaussianRandomField(exponent=2.5, tau=5.0)


class Row(NamedTuple):
    """One measured value, the same by medians, and what is required of it: at least, or else at most."""

    what: str
    best: float
    median: float
    required: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        return self.median >= self.required if self.at_least else self.median <= self.required

    def __str__(self) -> str:
        sign, verdict = ">=" if self.at_least else "<=", "ok" if self.met else "MISSED"
        return f"{self.what:12}{self.best:7.2f}{self.median:8.2f}   {sign} {self.required:<5g} {verdict:7}{self.detail}"


def ratio(what: str, upper: NDArray, lower: NDArray, required: float, at_least: bool, detail: str) -> Row:
    return Row(what, float(upper.min() / lower.min()), float(np.median(upper / lower)), required, at_least, detail)


def take_turns(steps: int, turns: int = TURNS, **contestants: Work) -> dict[str, NDArray]:
    """Microseconds per step of every turn of every contestant, after one turn that compiles and warms the caches."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, work in contestants.items():
            began = time.perf_counter()
            work()
            if turn:
                times[name].append(1e6 * (time.perf_counter() - began) / steps)
    return {name: np.array(t) for name, t in times.items()}


def repeat(count: int, work: Work) -> Work:
    return lambda: [work() for _ in range(count)]


def square(n: int) -> Grid:
    return Grid((n, n), (2 * np.pi, 2 * np.pi))


def vorticity(n: int, members: int = 1) -> NDArray:
    """Random vorticity on the modes that the 2/3 rule keeps, (member, 1, y, x)."""
    transforms = spectral.Transforms(square(n))
    w = FIELD.state(FLOW, square(n), tuple(range(members)), 0)
    return transforms.to_physical(transforms.to_spectrum(w) * square(n).mask())


def bare_step(n: int) -> Work:
    """One step of one member, by the stepper alone."""
    u = spectral.Transforms(square(n)).to_spectrum(vorticity(n))[0]
    stepper = bind(ETDRK2, FLOW.right_hand_side(square(n), 1), u.shape, "complex128", 0.256 / n)
    return lambda: stepper.advance(u, 0.0, None)


def disagreement(n: int, members: int) -> float:
    """Largest difference between ours and exponax after ten steps, over the largest vorticity."""
    simulation = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, vorticity(n, members))
    theirs = Peer(FLOW, square(n), 0.256 / n).after(10, simulation.state)
    simulation.advance(10)
    difference = float(np.abs(simulation.state - theirs).max() / np.abs(theirs).max())
    print(f"{members} of {n} x {n}: {difference:.1e} from exponax after ten steps", file=sys.stderr)
    return difference


def against(what: str, required: float, steps: int, ours: Work, theirs: dict[str, Work]) -> Row:
    times = take_turns(steps, ours=ours, **theirs)
    fastest = min(theirs, key=lambda name: times[name].min())
    detail = f"{times['ours'].min():9.1f} us, exponax ({fastest}) {times[fastest].min():.1f} us"
    return ratio(what, times[fastest], times["ours"], required, True, detail)


def one_member(n: int) -> Row:
    steps = max(2, 2**18 // n**2)
    theirs = Peer(FLOW, square(n), 0.256 / n).one_member(steps, vorticity(n))
    return against(f"step {n}", 1.7 if n <= 256 else 1.4, steps, repeat(steps, bare_step(n)), theirs)


def ensemble() -> Row:
    n, steps = 64, 16
    simulation = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, vorticity(n, MEMBERS), threads=2)
    theirs = Peer(FLOW, square(n), 0.256 / n).ensemble(steps, vorticity(n, MEMBERS))
    return against(f"ensemble {MEMBERS}", 3.0, steps, lambda: simulation.advance(steps), theirs)


def nonlinear(n: int) -> Row:
    count = max(2, 2**18 // n**2)
    transforms, rhs = spectral.Transforms(square(n)), FLOW.right_hand_side(square(n), 1)
    u = transforms.to_spectrum(vorticity(n))[0]
    out = np.zeros_like(u)
    spectrum, physical = spectral.empty((2, *u.shape), "complex128"), spectral.empty((2, 1, n, n))
    inverse, forward = transforms.inverse(spectrum, physical), transforms.forward(physical, spectrum)
    own = transforms.through(1, lambda values: None)[1]
    contestants = {"term": lambda: rhs(u, 0.0, out), "real": lambda: (inverse(), forward()), "own": own}
    times = take_turns(count, **{name: repeat(count, work) for name, work in contestants.items()})
    term, real, own_time = (times[name].min() for name in contestants)
    detail = f"{term:9.1f} us, transforms {real:.1f} us; {term / own_time:.2f} of its own complex ones"
    return ratio(f"N / FFTs {n}", times["term"], times["real"], 1.3, False, detail)


def whole_run(n: int) -> Row:
    steps, step, flow = 2**26 // n**2, 0.256 / n, FLOW.model_dump(include={"viscosity", "drag", "forcing"})
    tables = {
        "title": "benchmark",
        "equation": {"name": "kolmogorov", **flow},
        "grid": {"shape": (n, n), "length": square(n).length},
        "time": {"end": steps * step, "step": step, "stepper": "etdrk2"},
        "initial": FIELD.model_dump(exclude_none=True),
        "output": {"every": steps * step},
    }
    case, whole = Case.model_validate(tables), []

    def subgrid_run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            summary = run(case, Path(), Path(folder) / "run", Bars(quiet=True))
        whole.append(1e6 * summary["seconds"]["total"] / steps)

    bare = take_turns(steps, turns=5, run=subgrid_run, bare=repeat(steps, bare_step(n)))["bare"]
    times = np.array(whole[1:])
    detail = f"{times.min():9.1f} us, bare steps {bare.min():.1f} us"
    return ratio(f"run {n}", times, bare, 1.15, False, detail)


def burgers() -> Row:
    grid, equation, count = Grid((256,), (2 * np.pi,)), Burgers(viscosity=0.01), 500
    u = spectral.Transforms(grid).to_spectrum(Sine().state(equation, grid, (0,), 0))
    stepper = bind(ETDRK2, equation.right_hand_side(grid, 1), u.shape, "complex128", 1e-3)
    times = take_turns(count, turns=3 * TURNS, ours=repeat(count, lambda: stepper.advance(u, 0.0, None)))["ours"]
    return ratio("burgers 256", times, np.ones_like(times), 15.0, False, "microseconds a step")


def machine() -> list[str]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    library = {"fftw": "pyfftw", "ducc": "ducc0", "scipy": "scipy"}[spectral.library()]
    versions = (f"{p} {importlib.metadata.version(p)}" for p in ("numpy", "numba", library, "jax", "exponax"))
    return [
        f"{datetime.date.today()}, {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start",
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to FILE as well")
    parser.add_argument("--ensemble", action="store_true", help="the ensemble alone, as JSON")
    options = parser.parse_args()
    about = machine()
    checks = [(64, MEMBERS)] if options.ensemble else [(n, 1) for n in SIZES]
    if not all(disagreement(*check) <= AGREEMENT for check in checks):
        print(f"exponax and subgrid differ by more than {AGREEMENT:g}: there is nothing to compare", file=sys.stderr)
        return 1
    if options.ensemble:
        print(json.dumps(ensemble()))
        return 0

    print(*about, f"{'':12}{'best':>7}{'median':>8}   required", sep="\n")
    rows: list[Row] = []

    def show(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    for n in SIZES:
        show(one_member(n))
    os.sched_setaffinity(0, CORES)
    child = subprocess.run([sys.executable, __file__, "--ensemble"], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, CORES[-1:])
    if child.returncode:
        return child.returncode
    show(Row(*json.loads(child.stdout)))
    for measure in (nonlinear, whole_run):
        for n in SIZES:
            show(measure(n))
    show(burgers())
    missed = [row.what for row in rows if not row.met]
    print(f"{len(rows) - len(missed)} of {len(rows)} targets met{'; missed: ' if missed else ''}{', '.join(missed)}")
    if options.json:
        table = [row._asdict() | {"met": row.met} for row in rows]
        options.json.write_text(json.dumps({"machine": about, "rows": table}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
