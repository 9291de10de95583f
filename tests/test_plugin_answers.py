"""Plug-ins whose answers are wrong: mistakes of the case, which the checks find, with exit code 2."""

from __future__ import annotations

import re

import pytest

from subgrid.commands.cli import MISTAKE, execute

SIGNATURES = {
    "nonlinear": "self, operators, u, t",
    "linear": "self, operators",
    "invariants": "self, state, grid",
    "signal_speed": "self, state, grid",
    "bounds": "self",
    "admissible": "self, state",
    "compiled": "self, grid, members",
    "state": "self, equation, grid, members, seed, folder=None",
}
WRONG = [  # (kind, method, what it returns, words of the message)
    ("equation", "nonlinear", "u[0]", "nonlinear .* returned an array .*shape of u"),
    ("equation", "nonlinear", "None", "nonlinear .* returned None"),
    ("equation", "nonlinear", "np.ma.masked_array(u)", "a MaskedArray"),
    ("equation", "nonlinear", "1 / 0", r"ZeroDivisionError.*wave.py, line"),
    ("equation", "linear", "np.zeros(3)", "linear operator .* shape"),
    ("equation", "linear", "operators.k[0] * np.nan", "linear .*finite"),
    ("equation", "invariants", "None", "invariants .* returned None"),
    ("equation", "invariants", "{'m': state}", r"invariants\['m'\].*\(member,\)"),
    ("equation", "invariants", "{}['x']", "KeyError: 'x' .*wave.py, line"),
    ("equation", "invariants", "sys.exit(0)", "SystemExit: 0 .*wave.py, line"),
    ("equation", "signal_speed", "1.0", "signal_speed .* a float, expected 1 number"),
    ("equation", "signal_speed", "(1.0, 2.0)", "signal_speed .* a tuple of 2"),
    ("equation", "signal_speed", "(-1.0,)", "signal_speed returned .*>= 0"),
    ("equation", "bounds", "3.0", "bounds .* a float"),
    ("equation", "admissible", "state > 0", "admissible .* True or False"),
    ("equation", "axes", "()", "axes .* a tuple of 0"),
    ("equation", "coordinates", "{'x': [0.0]}", r"coordinates\['x'\]"),
    ("equation", "spectrum_density", "1.0", "spectrum_density .* a float"),
    ("equation", "noise_law", "1.0", "noise_law .* a float"),
    ("equation", "compiled", "3", "compiled .* an int"),
    ("initial", "state", "np.zeros(4)", r"state .*\(1, 1, 16\)"),
    ("initial", "state", "None", "state .* returned None"),
    ("initial", "state", "np.zeros((1, 1, 16)) + 0j", "real numbers"),
    ("initial", "state", "np.ma.zeros((1, 1, 16))", "a MaskedArray"),
    ("initial", "state", "1 / 0", r"ZeroDivisionError: division by zero \(.*wave.py, line"),
    ("initial", "state", "sys.exit(0)", r"SystemExit: 0 \(.*wave.py, line"),
    ("initial", "state", "int('x')", r"invalid literal .*wave.py, line"),
    ("forcing", "field", "np.zeros(3)", r"field .* shape \(3,\), expected .*\(16, 16\)"),
    ("forcing", "field", "np.full(grid.shape, np.nan)", "not finite"),
    ("forcing", "field", "'f'", "field .* a str"),
    ("forcing", "field", "1 / 0", "ZeroDivisionError.*wave.py, line"),
    ("forcing", "field", "sys.exit(0)", "SystemExit: 0 .*wave.py, line"),
]
BASES = {"equation": "Wave", "initial": "Sine", "forcing": "Still"}


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("kind", "method", "returned", "words"), WRONG, ids=[f"{m} {r}" for _, m, r, _ in WRONG])
def test_a_wrong_answer_of_a_plugin_is_a_mistake_that_the_checks_find(
    kind, method, returned, words, command, tmp_path, plugin_case, one_message
):
    signature = SIGNATURES.get(method, "self, grid")
    code = f"class Faulty({BASES[kind]}):\n    def {method}({signature}):\n        return {returned}\n"
    case = plugin_case(tmp_path, code, **{kind: "Faulty"})
    before = sorted(tmp_path.rglob("*"))
    options = ["--import"] if command == "check" else ["--out", str(tmp_path / "out")]
    assert execute([command, str(case), *options]) == MISTAKE
    message = one_message()
    assert re.search(rf"1 mistake\n  (equation|initial)[\w.]*: .*{words}", message)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


