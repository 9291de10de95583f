"""Forcings by formula, file and plug-in, steady or not; beta-plane, hyperviscosity, and the stage times of steppers."""

import array_api_compat.torch
import numpy as np
import pytest

from subgrid.commands.run import run
from subgrid.solver.backend import NUMPY, Backend, select
from subgrid.solver.case.reading import CaseError, read_case
from subgrid.solver.equations import ShallowWater
from subgrid.solver.equations.advection import LinearAdvection
from subgrid.solver.equations.burgers.line import Burgers
from subgrid.solver.equations.burgers.plane import Burgers2D
from subgrid.solver.equations.forcing import Forcing, FormulaForcing
from subgrid.solver.equations.kolmogorov.equation import Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import Simulation
from subgrid.solver.simulation.ensemble import BlowUp
from subgrid.solver.spectral import Operators, Transforms
from subgrid.solver.time_stepping.schemes import STEPPERS, OneStep, Split, needs_linear

LINE, PLANE = Grid((32,), (2 * np.pi,)), Grid((16, 16), (2 * np.pi, 2 * np.pi))
VALUE = {"kind": "expression", "value": "cos(2*t)*sin(x)"}
EQUATIONS = {
    "advection": (LinearAdvection(speed=0.5, forcing=VALUE), LINE),
    "advection, cells": (LinearAdvection(speed=0.5, discretisation="finite-volume", forcing=VALUE), LINE),
    "burgers": (Burgers(viscosity=0.1, forcing=VALUE), LINE),
    "burgers, cells": (Burgers(viscosity=0.1, discretisation="finite-volume", forcing=VALUE), LINE),
    "burgers-2d": (
        Burgers2D(viscosity=0.1, forcing={"kind": "expression", "fields": {"v": "t*cos(x + y)", "u": "sin(y)"}}), PLANE,
    ),
    "kolmogorov": (
        Kolmogorov(viscosity=0.1, forcing={"kind": "expression", "value": "cos(2*t)*sin(x)*cos(y)"}), PLANE,
    ),
    "shallow-water": (
        ShallowWater(forcing={"kind": "expression", "fields": {"momentum_x": "0.3*sin(t + 1)*cos(y)"}}), PLANE,
    ),
}  # fmt: skip


def smooth(equation, grid):
    state = np.zeros((2, len(equation.fields), *grid.shape))
    state += 0.1 * np.cos(grid.coordinates(centres=not equation.spectral)[-1])
    if equation.name == "shallow-water":
        state[:, 0] += 1.0
    return state


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_forcing_is_what_it_adds_to_the_rates(name):
    """Kernels and array code on NumPy and torch, with the formula at the time given: means over cells for cells."""
    equation, grid = EQUATIONS[name]
    plain, t = equation.model_copy(update={"forcing": None}), 0.7
    state = smooth(equation, grid)
    u = Transforms(grid).to_spectrum(state) if equation.spectral else state
    batch = u.reshape(len(u) * u.shape[1], -1, u.shape[-1])
    rates = []
    for model in (equation, plain):
        rates.append(np.zeros_like(batch))
        model.right_hand_side(grid, 2)(batch.copy(), t, rates[-1])
    added = (rates[0] - rates[1]).reshape(u.shape)
    if equation.spectral:
        added = Transforms(grid).to_physical(added)
    axes = grid.coordinates(centres=not equation.spectral)
    y, x = np.meshgrid(*axes, indexing="ij") if len(axes) == 2 else (None, axes[0])
    mean = 1.0 if equation.spectral else np.sinc(grid.spacing[-1] / (2 * np.pi))  # of a wave over a cell
    expected = {
        "burgers-2d": lambda: np.stack([np.sin(y) * mean, t * np.cos(x + y) * mean**2]),
        "kolmogorov": lambda: np.cos(2 * t) * np.sin(x) * np.cos(y) + np.zeros((1, 1, 1)),
        "shallow-water": lambda: np.stack([0 * y, 0.3 * np.sin(t + 1) * np.cos(y) * mean, 0 * y]),
    }.get(name, lambda: np.cos(2 * t) * np.sin(x)[None] * mean)()
    np.testing.assert_allclose(added, np.broadcast_to(expected, added.shape), rtol=0, atol=1e-12)
    for xp in (np, array_api_compat.torch):
        code = np.asarray(equation.nonlinear(Operators(grid, xp), xp.asarray(u), t))
        np.testing.assert_allclose(code.reshape(batch.shape), rates[0], rtol=0, atol=1e-13)
    assert not equation.autonomous and plain.autonomous


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_single_precision_and_backends(name, backend):
    equation, grid = EQUATIONS[name]
    stepper, found = "etdrk4" if equation.spectral else "ssp-rk3", []
    for precision in ("float64", "float32"):
        made = Simulation(equation, grid, stepper, 0.01, smooth(equation, grid), backend=select(backend, precision))
        made.advance(20)
        found.append(np.asarray(made.state, dtype=np.float64))
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=3e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("stepper", [n for n, s in STEPPERS.available() if not isinstance(s, Split)])
def test_every_stepper_evaluates_the_forcing_at_the_times_of_its_stages(stepper, backend):
    """u_t + c u_x = cos(2 t) sin(x), whose solution is known, at the order of the stepper; a wrong time gives first."""
    equation, scheme, errors = EQUATIONS["advection"][0], STEPPERS[stepper], []
    x, c, end = LINE.coordinates()[0], 0.5, 1.0
    # u_hat' = -i c u_hat + cos(2 t) / (2 i): solved by variation of constants
    a = np.array([1j * (2 + c), 1j * (c - 2)])
    mode = np.exp(-1j * c * end) * (np.expm1(a * end) / a).sum() / (4j)
    exact = 2 * np.real(mode * np.exp(1j * x))
    steps = (20, 40) if scheme.order > 2 else (80, 160)
    for n in steps:
        made = Simulation(equation, LINE, stepper, end / n, np.zeros((1, 1, 32)), backend=select(backend))
        made.advance(n)
        errors.append(np.abs(made.state[0, 0] - exact).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.3)
    assert isinstance(scheme, OneStep) or needs_linear(scheme)


