"""Initial states and forcings by formula."""

import copy
import tomllib

import numpy as np
import pytest

from subgrid.commands import cli
from subgrid.solver.equations import Burgers, ChargedParticles, Kolmogorov, ShallowWater, VlasovPoisson
from subgrid.solver.equations.forcing import FormulaForcing, SineForcing
from subgrid.solver.grid import Grid
from subgrid.solver.initial.expression import Formula
from subgrid.solver.initial.profiles import Sine

CASE = """
title = "formulas"
equation = { name = "kolmogorov", viscosity = 0.01, forcing = { kind = "expression", value = "-4*cos(4*y)" } }
grid = { shape = [16, 16], length = [6.283185307179586, 6.283185307179586] }
time = { end = 0.1, step = 0.01, stepper = "etdrk2" }
initial = { kind = "expression", fields = { vorticity = "sin(x)*cos(2*y) + 0.1*member*sin(y)" } }
ensemble = { members = 2 }
output = { every = 0.05 }
"""


def test_points_of_a_fourier_grid_and_members():
    grid = Grid((8, 16), (2 * np.pi, 4 * np.pi))
    state = Formula(fields={"vorticity": "sin(x)*cos(2*y) + member"}).state(Kolmogorov(viscosity=1.0), grid, (0, 3), 0)
    y, x = np.meshgrid(*grid.coordinates(), indexing="ij")
    np.testing.assert_array_equal(state[:, 0], np.stack([np.sin(x) * np.cos(2 * y) + m for m in (0, 3)]))
    assert Formula(fields={"vorticity": "1"}).state(Kolmogorov(viscosity=1.0), grid, (0,), 0).shape == (1, 1, 8, 16)


def test_cells_of_a_balance_law_hold_means():
    grid = Grid((4, 5), (2.0, 5.0))
    water = ShallowWater()
    fields = dict(zip((f.name for f in water.fields), ("x**7 + y**2", "1", "0"), strict=True))
    state = Formula(fields=fields).state(water, grid, (0,), 0)
    edges = np.arange(6.0)
    mean_x, mean_y = np.diff(edges**8 / 8), np.diff(np.linspace(0, 2, 5) ** 3 / 3) / 0.5
    np.testing.assert_allclose(state[0, 0], mean_x + mean_y[:, None], rtol=1e-13)
    np.testing.assert_allclose(state[0, 1], 1, rtol=1e-15)
    assert (state[0, 2] == 0).all()
    line, burgers = Grid((32,), (2 * np.pi,)), Burgers(viscosity=0.1)
    by_formula = Formula(fields={"velocity": "sin(x)"}).state(burgers, line, (0,), 0)
    np.testing.assert_allclose(by_formula, Sine().state(burgers, line, (0,), 0), atol=1e-14)


def test_phase_space_has_the_names_v_and_x():
    grid = Grid((6, 8), (6.0, 8.0), (-3.0, 0.0))
    plasma = VlasovPoisson()
    state = Formula(fields={plasma.fields[0].name: "exp(-v**2/2)*(1 + 0.1*cos(pi*x/4))"}).state(plasma, grid, (0,), 0)
    v, x = np.meshgrid(*plasma.coordinates(grid).values(), indexing="ij")
    np.testing.assert_allclose(state[0, 0], np.exp(-(v**2) / 2) * (1 + 0.1 * np.cos(np.pi * x / 4)), rtol=1e-14)


def test_a_formula_forces_as_the_forcing_of_that_name():
    grid = Grid((16, 12), (2 * np.pi, 2 * np.pi))
    found = FormulaForcing(value="-4*cos(4*y)").field(grid)
    np.testing.assert_allclose(found, SineForcing(amplitude=1.0, wavenumber=4).field(grid), atol=1e-13)
    assert FormulaForcing(value="2").field(grid).shape == grid.shape


def test_a_case_of_formulas_runs_and_resumes_to_the_same_bytes(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(CASE)
    assert cli.execute(["run", str(path), "--out", str(tmp_path / "whole")]) == 0
    assert cli.execute(["run", str(path), "--out", str(tmp_path / "part"), "--set", "time.end=0.05"]) == 0
    assert cli.execute(["resume", str(tmp_path / "part"), "--until", "0.1"]) == 0
    files = [p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole" / "fields.zarr").rglob("*") if p.is_file()]
    assert files and all((tmp_path / "whole" / f).read_bytes() == (tmp_path / "part" / f).read_bytes() for f in files)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("initial", "fields"), {"w": "1"}, "initial.fields: kolmogorov has the fields vorticity, found w. Remedy"),
        (("initial", "fields"), {}, "initial.fields: kolmogorov has the fields vorticity, found none. Remedy"),
        (
            ("initial", "fields"),
            {"vorticity": "v"},
            "initial.fields: vorticity = 'v': 'v' is not known. Remedy: the names",
        ),
        (("initial", "fields"), {"vorticity": "9**9**9**9"}, "which is not finite"),
        (("initial", "fields"), {"vorticity": "x.real"}, "a formula cannot contain this. Remedy"),
        (("equation", "forcing", "value"), "open('x')", "equation.forcing.value: \"open('x')\": there is no function"),
        (("equation", "forcing", "value"), "1/(0*x)", "equation.forcing: '1/(0*x)' is not finite"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, place, value, message):
    import tomli_w

    tables = copy.deepcopy(tomllib.loads(CASE))
    table = tables
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    (tmp_path / "case.toml").write_text(tomli_w.dumps(tables))
    assert cli.execute(["check", str(tmp_path / "case.toml")]) == 2
    found = capsys.readouterr().err
    assert message in found and "Traceback" not in found


def test_particles_have_no_formula():
    with pytest.raises(ValueError, match=r"is for equations on a grid in space, not for .*particles"):
        Formula(fields={}).state(ChargedParticles(), Grid((3,), (3.0,)), (0,), 0)
