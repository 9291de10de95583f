"""Scalars of a run: budgets that close at the order of the scheme, units, user diagnostics, and restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from subgrid.commands.run import run
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.plugin_errors import PluginError
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.diagnostics import Diagnostics, over_time

FLOW: dict[str, Any] = {
    "title": "forced flow",
    "equation": {
        "name": "kolmogorov",
        "viscosity": 0.02,
        "drag": 0.1,
        "forcing": {"kind": "sine", "amplitude": 2.0, "wavenumber": 2},
    },
    "grid": {"shape": [24, 24], "length": [6.283185307179586, 6.283185307179586]},
    "time": {"end": 0.8, "step": 0.04, "stepper": "etdrk4"},
    "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0, "scale": 15.0},
    "ensemble": {"members": 2, "seed": 3},
    "output": {"every": 0.04},
}
WAVE: dict[str, Any] = {
    "title": "steepening wave",
    "equation": {"name": "burgers", "viscosity": 0.05},
    "grid": {"shape": [64], "length": [1.0]},
    "time": {"end": 0.16, "step": 0.008, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "output": {"every": 0.008},
}
CLOSURES = """
import numpy as np
from subgrid import Closure, Correction, Tendency

class Held(Closure):
    '''A steady source from the first state.'''
    def start(self, problem):
        return {}
    def __call__(self, view, memory):
        return Tendency(-0.7 * view.state + 0.3 * view.state**2), memory

class Replacing(Closure):
    '''Scales the state by 0.99 at each call.'''
    def start(self, problem):
        return {}
    def __call__(self, view, memory):
        return Correction(0.99 * view.state), memory
