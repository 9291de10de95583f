"""Speed, as ratios of times taken side by side: python tests/benchmarks/bench.py [--only GROUP...] [--json FILE]

On Linux, in double precision unless stated; the groups are the modules beside this one.

fourier        Kolmogorov flow from a random field with step 0.256 / n, Burgers from a sine.
  step         exponax's ETDRK2 step of one member over ours: same parameters, forcing and kept modes, checked by
               comparing the states after ten steps. Exponax steps in Fourier space under jit, the fastest of three ways
               counts.
  N / FFTs     the nonlinear term over the four real transforms it would take (it carries them out as two complex ones,
               with the modes above the 2/3 cut left out; the ratio to those alone stands behind).
  torch N      the array code on torch: over its own four transforms, and torch-cfd's explicit terms over it.
  run          `subgrid run` without closures, with its first and last output and its checkpoint, over bare steps.
  burgers      microseconds of one ETDRK2 step of Burgers' equation, 256 points, one member.
vlasov         the published two-stream case, one member, by the stepper alone.
  rk4          milliseconds of an RK4 step with WENO5 fluxes: four right-hand sides, each with its field.
  strang       millions of cells per second that a split semi-Lagrangian step takes along x, v and x; default order.
shallow_water  the radial dam break, against pyclaw's dimension-split classic solver.
  cells        cells stepped per second, by SSP-RK2 and by sweeps along the axes.
  time         seconds for a simulated time, by sweeps on a grid whose error is no larger than pyclaw's on its own.
precision      a step in double precision over one in single precision, by the time of the processor.
roofline       the shortest time that traffic, operations and divisions allow on this core, over that of each kernel.
diagnostics    50 steps and the scalars of an output over the 50 steps alone, without files; four equations.
calls          a call of each network of the cases for eight members, over the steps of the model between two calls.
cores          two cores.
  hand-over    microseconds until two threads of the pool have begun and ended a job without work.
  step         exponax's step of one member over ours.
  one member   the time of one thread over that of two, for each equation; both end with the same bytes.
  ensemble     exponax's ensemble of 32 over ours; of each equation's, the time of one thread over twice that of two.

All on one core, but for the last: two, in a process of its own, as XLA counts cores when it starts. Contestants
take turns. `median` is that of the ratios turn by turn, and decides; `best`, the ratio of their shortest times, stands
beside it: far from the median, it tells that the machine was not quiet.
"""

# ruff: noqa: E402
from __future__ import annotations

import os
import sys

TWO_CORES = "--two-cores" in sys.argv
CORES = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, CORES[-2:] if TWO_CORES else CORES[-1:])  # before XLA counts them
FLAGS = "--xla_force_host_platform_device_count=2" if TWO_CORES else "--xla_cpu_multi_thread_eigen=false"
os.environ |= {"XLA_FLAGS": FLAGS, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}

import argparse
import datetime
import importlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from timing import Disagreement, Missing, Row

from subgrid.solver import spectral

GROUPS = ("fourier", "vlasov", "shallow_water", "precision", "roofline", "diagnostics", "calls", "cores")


def machine() -> list[str]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    library = {"fftw": "pyfftw", "ducc": "ducc0", "scipy": "scipy"}[spectral.library()]
    packages = ("numpy", "numba", library, "jax", "exponax", "torch", "torch-cfd", "clawpack")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return [
        f"{datetime.date.today()}, {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start",
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def on_two_cores() -> Iterator[Row]:
    os.sched_setaffinity(0, CORES)
    child = subprocess.run([sys.executable, __file__, "--two-cores"], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, CORES[-1:])
    if child.returncode:
        raise Disagreement("the measurements on two cores failed")
    yield from (Row(*row) for row in json.loads(child.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to FILE as well")
    parser.add_argument("--two-cores", action="store_true", help="the rows on two cores alone, as JSON")
    options = parser.parse_args()
    about = machine()
    if options.two_cores:
        print(json.dumps(list(importlib.import_module("cores").rows())))
        return 0

    print(*about, f"{'':32}{'best':>7}{'median':>8}   required", sep="\n")
    rows: list[Row] = []
    unmeasured: list[str] = []
    for group in options.only:
        try:
            found = on_two_cores() if group == "cores" else importlib.import_module(group).rows()
            for row in found:
                rows.append(row)
                print(row, flush=True)
        except Missing as error:
            unmeasured.append(group)
            print(f"{group}: not measured. {error}", flush=True)
        except Disagreement as error:
            print(f"{error}: there is nothing to compare", file=sys.stderr)
            return 1
    missed = [row.what for row in rows if not row.met] + [f"all of {group}" for group in unmeasured]
    print(f"{len(rows) - len(missed)} of {len(rows)} targets met{'; missed: ' if missed else ''}{', '.join(missed)}")
    if options.json:
        table = [row._asdict() | {"met": bool(row.met)} for row in rows]
        options.json.write_text(json.dumps({"machine": about, "rows": table}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
