"""`import subgrid`: what it provides, and what it loads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import subgrid
from subgrid.solver.case import CaseError
from subgrid.solver.closure.discovery import CLOSURES
from subgrid.solver.simulation.record import RunFolderError

DEMO = Path(__file__).parent.parent / "cases" / "kolmogorov-demo.toml"
QUICK = {
    "time.end": 0.4,
    "ensemble.members": 2,
    "reference.trajectories": 2,
    "reference.shape": [96, 96],
    "reference.initial": {"kind": "gaussian-random-field", "exponent": 3.0, "tau": 4.0, "scale": 30.0},
    "compare.frontier": False,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


class Damping(subgrid.Closure):
    """du/dt += -rate u."""

    rate: float = 1.0

    def start(self, problem):
        return {}

    def __call__(self, view, memory):
        return subgrid.Tendency(-self.rate * view.state), memory


def flow():
    """A small case without a reference, as a dict."""
    return {
        "title": "decaying flow",
        "equation": {"name": "kolmogorov", "viscosity": 0.01},
        "grid": {"shape": [16, 16], "length": [6.0, 6.0]},
        "time": {"end": 0.2, "step": 0.05, "stepper": "etdrk2"},
        "initial": {"kind": "gaussian-random-field", "exponent": 3.0, "tau": 2.0},
        "ensemble": {"members": 2},
        "output": {"every": 0.1},
    }


def test_the_lines_of_the_readme(tmp_path):
    """Read, run, compare with a name and an instance, and the four results of a comparison."""
    my_closure = Damping(rate=0.1)
    case = subgrid.read_case(DEMO, QUICK)
    ds = subgrid.run(case, progress=False)
    assert isinstance(ds, xr.Dataset)
    assert ds.vorticity.dims == ("time", "member", "y", "x") and ds.vorticity.attrs["units"] == "1/time"
    assert {"energy", "enstrophy"} <= set(ds.data_vars) and np.isfinite(ds.energy).all()
    assert not [p for p in tmp_path.iterdir() if p.name != "cache"], "a run without out= writes nothing"
    result = subgrid.compare(case, closures=["smagorinsky", my_closure], progress=False)
    assert list(result.table.index)[:3] == ["none", "smagorinsky", "Damping"]
    assert "relative_l2" in result.dataset
    assert result.figure("error").axes
    page = result.report(tmp_path / "report.html")
    assert "smagorinsky" in page.read_text() and "<html" in page.read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"cache", "report.html"}


def test_a_run_in_memory_equals_one_on_disk(tmp_path):
    case = subgrid.read_case(flow())
    inside = subgrid.run(case, progress=False)
    outside = subgrid.run(case, out=tmp_path / "run", progress=False)
    xr.testing.assert_equal(inside.load(), outside.load())
    assert json.loads(inside.attrs["summary"])["steps"] == 4
    with pytest.raises(RunFolderError, match="not empty"):
        subgrid.run(case, out=tmp_path / "run", progress=False)


def test_resume_returns_all_outputs_and_invariants(tmp_path):
    """The outputs before the checkpoint, and their scalars, are read from disk."""
    case = subgrid.read_case(flow())
    whole = subgrid.run(case, out=tmp_path / "run", progress=False).load()
    again = subgrid.resume(tmp_path / "run", progress=False).load()
    xr.testing.assert_equal(whole.drop_attrs(), again.drop_attrs())


def test_closures_of_a_run_are_names_instances_and_sums():
    case = subgrid.read_case(flow())
    plain = subgrid.run(case, progress=False).vorticity
    damped = subgrid.run(case, closures=[Damping(rate=2.0)], progress=False).vorticity
    summed = subgrid.run(case, closures=[0.5 * Damping(rate=1.0) + 1.5 * Damping(rate=1.0)], progress=False).vorticity
    assert float(abs(damped[-1]).mean()) < 0.8 * float(abs(plain[-1]).mean())
    np.testing.assert_allclose(summed, damped, rtol=1e-12, atol=1e-14)
    named = subgrid.run(case, closures=[{"name": "smagorinsky", "every": 2}], progress=False)
    assert json.loads(named.attrs["summary"])["closures"][0]["calls"] == 2


def test_a_run_of_instances_is_resumed_or_refused_by_name(tmp_path):
    """An installed class and its options are written to the folder; a class of a script cannot be made again."""
    case = subgrid.read_case(flow())
    strong = subgrid.Coupled("smagorinsky", CLOSURES["smagorinsky"](coefficient=0.4), every=2)
    whole = subgrid.run(case, closures=[strong], out=tmp_path / "named", progress=False).load()
    (tmp_path / "named" / "checkpoint" / "state.npz").unlink()
    again = subgrid.resume(tmp_path / "named", progress=False).load()
    xr.testing.assert_equal(whole.drop_attrs(), again.drop_attrs())
    subgrid.run(case, closures=[subgrid.Coupled("smagorinsky", Damping())], out=tmp_path / "own", progress=False)
    with pytest.raises(CaseError, match=r"no closure is named 'smagorinsky \(an instance\)'"):
        subgrid.resume(tmp_path / "own", progress=False)


def test_read_case_takes_a_dict_and_leaves_it_alone():
    data = flow()
    case = subgrid.read_case(data, {"time.end": 0.3, "equation.viscosity": 0.02})
    assert case.time.end == 0.3 and case.build_equation().viscosity == 0.02
    assert data == flow()
    with pytest.raises(CaseError, match=r"time\.stepper: 'etdrk3' is not known; did you mean 'etdrk4'"):
        subgrid.read_case(flow(), {"time.stepper": "etdrk3"})
    with pytest.raises(CaseError, match=r"time\.stepper: 'RK4' is not known; did you mean 'rk4'"):
        subgrid.read_case(flow(), {"time.stepper": "RK4"})
    with pytest.raises(CaseError, match=r"equation\.BETA: unknown key; did you mean 'beta'"):
        subgrid.read_case(flow(), {"equation.BETA": 1.0})
    with pytest.raises(CaseError, match=r"grid\.shape: expected a list, found 64"):
        subgrid.read_case(flow(), {"grid.shape": 64})


def test_notebooks_show_cases_runs_and_comparisons():
    case = subgrid.read_case(flow())
    assert "<table" in case._repr_html_() and "etdrk2" in case._repr_html_()
    assert "vorticity" in subgrid.run(case, progress=False)._repr_html_()
    assert "<script>" not in subgrid.read_case(flow() | {"title": "<script>"})._repr_html_()


def test_every_public_name_exists():
    for name in subgrid.__all__:
        assert getattr(subgrid, name) is not None
    assert set(dir(subgrid)) == set(subgrid.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        subgrid.nothing  # noqa: B018


HEAVY = ("numpy", "scipy", "numba", "torch", "xarray", "zarr", "matplotlib", "pandas", "pydantic")


def loaded(code: str) -> set[str]:
    """The heavy libraries that a new Python process has loaded after the code."""
    code += f"\nimport sys; print('LOADED', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_import_subgrid_loads_no_library():
    assert loaded("import subgrid; subgrid.__version__") == set()


@pytest.mark.parametrize("arguments", [["list"], ["check", str(DEMO)]])
def test_check_and_list_load_neither_torch_nor_xarray(arguments):
    code = f"from subgrid.commands.cli import execute; assert execute({arguments!r}) == 0"
    assert not loaded(code) & {"torch", "xarray", "zarr", "matplotlib", "pandas"}


@pytest.mark.parametrize("verb", [subgrid.run, subgrid.compare, lambda case: subgrid.train(case, "regression")])
@pytest.mark.parametrize("found", ["kolmogorov-demo", None, {"title": "a"}])
def test_what_is_no_case_is_refused_with_the_remedy(verb, found):
    with pytest.raises(TypeError, match=r"expected a case, found .*Remedy: subgrid\.read_case"):
        verb(found)


def test_overrides_that_are_no_mapping_are_refused():
    with pytest.raises(TypeError, match="overrides: expected a mapping"):
        subgrid.read_case(DEMO, "time.end=2.0")


@pytest.mark.parametrize("verb", [subgrid.run, subgrid.compare])
def test_weights_that_do_not_exist_are_refused_before_anything_is_computed(verb, tmp_path, monkeypatch):
    """With the shipped weights of the method alone; whatever the reference would cost."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    row = {"name": "regression", "weights": "absent.safetensors"}
    case = subgrid.read_case(DEMO, {"closure": [row], "compare.closures": ["smagorinsky", row]})
    with pytest.raises(ValueError, match=r"no weights 'absent.safetensors'.*kolmogorov-les-regression") as raised:
        verb(case, out=tmp_path / "out", progress=False)
    assert "lasdi" not in str(raised.value) and str(raised.value).count("no weights") == 1
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()