"""


LINEAR = {"name": "hyperviscosity", "linear": True, "order": 1, "rate": 1.0}
HELD = {"path": "closures.py:Held", "every": 100000}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("closures.py").write_text(CLOSURES, encoding="utf-8")
    return tmp_path


def residual(found: xr.Dataset, name: str) -> float:
    """The change of a quantity less the integral of its contributions by Simpson's rule, relative to the change.

    From the second output on, as the contributions of closures are those of the step before an output.
    """
    from scipy.integrate import simpson

    parts = [found[v].values for v in found if str(v).startswith(f"{name}_by_")]
    assert len(parts) >= 2 or name == "energy"
    total, values = np.sum(parts, axis=0)[1:], found[name].values[1:]
    change = values[-1] - values[0]
    inside = simpson(total, x=found["time"].values[1:], axis=0)
    return float(np.abs(change - inside).max() / np.abs(parts)[:, 1:].max())


def residuals(case: dict[str, Any], name: str, halvings: int = 3) -> list[float]:
    """The residuals at the step of a case, at half of it, and so on; each run has an even number of intervals."""
    found = []
    for i in range(halvings):
        h = case["time"]["step"] / 2**i
        steps = round(case["time"]["end"] / case["time"]["step"]) * 2**i
        time = case["time"] | {"step": h, "end": h * (steps + 1)}
        found.append(residual(run(read_case(case | {"time": time, "output": {"every": h}}), progress=False), name))
    return found


@pytest.mark.parametrize("quantity", ["energy", "enstrophy"])
@pytest.mark.parametrize("closures", [[], [HELD], [LINEAR]])
def test_the_budget_of_a_forced_flow_closes_at_fourth_order(quantity, closures, place):
    """Forcing, drag and viscosity; with a tendency held for the whole run, or a closure in the linear operator."""
    first, *_, last = found = residuals(FLOW | {"closure": closures}, quantity)
    assert last < 1e-4 and first / last > 0.5 * 2 ** (4 * (len(found) - 1)), found


def test_the_budget_with_a_tendency_of_every_step_closes_at_the_order_of_its_hold(place):
    """A tendency that is frozen over a step is of first order."""
    time = FLOW["time"] | {"step": 0.01}
    first, *_, last = found = residuals(FLOW | {"closure": [{"name": "smagorinsky"}], "time": time}, "enstrophy")
    assert last < 2e-3 and 2.5 < first / last < 6, found


@pytest.mark.parametrize("discretisation", ["fourier", "finite-volume"])
def test_the_budget_of_burgers_closes_at_fourth_order(discretisation, place):
    """The numerical dissipation of a finite-volume flux is the contribution of advection."""
    equation = WAVE["equation"] | {"discretisation": discretisation, "reconstruction": "weno5"}
    time = WAVE["time"] | {"step": 0.0005, "end": 0.01, "stepper": "rk4" if discretisation == "fourier" else "ssp-rk3"}
    case = WAVE | {"equation": equation, "closure": [HELD], "time": time}
    first, *_, last = found = residuals(case, "energy")
    order = 4 if discretisation == "fourier" else 3
    assert last < 1e-6 and (first / last > 0.5 * 2 ** (order * (len(found) - 1)) or first < 1e-11), found


@pytest.mark.parametrize(
    ("case", "equation", "stepper"),
    [
        (FLOW, {"beta": 3.0, "hyperviscosity": 1e-4, "hyperviscosity_order": 2}, "etdrk4"),
        (FLOW, {"forcing": {"kind": "expression", "value": "2*cos(2*y)/t"}}, "etdrk4"),
        (WAVE, {"forcing": {"kind": "expression", "value": "cos(2*pi*x)/t"}, "hyperviscosity": 1e-6}, "etdrk4"),
        (
            WAVE,
            {
                "forcing": {"kind": "expression", "value": "cos(2*pi*x)/t"},
                "viscosity_profile": "1+x*x",
                "discretisation": "finite-volume",
            },
            "ssp-rk3",
        ),
    ],
)
def test_the_budget_closes_with_every_term(case, equation, stepper, place):
    """The forcings are not finite at t = 0, before the run."""
    time = {"start": 1.0, "step": 0.001, "end": 1.03, "stepper": stepper}
    case = case | {"equation": case["equation"] | equation, "time": time, "output": {"every": 0.001}}
    assert residual(run(read_case(case), progress=False), "energy") < 1e-5


def test_the_work_of_a_closure_on_water_changes_the_energy(place):
    """Over a short time from rest the energy changes by the work of the tendency alone."""
    case = {
        "title": "water",
        "equation": {"name": "shallow-water", "gravity": 9.81},
        "grid": {"shape": [8, 12], "length": [2.0, 3.0]},
        "time": {"end": 1e-4, "step": 1e-5, "stepper": "ssp-rk3"},
        "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.01, "tau": 3.0},
        "output": {"every": 1e-5},
        "closure": [HELD],
    }
    found = run(read_case(case), progress=False)
    rate = float(found["energy"].differentiate("time")[5, 0])
    np.testing.assert_allclose(found["energy_by_Held"][5, 0], rate, rtol=1e-3)


@pytest.mark.parametrize(
    ("term", "options"),
    [
        ("friction", {"linear_friction": 0.3, "manning": 0.05}),
        ("rain", {"rain": "0.2 + 0.1*sin(2*pi*x)*cos(5*t)"}),
        ("forcing", {"forcing": {"kind": "expression", "fields": {"momentum_x": "(1 + sin(2*pi*x))*cos(5*t)"}}}),
    ],
)
def test_the_budget_of_water_has_its_sources(term, options):
    """What a source changes of the rate of the energy, by runs of two steps with it and without it."""
    grid, h, rates, found = Grid((16, 16), (1.0, 1.0)), 1e-4, [], []
    y, x = np.meshgrid(*grid.coordinates(centres=True), indexing="ij")
    wave = 0.1 * np.sin(2 * np.pi * (x + y))
    state = np.stack([1 + wave, 0.3 + wave, wave])[None]
    for omit in ((), (term,)):
        equation = ShallowWater(gravity=1.0, omit=omit, **options)
        simulation = Simulation(equation, grid, "ssp-rk3", h, state, start=0.2)
        simulation.diagnostics = Diagnostics(simulation)
        measured = [simulation.diagnostics.measure()]
        for _ in range(2):
            simulation.advance(1)
            measured.append(simulation.diagnostics.measure())
        rates.append((measured[2]["energy"] - measured[0]["energy"]) / (2 * h))
        found.append({k: v[0] for k, v in measured[1].items() if "_by_" in k})
    assert list(found[0]) == [f"energy_by_{term}"] and not found[1]
    np.testing.assert_allclose(found[0][f"energy_by_{term}"], (rates[0] - rates[1])[0], rtol=2e-3)


def test_the_mean_injection_by_noise_is_that_of_many_members(place):
    noise = {"kind": "q-wiener", "amplitude": 0.3, "correlation": 1e-3}
    case = WAVE | {
        "equation": {"name": "burgers", "viscosity": 0.0, "omit": ["advection", "diffusion"], "noise": noise},
        "time": {"end": 0.1, "step": 0.01, "stepper": "rk4"},
        "initial": {"kind": "sine"},
        "ensemble": {"members": 2000},
        "output": {"every": 0.1},
    }
    found = run(read_case(case), progress=False)
    gained = (found["energy"][-1] - found["energy"][0]) / 0.1
    expected = float(found["energy_by_noise"][-1, 0])
    assert abs(gained.mean() - expected) < 4 * gained.std() / np.sqrt(2000)
    assert gained.std() / np.sqrt(2000) < 0.05 * expected


def test_a_closure_that_replaces_states_contributes_their_change_and_a_restart_keeps_it(place):
    closures = [{"path": "closures.py:Replacing", "every": 3}]
    output = {"every": 0.04, "checkpoint_every": 0.04, "frames_per_chunk": 4}
    found = run(read_case(FLOW | {"closure": closures, "output": output}), progress=False)
    rate = found["energy_by_Replacing"].values
    assert np.isnan(rate[0]).all() and np.isfinite(rate[1:]).all()
    np.testing.assert_allclose(rate[1], found["energy"][0] * (0.99**2 - 1) / 0.12, rtol=1e-12)
    np.testing.assert_array_equal(rate[1], rate[3])


def test_the_scalars_have_units_and_open_without_a_warning(place):
    import warnings

    run(read_case(FLOW), out="run", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        stored = xr.open_zarr("run/fields.zarr")
    assert stored.attrs["Conventions"].startswith("CF-")
    assert stored["time"].attrs == {"units": "time", "long_name": "time", "axis": "T"}
    assert stored["x"].attrs["axis"] == "X" and stored["x"].attrs["units"] == "length"
    units = {name: stored[name].attrs["units"] for name in ("energy", "palinstrophy", "energy_by_forcing")}
    expected = {
        "energy": "length^2/time^2",
        "palinstrophy": "1/(length^2 time^2)",
        "energy_by_forcing": "length^2/time^3",
    }
    assert units == expected
    assert all(stored[v].attrs["long_name"] and stored[v].attrs["units"] for v in stored)
    np.testing.assert_allclose(stored["dissipation"], -stored["energy_by_diffusion"], rtol=1e-12)
    np.testing.assert_allclose(stored["dissipation"], 2 * 0.02 * stored["enstrophy"], rtol=1e-12)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("1", "1/time"),
        ("length", "length/time"),
        ("length/time", "length/time^2"),
        ("1/(length^2 time^2)", "1/(length^2 time^3)"),
    ],
)
def test_the_unit_of_a_rate(unit, expected):
    assert over_time(unit) == expected


OWN = """
import numpy as np
from subgrid import Diagnostic, Quantity

