"""Cached machine code of kernels: never older than the source of the functions that are inlined into it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from subgrid.solver.backend import arrays as backend

SOLVER = Path(backend.__file__).parents[1]
KERNELS = """
from subgrid.solver.backend import kernel

from .inlined import value


@kernel(error_model="numpy")
def total(n):
    found = 0.0
    for _ in range(n):
        found += value()
    return found
"""
INLINED = """
import numba

from .constants import SIZE


@numba.njit(inline="always")
def value():
    return SIZE * {factor}
"""
PROGRAM = "from package.kernels import total; print(total(2), len(getattr(total, 'stats', ((), {}))[1]))"


def run(folder: Path, program: str = PROGRAM, **environment: str) -> list[str]:
    """Output of a new process, with numba's cache beside the sources."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")} | environment
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert not done.returncode, done.stderr
    return done.stdout.split()


def write(path: Path, text: str, times: tuple[int, int] | None = None) -> None:
    path.write_text(text)
    if times is not None:
        os.utime(path, ns=times)


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    write(folder / "__init__.py", "")
    write(folder / "constants.py", "SIZE = 1.0\n")
    write(folder / "inlined.py", INLINED.format(factor="3.0"))
    write(folder / "kernels.py", KERNELS)
    return folder


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [("inlined.py", INLINED.format(factor="5.0"), "10.0"), ("constants.py", "SIZE = 2.0\n", "12.0")],
)
def test_an_edit_of_an_imported_file_is_seen(file, text, expected, package):
    """Of the inlined function and of a constant that it imports; of the same size and the same time of change."""
    cache = "from package.kernels import total; total(2); print(sum(total.stats.cache_hits.values()))"
    assert run(package.parent)[0] == "6.0"
    assert run(package.parent, cache) == ["1"]
    stat = (package / file).stat()
    write(package / file, text, (stat.st_atime_ns, stat.st_mtime_ns))
    assert (package / file).stat().st_size == stat.st_size
    assert run(package.parent, PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(package / "none"))[0] == expected
    assert run(package.parent, cache, PYTHONPYCACHEPREFIX=str(package / "none")) == ["1"]


def test_kernels_are_plain_functions_without_the_compiler(package):
    assert run(package.parent, NUMBA_DISABLE_JIT="1")[0] == "6.0"
    assert not list(package.rglob("*.nbi"))


def test_a_read_only_installation_caches_elsewhere(package, tmp_path):
    """As numba does: in its own directory, here NUMBA_CACHE_DIR, with nothing written beside the sources."""
    assert run(package.parent, NUMBA_CACHE_DIR=str(tmp_path / "cache"))[0] == "6.0"
    assert list((tmp_path / "cache").rglob("*.nbi")) and not list(package.rglob("*.nbi"))
    stat = (package / "inlined.py").stat()
    write(package / "inlined.py", INLINED.format(factor="7.0"), (stat.st_atime_ns, stat.st_mtime_ns))
    fresh = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPYCACHEPREFIX": str(package / "none")}
    assert run(package.parent, **fresh)[0] == "14.0"


def decorators() -> list[tuple[Path, str, str]]:
    """File, name and decorator of every function of the solver that is compiled, and calls of numba outside of them."""
    found = []
    for path in sorted(SOLVER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found += [(path, node.name, ast.unparse(d)) for d in node.decorator_list]
    return [(path, name, text) for path, name, text in found if "njit" in text or text.startswith("kernel(")]


def test_every_cached_kernel_of_the_solver_is_stamped_with_its_imports():
    """Numba is called directly only for functions that are inlined, and nothing else asks for a cache."""
    compiled = decorators()
    assert len([text for *_, text in compiled if text.startswith("kernel(")]) > 40
    assert {text for *_, text in compiled if not text.startswith("kernel(")} == {"numba.njit(inline='always')"}
    callers = [path.name for path in SOLVER.rglob("*.py") if "cache=True" in path.read_text()]
    assert callers == ["arrays.py"]


def test_the_stamp_covers_the_files_that_kernels_inline():
    from subgrid.solver.equations.burgers import plane
    from subgrid.solver.equations.shallow_water import sweep_kernels

    for kernel, inlined in (
        (plane.rate, SOLVER / "finite_volume" / "reconstruction.py"),
        (sweep_kernels.along_x, SOLVER / "equations" / "shallow_water" / "pointwise_kernels.py"),
    ):
        path = Path(kernel.py_func.__code__.co_filename)
        assert inlined in backend._read_source(path)[1]
        assert kernel._cache._cache_file._source_stamp[1] == backend.source_hash(path)


def test_stamps_of_all_kernels_read_each_file_once(monkeypatch):
    files, read = {path for path, _, text in decorators() if text.startswith("kernel(")}, []
    content = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or content(path))
    backend.source_hash.cache_clear()
    backend._read_source.cache_clear()
    for _ in range(2):
        assert all(backend.source_hash(path) for path in files)
    assert files <= set(read) and len(read) == len(set(read))


def test_without_a_folder_for_the_cache_kernels_are_compiled_for_the_process(package):
    """A read-only installation and no usable home directory: one warning that names NUMBA_CACHE_DIR, and the result."""
    (package / "__pycache__").write_text("a file, where a folder is needed")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    warned = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as found:\n"
        "    warnings.simplefilter('always')\n"
        "    from package.kernels import total\n"
        "    print(total(2), len(found), 'NUMBA_CACHE_DIR' in str(found[0].message))\n"
    )
    assert run(package.parent, warned, **nowhere) == ["6.0", "1", "True"]
    program = "import package.kernels as p; import inspect; print(p.total(3))"
    assert run(package.parent, program, NUMBA_DISABLE_JIT="1", **nowhere) == ["9.0"]


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x04]\x94.", os.urandom(3000)])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_is_compiled_again(content, suffix, package):
    fresh = {"PYTHONPYCACHEPREFIX": str(package / "none")}
    assert run(package.parent, **fresh)[0] == "6.0"
    files = list(package.rglob(f"*.{suffix}"))
    assert files
    for file in files:
        file.write_bytes(content)
    assert run(package.parent, **fresh)[0] == "6.0"
    hits = "from package.kernels import total; total(2); print(sum(total.stats.cache_hits.values()))"
    assert run(package.parent, hits, **fresh) == ["1"]


def test_a_cache_that_cannot_be_written_costs_a_warning(package):
    """The limit on the size of files stands for a full disk."""
    program = (
        "import resource, warnings\n"
        "from package.kernels import total\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with warnings.catch_warnings(record=True) as found:\n"
        "    warnings.simplefilter('always')\n"
        "    print(total(2), sum('NUMBA_CACHE_DIR' in str(w.message) for w in found))\n"
    )
    assert run(package.parent, program) == ["6.0", "1"]
