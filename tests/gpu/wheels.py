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
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 64 * 2**20
# what the machine has; not downloaded
PRESENT = {"cupy-cuda13x", "jax", "jaxlib", "llvmlite", "numba", "numpy", "scipy", "torch"}
PRESENT |= {"jinja2", "markupsafe", "typing-extensions"}  # of torch
TOOLS = ["setuptools", "pytest", "array-api-strict", "exponax"]
PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17)), "manylinux2014_x86_64", "any"]


def needed() -> list[str]:
    """What the project and its tests need and the CUDA machine lacks, in the versions of this environment.

    Raises ValueError if one of them is not installed here.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting, found = [*project["dependencies"], *TOOLS], {}
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": "", "python_version": "3.12"})
        if name in PRESENT or name in found or not wanted:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            remedy = "make bench, or pip install '.[bench,test]'"
            raise ValueError(f"{name} is not installed here. Remedy: {remedy}") from None
        waiting += requires(name) or []
    return [f"{name}=={number}" for name, number in sorted(found.items())]


def collect(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    limits = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    limits += [part for platform in PLATFORMS for part in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    try:
        wanted = needed()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if code := subprocess.run([*pip, *limits, *wanted]).returncode:
        return code
    sizes = [wheel.stat().st_size for wheel in folder.glob("*.whl")]
    print(f"{len(sizes)} wheels, {sum(sizes) / 2**20:.1f} MiB")
    if sum(sizes) > LARGEST:
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
    (venv / ".test").touch()  # the Makefile then installs nothing
    return subprocess.run([str(venv / "bin" / "python"), "-c", "import subgrid, torch, numba"]).returncode


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("collect", "install"):
        sys.exit(__doc__)
    sys.exit({"collect": collect, "install": install}[sys.argv[1]](Path(sys.argv[2])))
