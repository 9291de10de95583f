"""Speed, as ratios of times taken side by side: python tests/benchmarks/bench.py [--json FILE]

Double precision throughout; dt = 0.256 / n, Kolmogorov flow from a random field, Burgers from a sine.

step       one ETDRK2 step of Kolmogorov flow, one member, against exponax's: the same scheme, parameters, forcing and
           2/3 rule (exponax is given a fraction that keeps the same modes), checked first by comparing the states after
           ten steps. Exponax steps in Fourier space under jit, in the fastest of: a Python loop with donated arrays, one
           fori_loop, one scan.
ensemble   the same step for 32 members of 64 x 64 on two cores: Simulation.advance with two threads, against exponax
           under vmap, in the fastest of: one device with two threads, two devices with half of the members each, two
           Python threads with half of the members each.
N / FFTs   one evaluation of the nonlinear term over its own four transforms.
run        seconds per step of `subgrid run`, without closures, writing the first and last states and a checkpoint, over
           those of the bare stepper.
burgers    microseconds of one ETDRK2 step of Burgers' equation, 256 points, one member.

One process pinned to one core (two for the ensemble, in a process of its own, as XLA sizes its threads at the start).
The contestants of a row take turns, `REPEATS` times. A contestant's time is its best, which other load on the machine
disturbs least; the median over turns of the ratio stands beside it, and tells how quiet the machine was.
"""

from __future__ import annotations

import os
import sys

CORES = 2 if "--ensemble" in sys.argv else 1
ALLOWED = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, ALLOWED[-CORES:])  # before XLA counts the cores
XLA = {1: "--xla_cpu_multi_thread_eigen=false", 2: "--xla_force_host_platform_device_count=2"}
os.environ |= {"OMP_NUM_THREADS": str(CORES), "XLA_FLAGS": XLA[CORES], "JAX_PLATFORMS": "cpu"}

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import exponax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
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
from subgrid.solver.steppers import ETDRK2, Stepper

REPEATS = 21
SIZES = (64, 128, 256, 512)
MEMBERS = 32
AGREEMENT = 1e-10  # relative difference from exponax allowed after ten steps
VISCOSITY, DRAG, AMPLITUDE, WAVENUMBER = 1e-3, 0.1, 1.0, 4
FLOW = Kolmogorov(
    viscosity=VISCOSITY, drag=DRAG, forcing=Forcing(kind="sine", amplitude=AMPLITUDE, wavenumber=WAVENUMBER)
)
FIELD = GaussianRandomField(exponent=2.5, tau=5.0)

jax.config.update("jax_enable_x64", True)

Work = Callable[[], object]