def test_a_plug_in_that_depends_on_time():
    class Ramp(Forcing):
        @property
        def steady(self):
            return False

        def field(self, grid):
            return np.zeros(grid.shape)

        def at(self, equation, grid, t):
            return np.full(grid.shape, 2 * t)

    made = Simulation(Burgers(viscosity=0.0, forcing=Ramp()), LINE, "rk4", 0.1, np.zeros((1, 1, 32)))
    made.advance(10)
    np.testing.assert_allclose(made.state, 1.0, rtol=1e-13)


def test_files_are_interpolated_in_time(tmp_path):
    np.savez(tmp_path / "f.npz", forcing=np.arange(3.0)[:, None] * np.ones(32), time=[0.0, 1.0, 2.0])
    np.savez(tmp_path / "steady.npz", forcing=np.ones((1, 32)))
    for name, expected in (("f.npz", 0.5 * 1.5**2), ("steady.npz", 1.5)):
        equation = Burgers(viscosity=0.0, forcing={"kind": "file", "path": tmp_path / name})
        made = Simulation(equation, LINE, "rk4", 0.1, np.zeros((1, 1, 32)))
        made.advance(15)
        np.testing.assert_allclose(made.state, expected, rtol=1e-13)
    late = Simulation(
        Burgers(viscosity=0.0, forcing={"kind": "file", "path": tmp_path / "f.npz"}), LINE, "rk4", 0.1,
        np.zeros((1, 1, 32)), start=1.5,
    )  # fmt: skip
    with pytest.raises(BlowUp, match=r"covers t = 0 to 2, the run needs 2\..*Remedy: a file for all times of the run"):
        late.advance(10)


def test_rossby_waves_move_at_their_phase_speed_exactly():
    """w = cos(k_x x + k_y y + beta k_x t / k^2), with any step of an exponential stepper; also kernels and torch."""
    y, x = np.meshgrid(*PLANE.coordinates(), indexing="ij")
    equation = Kolmogorov(viscosity=0.0, beta=3.0)
    for backend in ("numpy", "torch"):
        made = Simulation(equation, PLANE, "etdrk4", 0.5, np.cos(2 * x + y)[None, None], backend=select(backend))
        made.advance(4)
        np.testing.assert_allclose(made.state[0, 0], np.cos(2 * x + y + 3.0 * 2 / 5 * 2.0), rtol=0, atol=1e-12)
    still = Simulation(
        equation.model_copy(update={"omit": ("beta",)}), PLANE, "etdrk4", 0.5, np.cos(2 * x + y)[None, None]
    )
    still.advance(4)
    np.testing.assert_allclose(still.state[0, 0], np.cos(2 * x + y), rtol=0, atol=1e-12)