STEPPERS = {
    "OneStep('a', 1, 'explicit', (Stage(0.0, np.exp, ()),), '')": "two stages or more",
    "OneStep('a', 1, 'implicit', (Stage(0.0, np.exp, ()), Stage(1.0, np.exp, (np.exp,))), '')": "linear must be",
    "OneStep('a', 1, 'explicit', (Stage(0.0, np.exp, ()), Stage(1.0, np.exp, ())), '')": "stage 1 .* 1 weights",
    "OneStep('a', 1, 'explicit', (Stage(0.0, np.exp, ()), Stage(1.0, np.exp, (lambda z: 1.0,))), '')": r"weight 0\(z\)",
    "OneStep('a', 1, 'explicit', (Stage(0.0, sys.exit, ()), Stage(1.0, np.exp, (np.exp,))), '')": "SystemExit",
    "Multistep('a', 1, np.log, np.exp, 0.0, (1.0,), '')": r"denominator\(z\) must be finite",
    "Multistep('a', 1, np.exp, np.exp, 0.0, (1.0, 2.0, 3.0), '')": "rates must be",
    "Split('a', 1, ((1, 'drift'),), '')": "TypeError|parts must be",
}  # fmt: skip


@pytest.mark.parametrize("table", STEPPERS)
def test_an_incomplete_table_of_a_stepper_is_a_mistake(table, tmp_path, plugin_case, one_message):
    code = f"from subgrid.solver.time_stepping.schemes import Multistep, OneStep, Split, Stage\nTABLE = {table}\n"
    case = plugin_case(tmp_path, code, stepper="wave.py:TABLE")
    assert execute(["check", "--import", str(case)]) == MISTAKE
    assert re.search(f"time.stepper: .*({STEPPERS[table]})", one_message())


@pytest.mark.parametrize("kind", ["equation", "initial", "stepper", "forcing", "closure"])
def test_a_path_without_a_name_says_how_a_path_must_read(kind, tmp_path, plugin_case, one_message):
    case = plugin_case(tmp_path, "Faulty = Zero\n", **({} if kind == "closure" else {kind: "Wave"}))
    case.write_text(
        case.read_text().replace('"wave.py:Faulty"' if kind == "closure" else '"wave.py:Wave"', '"wave.py"')
    )
    if kind == "stepper":
        case.write_text(case.read_text().replace('stepper = "Wave"', 'stepper = "wave.py"'))
    assert execute(["check", "--import", str(case)]) == MISTAKE
    key = {"stepper": "time.stepper", "forcing": "equation.forcing.path", "closure": "closure.0.path"}
    message = one_message()
    assert f"  {key.get(kind, f'{kind}.path')}: path '{tmp_path / 'wave.py'}' must read 'file.py:Name'" in message


def test_an_option_of_a_plugin_that_raises_anything_is_a_mistake(tmp_path, plugin_case, one_message):
    code = """
from pydantic import field_validator

class Faulty(Zero):
    rate: float = 1.0

    @field_validator("rate")
    @classmethod
    def _exits(cls, rate):
        sys.exit(0)
"""
    case = plugin_case(tmp_path, code)
    case.write_text(case.read_text() + "rate = 2.0\n")
    assert execute(["check", "--import", str(case)]) == MISTAKE
    assert "closure.0: SystemExit: 0" in one_message()
