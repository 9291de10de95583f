"""Install the project on a CUDA machine without a package index.

    python tests/gpu/wheels.py collect FOLDER     on a machine with an index: the wheels that the other one lacks
    python tests/gpu/wheels.py install FOLDER     on the CUDA machine, in the checkout

The CUDA machine has Python 3.12 with torch, CuPy, Numba with CUDA and JAX, and what these need. `collect` downloads the
other dependencies of pyproject.toml for that Python, and what they need, and fails above 64 MiB. `install` makes .venv
over the packages of the machine, installs the wheels and the checkout, and asks no index. Then `make gpu`.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 64 * 2**20
# what torch, CuPy, Numba and JAX bring; not downloaded
PRESENT = {"cupy-cuda13x", "jax", "numba", "numpy", "scipy", "torch"}
# what the others need of those; the rest of a dependency is taken with its own dependencies
TOO_LARGE = {"llvmlite", "triton", "nvidia"}
TOOLS = ["setuptools>=77", "wheel", "pytest>=8.3", "array-api-strict>=2.2", "exponax>=0.2"]


def name_of(requirement: str) -> str:
    """The name in a requirement: "torch>=2.4" is for torch."""
    return requirement.split("[")[0].split(">")[0].split("=")[0].split("<")[0].strip().lower()


def needed() -> list[str]:
    """The dependencies of the project that the CUDA machine lacks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [r for r in [*project["dependencies"], *TOOLS] if name_of(r) not in PRESENT]


def constraints(folder: Path) -> Path:
    """The versions that are tested, without those of what the machine has."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line and not line.startswith("#") and name_of(line) not in PRESENT]
    path = folder / "constraints.txt"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def collect(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    limits = ["--only-binary=:all:", "--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"]
    limits += ["--platform", "manylinux2014_x86_64", "--platform", "any", "--implementation", "cp"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "-c", str(constraints(folder))]
    code = subprocess.run([*pip, *limits, *needed()]).returncode
    if code:
        return code
    for wheel in folder.glob("*.whl"):
        name = wheel.name.split("-")[0].replace("_", "-").lower()
        if name in PRESENT or any(name.startswith(part) for part in TOO_LARGE):
            wheel.unlink()
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    print(f"{len(list(folder.glob('*.whl')))} wheels, {size / 2**20:.1f} MiB")
    if size > LARGEST:
        print(f"more than {LARGEST / 2**20:.0f} MiB. Remedy: leave out what the machine has", file=sys.stderr)
        return 1
    return 0


def install(folder: Path) -> int:
    """Make .venv over the machine's packages, from the wheels alone."""
    wheels = sorted(str(path) for path in folder.glob("*.whl"))
    if not wheels:
        print(f"{folder} holds no wheels. Remedy: python tests/gpu/wheels.py collect {folder}", file=sys.stderr)
        return 2
    venv = ROOT / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(venv)], check=True)
    # an environment made in another one sees the packages of the base interpreter only
    own = next(venv.glob("lib/python*/site-packages"))
    (own / "machine.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, *wheels], check=True)
    subprocess.run([*pip, "--no-build-isolation", str(ROOT)], check=True)
    return subprocess.run([str(venv / "bin" / "python"), "-c", "import subgrid, torch, numba"]).returncode


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("collect", "install"):
        sys.exit(__doc__)
    sys.exit({"collect": collect, "install": install}[sys.argv[1]](Path(sys.argv[2])))
