"""Vlasov-Poisson with an external field and a source: their order in time, work, kernels and refusals."""

import array_api_compat.torch
import array_api_strict
import numpy as np
import pytest

from subgrid.commands.run import run
from subgrid.solver.backend import select
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations.vlasov_poisson.equation import VlasovPoisson
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.spectral import Operators

FIELD = {"kind": "expression", "value": "0.5*cos(3*t)*cos(x)"}
SOURCE = {"kind": "expression", "value": "0.2*sin(2*t)*exp(-v**2)*(1 + 0.5*sin(x))"}
GRID = Grid((64, 32), (12.0, 2 * np.pi), (-6.0, 0.0))


def maxwellian(grid):
    v, x = np.meshgrid(*grid.coordinates(centres=True), indexing="ij")
    return (np.exp(-0.5 * v**2) / np.sqrt(2 * np.pi) * (1 + 0.1 * np.cos(x)))[None, None]


@pytest.mark.parametrize("omit", [(), ("field",), ("external_field",), ("forcing",), ("streaming",)])
@pytest.mark.parametrize("field", [FIELD, {"kind": "expression", "value": "sin(x)"}])
def test_kernels_equal_array_code(omit, field):
    """Rates and both flows at the time given, on NumPy, array-api-strict and torch."""
    equation, shape = VlasovPoisson(external_field=field, forcing=SOURCE, omit=omit), (16, 12)
    grid = Grid(shape, (8.0, 3.0), (-3.0, 1.0))
    u = np.random.default_rng(0).random((2, 1, *shape))
    rhs, rate = equation.right_hand_side(grid, 2), np.zeros((2, *shape))
    rhs(u[:, 0].copy(), 0.7, rate)
    for xp in (np, array_api_strict, array_api_compat.torch):
        operators = Operators(grid, xp)
        code = np.asarray(equation.nonlinear(operators, xp.asarray(u), 0.7))[:, 0]
        np.testing.assert_allclose(code, rate, rtol=0, atol=1e-14 * max(1, np.abs(rate).max()))
        for part in equation.split:
            moved = u[:, 0].copy()
            rhs.flow(part, moved, 0.07, 0.7)
            code = np.asarray(equation.forced_flow(part, operators, xp.asarray(u), 0.07, 0.7))[:, 0]
            np.testing.assert_allclose(code, moved, rtol=0, atol=2e-14)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(("stepper", "order"), [("rk4", 4), ("strang", 2), ("velocity-verlet", 2), ("forest-ruth", 4)])
def test_a_force_and_a_source_that_depend_on_time_keep_the_order_of_every_stepper(stepper, order, backend):
    """Against short steps of the same scheme in space. A wrong time would give first order.

    rk4 reaches the changes of the weights and of the upwind side of its fluxes, kinks of 1e-7, before its order shows;
    with the force at a wrong time its error is 1e-3.
    """
    equation, state = VlasovPoisson(external_field=FIELD, forcing=SOURCE), maxwellian(GRID)

    def final(count):
        made = Simulation(equation, GRID, stepper, 1.0 / count, state, backend=select(backend))
        made.advance(count)
        return made.state

    few = (64, 128) if stepper == "rk4" else (5, 10)
    exact = final(4 * few[1])
    errors = [np.abs(final(n) - exact).max() for n in few]
    if stepper == "rk4":
        assert max(errors) < 3e-7
    else:
        assert np.log2(errors[0] / errors[1]) > order - 0.4, errors


def test_a_uniform_field_accelerates_all_particles():
    """f(v - integral of E dt), with streaming that has no effect on a state that is uniform in x."""
    equation = VlasovPoisson(external_field={"kind": "expression", "value": "cos(t)"})
    v = GRID.coordinates(centres=True)[0][:, None]
    state = np.exp(-0.5 * v**2) * np.ones((1, 1, *GRID.shape))
    made = Simulation(equation, GRID, "strang", 0.01, state)
    made.advance(100)
    np.testing.assert_allclose(made.state, np.exp(-0.5 * (v - np.sin(1.0)) ** 2) * np.ones(state.shape), atol=2e-5)