def test_hyperviscosity_damps_exactly():
    y, x = np.meshgrid(*PLANE.coordinates(), indexing="ij")
    flow = Kolmogorov(viscosity=0.0, hyperviscosity=1e-3, hyperviscosity_order=3)
    made = Simulation(flow, PLANE, "etdrk2", 0.5, np.cos(2 * x + y)[None, None])
    made.advance(2)
    np.testing.assert_allclose(made.state[0, 0], np.exp(-1e-3 * 5**3) * np.cos(2 * x + y), rtol=0, atol=1e-12)
    wave = Burgers(viscosity=0.0, hyperviscosity=1e-3, hyperviscosity_order=2, omit=("advection",))
    made = Simulation(wave, LINE, "etdrk2", 0.5, np.cos(3 * LINE.coordinates()[0])[None, None])
    made.advance(2)
    np.testing.assert_allclose(made.state[0, 0], np.exp(-1e-3 * 81) * np.cos(3 * LINE.coordinates()[0]), atol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(("reconstruction", "order"), [("muscl", 1.8), ("weno5", 1.9)])
def test_a_viscosity_that_varies(reconstruction, order, backend):
    """(m u_x)_x + f = 0 for u = sin x and m = 1 + cos(x) / 2: it stays; second order, as m is taken at faces."""
    forcing, errors = {"kind": "expression", "value": "sin(x) + sin(2*x)/2"}, []
    for n in (16, 32):
        grid = Grid((n,), (2 * np.pi,))
        equation = Burgers(
            viscosity=1.0, viscosity_profile="1 + 0.5*cos(x)", forcing=forcing, discretisation="finite-volume",
            reconstruction=reconstruction, omit=("advection",),
        )  # fmt: skip
        u = (np.sin(grid.coordinates(centres=True)[0]) * np.sinc(1 / n))[None, None]
        made = Simulation(equation, grid, "ssp-rk3", 0.2 / n**2, u, backend=select(backend))
        made.advance(n**2)
        errors.append(np.abs(made.state - u).max())
    assert np.log2(errors[0] / errors[1]) > order


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("stepper", ["etdrk4", "rk4", "sbdf2"])
def test_a_viscosity_that_varies_on_a_fourier_grid(stepper, backend):
    """u = sin(x - t) / 2 with m = 1 + cos(x) / 2, kept by a forcing: the error is that of the steps, at their order."""
    m, ux, uxx = "(1 + cos(x)/2)", "cos(x - t)/2", "(-sin(x - t)/2)"
    value = f"-cos(x - t)/2 + sin(x - t)/2*{ux} - 0.5*({m}*{uxx} - sin(x)/2*{ux})"
    equation = Burgers(
        viscosity=0.5, viscosity_profile="1 + 0.5*cos(x)", forcing={"kind": "expression", "value": value}
    )
    x, order, errors = LINE.coordinates()[0], STEPPERS[stepper].order, []
    for n in (40, 80):
        made = Simulation(equation, LINE, stepper, 1 / n, 0.5 * np.sin(x)[None, None], backend=select(backend))
        made.advance(n)
        errors.append(np.abs(made.state[0, 0] - 0.5 * np.sin(x - 1.0)).max())
    assert errors[1] < 1e-3 and np.log2(errors[0] / errors[1]) > order - 0.4, errors


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_speed_that_varies_on_a_fourier_grid(backend):
    """u_t + (c m u)_x = 0 keeps 1 / m and the mean; the product is dealiased: no mode beyond the 2/3 rule arises."""
    equation, x = LinearAdvection(speed=-2.0, speed_profile="2 + cos(x)"), LINE.coordinates()[0]
    made = Simulation(equation, LINE, "etdrk4", 0.005, (1 / (2 + np.cos(x)))[None, None], backend=select(backend))
    made.advance(200)
    np.testing.assert_allclose(made.state[0, 0], 1 / (2 + np.cos(x)), rtol=0, atol=1e-5)
    wild = np.random.default_rng(0).standard_normal((1, 1, 32))
    rate = equation.nonlinear(Operators(LINE), Transforms(LINE).to_spectrum(wild), 0.0)
    assert not rate[..., ~LINE.mask()].any() and rate[0, 0, 0] == 0 and np.abs(rate).max() > 0.1


def test_the_budget_of_the_energy_with_coefficients_that_vary_on_fourier_grids():
    """Diffusion contributes what it dissipates; advection with a speed that varies contributes, too."""
    for equation in (
        {"name": "burgers", "viscosity": 0.05, "viscosity_profile": "1 + 0.8*cos(x)"},
        {"name": "advection", "speed": 1.0, "speed_profile": "2 + cos(x)"},
    ):
        case = {
            "title": "varies", "equation": equation, "grid": {"shape": [64], "length": [2 * np.pi]},
            "time": {"end": 0.5, "step": 0.005, "stepper": "etdrk4"}, "initial": {"kind": "sine"},
            "output": {"every": 0.005},
        }  # fmt: skip
        found = run(read_case(case), progress=False)
        term = "diffusion" if equation["name"] == "burgers" else "advection"
        gained = np.trapezoid(found[f"energy_by_{term}"][:, 0], dx=0.005)
        assert abs(gained) > 0.01
        assert gained == pytest.approx(float(found["energy"][-1, 0] - found["energy"][0, 0]), rel=1e-4)
        if term == "diffusion":
            np.testing.assert_allclose(found["dissipation"], -found["energy_by_diffusion"], rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_speed_that_varies(backend):
    """u_t + (c m u)_x = 0: u = 1 / m stays, mass is kept, also where m changes sign; kernels equal array code."""
    errors = []
    for n in (32, 64):
        grid = Grid((n,), (2 * np.pi,))
        equation = LinearAdvection(speed=-2.0, speed_profile="2 + cos(x)", discretisation="finite-volume")
        x = grid.coordinates(centres=True)[0][:, None] + 0.5 * grid.spacing[0] * np.polynomial.legendre.leggauss(8)[0]
        u = ((1 / (2 + np.cos(x))) @ np.polynomial.legendre.leggauss(8)[1] / 2)[None, None]
        made = Simulation(equation, grid, "ssp-rk3", 0.25 / n, u, backend=select(backend))
        made.advance(n)
        errors.append(np.abs(made.state - u).max())
        assert equation.signal_speed(u, grid)[0] == pytest.approx(6.0)
    assert np.log2(errors[0] / errors[1]) > 4.5
    turning, state = equation.model_copy(update={"speed_profile": "sin(x)"}), np.ones((2, 1, n))
    state[1, 0] += np.cos(grid.coordinates()[0])
    out = np.zeros((2, 1, n))
    turning.right_hand_side(grid, 2)(state.copy(), 0.0, out)
    np.testing.assert_allclose(turning.nonlinear(Operators(grid), state, 0.0), out, rtol=0, atol=1e-13)
    assert abs(out.sum()) < 1e-12 and np.abs(out).max() > 1


CASE = {
    "title": "forced",
    "equation": {"name": "burgers", "viscosity": 0.1},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 1.0, "step": 0.01, "stepper": "rk4"},
    "initial": {"kind": "sine"},
    "output": {"every": 0.5},
}


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ({"forcing": {"kind": "expression", "value": "t.real"}}, "a formula cannot contain this. Remedy"),
        ({"forcing": {"kind": "expression", "value": "__import__('os')"}}, "Remedy"),
        ({"forcing": {"kind": "expression", "value": "9**9**9**9"}}, "not finite at all points.*Remedy"),
        ({"forcing": {"kind": "expression", "value": "1/(1 - t)"}}, "at t = 1. Remedy"),
        ({"forcing": {"kind": "expression", "value": "y"}}, "'y' is not known. Remedy"),
        ({"forcing": {"kind": "expression"}}, "expected value or fields. Remedy"),
        ({"forcing": {"kind": "expression", "fields": {"w": "1"}}}, "w is no field. Remedy: velocity"),
        ({"forcing": {"kind": "sine", "amplitude": 1.0, "wavenumber": 1}}, "equation.forcing: .*two axes. Remedy"),
        ({"forcing": {"kind": "file", "path": "/none.npz"}}, "there is no file /none.npz. Remedy"),
        ({"viscosity_profile": "-x"}, "viscosity_profile: '-x' is .*Remedy"),
        ({"viscosity_profile": "-x", "discretisation": "finite-volume"}, "viscosity_profile: '-x' is .*Remedy"),
        ({"viscosity_profile": "x.real", "discretisation": "finite-volume"}, "a formula cannot contain this. Remedy"),
        ({"hyperviscosity": 1.0, "discretisation": "finite-volume"}, "needs discretisation = 'fourier'. Remedy"),
    ],
)
def test_what_makes_no_sense_is_refused(equation, message):
    with pytest.raises(CaseError, match=message):
        read_case(CASE | {"equation": CASE["equation"] | equation})