class Extremes(Diagnostic):
    level: float = 1.0
    bad: str = ""

    def quantities(self, equation, grid):
        names = {"taken": "energy", "name": "no name", "axis": "time", "other": "wavenumber"}
        return {names.get(self.bad, "above"): Quantity("1", "fraction of the domain above a level")}

    def values(self, equation, grid, state, time):
        if self.bad == "raises":
            raise RuntimeError("no value")
        if self.bad == "changes":
            state[...] = 0
        above = (state[:, 0] > self.level).mean(axis=(1, 2))
        return {"above": above[:1] if self.bad == "shape" else above}
"""


def test_a_case_has_diagnostics_of_its_own(place):
    Path("own.py").write_text(OWN, encoding="utf-8")
    table = {"path": "own.py:Extremes", "level": 2.0}
    found = run(read_case(FLOW | {"output": FLOW["output"] | {"diagnostics": [table]}}), out="run", progress=False)
    expected = (found["vorticity"] > 2.0).mean(["y", "x"])
    np.testing.assert_allclose(found["above"], expected, rtol=1e-12)
    assert found["above"].attrs == {"units": "1", "long_name": "fraction of the domain above a level"}


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("taken", ValueError, "energy, a name that is taken. Remedy"),
        ("axis", ValueError, "time, a name that is taken. Remedy"),
        ("other", ValueError, "wavenumber, a name that is taken. Remedy"),
        ("name", PluginError, "expected a dict from names"),
        ("shape", PluginError, r"expected real numbers with shape \(member,\) = \(2,\)"),
        ("changes", PluginError, "changed the state. Remedy"),
        ("raises", PluginError, "RuntimeError: no value"),
    ],
)
def test_a_wrong_diagnostic_is_refused_by_name(bad, error, message, place):
    Path("own.py").write_text(OWN, encoding="utf-8")
    table = {"path": "own.py:Extremes", "bad": bad}
    with pytest.raises(error, match=message):
        run(read_case(FLOW | {"output": FLOW["output"] | {"diagnostics": [table]}}), progress=False)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"path": "missing.py:Name"}, r"output.diagnostics.0.*there is no file"),
        ({"kind": "none-such"}, r"output.diagnostics.0.*is not known"),
        ({"path": "own.py:Extremes", "lvel": 1.0}, r"output.diagnostics.0.*lvel.*did you mean 'level'"),
    ],
)
def test_a_mistake_in_a_diagnostic_is_one_of_the_case(table, message, place):
    Path("own.py").write_text(OWN, encoding="utf-8")
    with pytest.raises(CaseError, match=message):
        read_case(FLOW | {"output": FLOW["output"] | {"diagnostics": [table]}})