CASE = {
    "title": "driven",
    "equation": {"name": "vlasov-poisson", "external_field": FIELD, "forcing": SOURCE},
    "grid": {"shape": [128, 32], "length": [16.0, 6.283185307179586], "origin": [-8.0, 0.0]},
    "time": {"end": 1.0, "step": 0.01, "stepper": "strang"},
    "initial": {"kind": "landau", "amplitude": 0.1},
    "output": {"every": 0.01},
}


def test_the_energy_changes_by_the_work_of_the_field_and_of_the_source():
    """d/dt energy = energy_by_external_field + energy_by_forcing, and the former is the work on the current."""
    found = run(read_case(CASE), progress=False)
    gained = (found["energy"][-1] - found["energy"][0]).item()
    parts = [np.trapezoid(found[f"energy_by_{name}"][:, 0], dx=0.01) for name in ("external_field", "forcing")]
    assert min(abs(part) for part in parts) > 0.02
    assert gained == pytest.approx(sum(parts), rel=1e-3)
    x, v = found["x"].values, found["v"].values
    for i in (30, 100):
        current = (v[:, None] * found["distribution"][i, 0].values).sum(axis=0) * (v[1] - v[0])
        work = (current * 0.5 * np.cos(3 * found["time"].values[i]) * np.cos(x)).sum() * (x[1] - x[0])
        assert found["energy_by_external_field"][i, 0].item() == pytest.approx(work, rel=1e-3)


@pytest.mark.parametrize("stepper", ["rk4", "strang"])
def test_single_precision_and_restarts(stepper, tmp_path):
    found = []
    for precision in ("float64", "float32"):
        made = Simulation(
            VlasovPoisson(external_field=FIELD, forcing=SOURCE), GRID, stepper, 0.01, maxwellian(GRID),
            backend=select("numpy", precision),
        )  # fmt: skip
        made.advance(20)
        saved = {k: v.copy() for k, v in made.checkpoint().items()}
        made.advance(20)
        again = Simulation(
            VlasovPoisson(external_field=FIELD, forcing=SOURCE), GRID, stepper, 0.01, maxwellian(GRID),
            backend=select("numpy", precision),
        )  # fmt: skip
        again.restore(saved)
        again.advance(20)
        np.testing.assert_array_equal(again.state, made.state)
        found.append(np.asarray(made.state, dtype=np.float64))
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=3e-6)


def test_a_field_from_a_file_is_that_of_the_formula(tmp_path):
    x = GRID.coordinates(centres=True)[1]
    np.savez(tmp_path / "field.npz", forcing=np.sin(x))
    states = []
    for given in ({"kind": "file", "path": tmp_path / "field.npz"}, {"kind": "expression", "value": "sin(x)"}):
        made = Simulation(VlasovPoisson(external_field=given), GRID, "rk4", 0.005, maxwellian(GRID))
        made.advance(10)
        states.append(made.state)
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize(
    ("equation", "time", "message"),
    [
        ({"external_field": {"kind": "expression", "value": "v"}}, {}, "'v' is not known. Remedy"),
        ({"external_field": {"kind": "expression", "value": "1/(x - x)"}}, {}, "external_field: .*not finite.*Remedy"),
        (
            {"external_field": {"kind": "file", "path": "none.npz"}},
            {},
            r"equation.external_field: there is no file .*Remedy",
        ),
        ({}, {"step": None, "cfl": 0.5, "stepper": "rk4"}, "time.cfl: an external field that depends on .*Remedy"),
    ],
)
def test_what_makes_no_sense_is_refused(equation, time, message):
    time = {k: v for k, v in (CASE["time"] | time).items() if v is not None}
    with pytest.raises(CaseError, match=message):
        read_case(CASE | {"equation": CASE["equation"] | equation, "time": time})