def test_a_forcing_that_fails_later_ends_the_run():
    equation = Burgers(viscosity=0.1, forcing={"kind": "expression", "value": "1/(0.3 - t > 0)"})
    for backend in ("numpy", "torch"):
        made = Simulation(equation, LINE, "rk4", 0.1, np.zeros((1, 1, 32)), backend=select(backend))
        with pytest.raises(BlowUp, match=r"not finite at all points of the grid, at t = .*Remedy: change the formula$"):
            made.advance(10)


@pytest.mark.parametrize("compiled", [True, False])
def test_steps_by_courant_number_follow_a_forcing_that_starts_from_rest(compiled):
    """One step over the whole interval, as the state at rest would allow, is wrong by more than the largest speed."""
    forcing = FormulaForcing(value="100*sin(2*pi*x)")
    equation = Burgers(viscosity=1e-3, discretisation="finite-volume", forcing=forcing)
    grid = Grid((64,), (1.0,))
    backend = NUMPY if compiled else Backend("torch", "cpu")
    options = {"state": np.zeros((1, 1, 64)), "backend": backend}
    found = Simulation(equation, grid, "ssp-rk3", 0.1, cfl=0.4, **options)
    exact = Simulation(equation, grid, "ssp-rk3", 2e-4, **options)
    found.run(1)
    exact.run(500)
    np.testing.assert_allclose(found.state, exact.state, atol=0.02 * np.abs(exact.state).max())
    assert equation.adaptive