@dataclass
class Row:
    """One measured value and what is required of it; `median` is the same value by medians over the turns."""

    what: str
    value: float
    median: float
    required: float
    at_least: bool
    detail: str

    @property
    def ok(self) -> bool:
        return self.value >= self.required if self.at_least else self.value <= self.required

    def line(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "ok" if self.ok else "MISSED"
        return (
            f"{self.what:<14}{self.value:8.2f}{self.median:8.2f}   {sign} {self.required:<6g}{verdict:<8}{self.detail}"
        )


def take_turns(contestants: dict[str, Work], repeats: int = REPEATS) -> dict[str, NDArray]:
    """Seconds of every turn of every contestant; each runs once beforehand, to compile and to warm the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, work in contestants.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(s) for name, s in seconds.items()}


def repeat(work: Work, count: int) -> Work:
    def several() -> None:
        for _ in range(count):
            work()

    return several


def square(n: int) -> Grid:
    return Grid((n, n), (2 * np.pi, 2 * np.pi))


def kept(n: int, members: int = 1) -> NDArray:
    """Random vorticity on the modes that the 2/3 rule keeps, (member, 1, y, x)."""
    grid = square(n)
    transforms = spectral.Transforms(grid)
    w_hat = transforms.to_spectrum(FIELD.state(FLOW, grid, tuple(range(members)), 0))
    return transforms.to_physical(w_hat * grid.mask())


def bare_stepper(n: int) -> tuple[Stepper, NDArray]:
    """A bare stepper of one member, and the coefficients (1, row, column) that it steps."""
    grid = square(n)
    u = spectral.Transforms(grid).to_spectrum(kept(n))[0]
    return Stepper(ETDRK2, FLOW.right_hand_side(grid, 1), u.shape, "complex128", 0.256 / n), u


def peer(n: int) -> exponax.stepper.KolmogorovFlowVorticity:
    """Exponax's stepper for the same flow. Its vorticity is minus ours, transposed: see `to_peer`."""
    keep = (square(n).cuts[0] + 1.5) / (n // 2)
    return exponax.stepper.KolmogorovFlowVorticity(
        2,
        2 * np.pi,
        n,
        0.256 / n,
        diffusivity=VISCOSITY,
        drag=-DRAG,
        injection_mode=WAVENUMBER,
        injection_scale=-AMPLITUDE,
        order=2,
        dealiasing_fraction=keep,
    )


def to_peer(w: NDArray) -> jax.Array:
    """Exponax's coefficients (..., 1, x, y) of our vorticity: it advects with the opposite sign, and forces along x."""
    return jnp.fft.rfft2(-jnp.asarray(w).swapaxes(-1, -2))


def disagreement(n: int, members: int) -> float:
    """Largest difference between ours and exponax after ten steps, over the largest vorticity."""
    w = kept(n, members)
    simulation = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, w, threads=CORES)
    simulation.advance(10)
    step = jax.jit(jax.vmap(peer(n).step_fourier))
    w_hat = to_peer(w)
    for _ in range(10):
        w_hat = step(w_hat)
    theirs = -np.asarray(jnp.fft.irfft2(w_hat, s=(n, n))).swapaxes(-1, -2)
    difference = float(np.abs(simulation.state - theirs).max() / np.abs(theirs).max())
    print(f"{members:3d} of {n:3d} x {n:<3d} after ten steps: {difference:.1e} from exponax", file=sys.stderr)
    return difference


def peer_step(n: int, steps: int) -> dict[str, Work]:
    stepper, start = peer(n), to_peer(kept(n)[0])
    once = jax.jit(lambda w: stepper.step_fourier(w), donate_argnums=0)
    fori = jax.jit(lambda w: jax.lax.fori_loop(0, steps, lambda i, v: stepper.step_fourier(v), w))
    scan = jax.jit(lambda w: jax.lax.scan(lambda v, _: (stepper.step_fourier(v), None), w, None, length=steps)[0])

    def python_loop() -> None:
        w = start + 0
        for _ in range(steps):
            w = once(w)
        w.block_until_ready()

    return {
        "loop": python_loop,
        "fori": lambda: fori(start).block_until_ready(),
        "scan": lambda: scan(start).block_until_ready(),
    }


def peer_ensemble(n: int, steps: int) -> dict[str, Work]:
    stepper, start = jax.vmap(peer(n).step_fourier), to_peer(kept(n, MEMBERS))

    def several(w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, steps, lambda i, v: stepper(v), w)

    together, devices = jax.jit(several), jax.devices()
    halves = jnp.split(start, 2)
    two_devices = NamedSharding(Mesh(devices, ("member",)), PartitionSpec("member"))
    split = jax.device_put(start, two_devices)
    pool = ThreadPoolExecutor(2)

    def two_threads() -> None:
        list(pool.map(lambda half: together(half).block_until_ready(), halves))

    assert len(devices) == 2
    return {
        "one device": lambda: together(start).block_until_ready(),
        "two devices": lambda: together(split).block_until_ready(),
        "two threads": two_threads,
    }


def against(what: str, ours: Work, theirs: dict[str, Work], steps: int, required: float) -> Row:
    seconds = take_turns({"ours": ours, **theirs})
    own = seconds.pop("ours")
    name = min(seconds, key=lambda k: seconds[k].min())
    best, own_best = (1e6 * s.min() / steps for s in (seconds[name], own))
    detail = f"{own_best:9.1f} us, exponax ({name}) {best:9.1f} us"
    return Row(what, best / own_best, float(np.median(seconds[name] / own)), required, True, detail)


def ensemble() -> Row:
    n, steps = 64, 16
    simulation = Simulation(FLOW, square(n), "etdrk2", 0.256 / n, kept(n, MEMBERS), threads=2)
    return against("ensemble 32", lambda: simulation.advance(steps), peer_ensemble(n, steps), steps, 3.0)


def step(n: int) -> Row:
    steps = max(2, 2**18 // n**2)
    stepper, u = bare_stepper(n)
    return against(
        f"step {n}",
        repeat(lambda: stepper.advance(u, 0.0, None), steps),
        peer_step(n, steps),
        steps,
        1.4 if n > 256 else 1.7,
    )


def nonlinear(n: int) -> Row:
    count = max(2, 2**19 // n**2)
    rhs = FLOW.right_hand_side(square(n), 1)
    u = bare_stepper(n)[1]
    out = np.zeros_like(u)

    def transforms() -> None:
        rhs._inverse()
        rhs._forward()

    seconds = take_turns({"N": repeat(lambda: rhs(u, 0.0, out), count), "FFTs": repeat(transforms, count)})
    best = {k: 1e6 * s.min() / count for k, s in seconds.items()}
    detail = f"{best['N']:9.1f} us, transforms {best['FFTs']:9.1f} us"
    return Row(
        f"N / FFTs {n}", best["N"] / best["FFTs"], float(np.median(seconds["N"] / seconds["FFTs"])), 1.3, False, detail
    )


def whole_run(n: int) -> Row:
    steps = 2**26 // n**2
    stepper, u = bare_stepper(n)
    end = steps * 0.256 / n
    case = Case.model_validate(
        {
            "title": "benchmark",
            "equation": {"name": "kolmogorov", **FLOW.model_dump(include={"viscosity", "drag", "forcing"})},
            "grid": {"shape": (n, n), "length": square(n).length},
            "time": {"end": end, "step": 0.256 / n, "stepper": "etdrk2"},
            "initial": FIELD.model_dump(exclude_none=True),
            "output": {"every": end},
        }
    )
    whole: list[float] = []

    def subgrid_run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            whole.append(run(case, Path(), Path(folder) / "run", Bars(quiet=True))["seconds"]["total"])

    bare = repeat(lambda: stepper.advance(u, 0.0, None), steps)
    seconds = take_turns({"run": subgrid_run, "bare": bare}, repeats=5)
    best, bare_best = (1e6 * min(s) / steps for s in (whole[1:], seconds["bare"]))
    detail = f"{best:9.1f} us, bare steps {bare_best:9.1f} us"
    return Row(
        f"run {n}", best / bare_best, float(np.median(np.array(whole[1:]) / seconds["bare"])), 1.15, False, detail
    )


def burgers() -> Row:
    grid, equation, count = Grid((256,), (2 * np.pi,)), Burgers(viscosity=0.01), 500
    u = spectral.Transforms(grid).to_spectrum(Sine().state(equation, grid, (0,), 0))
    stepper = Stepper(ETDRK2, equation.right_hand_side(grid, 1), u.shape, "complex128", 1e-3)
    seconds = take_turns({"ours": repeat(lambda: stepper.advance(u, 0.0, None), count)}, repeats=3 * REPEATS)["ours"]
    best, median = 1e6 * seconds.min() / count, 1e6 * float(np.median(seconds)) / count
    return Row("burgers 256", best, median, 15.0, False, "microseconds a step")


def machine() -> str:
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        model = next((s.partition(":")[2].strip() for s in info.read_text().splitlines() if "model name" in s), model)
    packages = (
        "numpy",
        "numba",
        *{"fftw": ("pyfftw",), "ducc": ("ducc0",)}.get(spectral.library(), ("scipy",)),
        "jax",
        "exponax",
    )
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{datetime.date.today()}, {model}, {os.cpu_count()} cores, {load}\n"
        f"Python {platform.python_version()}, {versions}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to FILE as well")
    parser.add_argument("--ensemble", action="store_true", help="the ensemble row alone, as JSON")
    options = parser.parse_args()
    sizes, members = ((64,), MEMBERS) if options.ensemble else (SIZES, 1)
    if max(disagreement(n, members) for n in sizes) > AGREEMENT:
        print(f"exponax and subgrid differ by more than {AGREEMENT:g} after ten steps: no times taken", file=sys.stderr)
        return 1
    if options.ensemble:
        print(json.dumps(asdict(ensemble())))
        return 0

    print(machine())
    print(f"{'':<14}{'best':>8}{'median':>8}   required")
    rows: list[Row] = []

    def show(row: Row) -> None:
        rows.append(row)
        print(row.line(), flush=True)

    for n in SIZES:
        show(step(n))
    os.sched_setaffinity(0, ALLOWED)
    child = subprocess.run([sys.executable, __file__, "--ensemble"], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, ALLOWED[-CORES:])
    if child.returncode:
        return child.returncode
    show(Row(**json.loads(child.stdout)))
    for measure in (nonlinear, whole_run):
        for n in SIZES:
            show(measure(n))
    show(burgers())
    missed = [row.what for row in rows if not row.ok]
    print(
        f"{len(rows) - len(missed)} of {len(rows)} targets met" + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    if options.json:
        record = {"machine": machine().splitlines(), "rows": [asdict(row) | {"ok": row.ok} for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
