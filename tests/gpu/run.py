"""`make gpu`: what a CUDA device is checked and measured with.

    python tests/gpu/run.py                        the stand-ins, then every part on the device, then the page
    python tests/gpu/run.py --part parity steps    these parts
    python tests/gpu/run.py --backend cupy         another backend; by default torch:cuda

Without a device it says so and runs the stand-ins alone. With one, every part is a process of its own with less than
ten minutes; all of them take less than 15. What is not timed runs side by side. The rows of a part go to
runs/gpu/PART.json, the page is docs/results/gpu.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
ROWS, PAGE = ROOT / "runs" / "gpu", ROOT / "docs" / "results" / "gpu.md"
UNTIMED = ("parity", "closures")  # they run side by side
# seconds after which a part is stopped; what it measured until then is kept
PARTS = {
    "parity": 200,
    "closures": 200,
    "steps": 240,
    "bandwidth": 60,
    "calls": 90,
    "diffusion": 70,
    "training": 100,
    "frontier": 100,
}


def rows_of(part: str) -> Callable[..., Iterator]:
    """The function that measures a part."""
    import frontier
    import learned
    import parity
    import speed

    return {
        "parity": parity.rows,
        "closures": parity.closures,
        "steps": speed.vorticity_rows,
        "bandwidth": speed.bandwidth_rows,
        "calls": learned.call_rows,
        "diffusion": learned.diffusion_rows,
        "training": learned.training_rows,
        "frontier": frontier.rows,
    }[part]


def device() -> str | None:
    """The name of the CUDA device, None where there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def versions() -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    packages = "subgrid torch cupy-cuda13x cupy-cuda12x numpy numba jax exponax torch-cfd jax-cfd"
    for package in packages.split():
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


def measure(part: str, backend: str, tiny: bool, rows: Path) -> None:
    """Measure one part in this process, and write its rows after each."""
    from measuring import TINY, Place, Sizes

    from subgrid.solver.backend import select

    place, sizes = Place(select(backend)), TINY if tiny else Sizes()
    about = {"device": device(), "backend": backend, "date": str(datetime.date.today()), "versions": versions()}
    rows.mkdir(parents=True, exist_ok=True)
    found: list[dict] = []
    for row in rows_of(part)(place, sizes):
        print(row, flush=True)
        found.append(row._asdict() | {"met": row.met})
        (rows / f"{part}.json").write_text(json.dumps({**about, "rows": found}, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--backend", default="torch:cuda", help="by default torch:cuda")
    parser.add_argument("--here", action="store_true", help="measure one part in this process")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to check the measuring code")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--page", type=Path, default=PAGE, help="file of the page")
    options = parser.parse_args(arguments)
    if options.here:
        for part in options.part:
            measure(part, options.backend, options.tiny, options.rows)
        return 0
    if options.part == list(PARTS):
        print("the stand-ins, which need no device", flush=True)
        if subprocess.run([sys.executable, "-m", "pytest", "-q", "-k", "not measuring", str(HERE)]).returncode:
            return 1
    name = device()
    if name is None:
        print("there is no CUDA device here: nothing was measured on one, and docs/results/gpu.md stays as it is")
        return 0
    print(f"device: {name}", flush=True)
    return on_the_device(options)


def on_the_device(options: argparse.Namespace) -> int:
    """Each part in a process of its own, then the page. 1 if a requirement is missed or a part failed."""
    from page import write

    shared = ["--here", "--backend", options.backend, "--rows", str(options.rows), *["--tiny"][: options.tiny]]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_ENABLE_X64": "1"}
    failed = []

    def measured(part: str) -> None:
        began = time.perf_counter()
        command = [sys.executable, __file__, "--part", part, *shared]
        try:
            code: object = subprocess.run(command, env=environment, timeout=PARTS[part]).returncode
        except subprocess.TimeoutExpired:
            code = f"stopped after {PARTS[part]} s"
        print(f"{part}: {time.perf_counter() - began:.0f} s", flush=True)
        if code:
            failed.append(f"{part} ({code})")
            print(f"{part} failed: {code}", file=sys.stderr)

    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(measured, [part for part in options.part if part in UNTIMED]))
    for part in options.part:
        if part not in UNTIMED:
            measured(part)
    missed = write(options.rows, options.page, failed)
    print(f"page: {options.page}; missed: {', '.join(missed) or 'none'}; failed: {', '.join(failed) or 'none'}")
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
