"""Plug-ins that raise: one message with the name, the file and the line, exit code 3 and a summary."""

from __future__ import annotations

import json

import pytest

from subgrid import PluginError, read_case, run
from subgrid.commands.cli import DONE, FAILED, INTERRUPTED, execute

EXCEPTIONS = ("SystemExit(0)", "StopIteration", "GeneratorExit", "RuntimeError('x')", "ZeroDivisionError", "ValueError")
CLOSURES = {
    "call": "    def __call__(self, view, memory):\n        raise {error}\n",
    "memory": "    def __call__(self, view, memory):\n        return None, {{'a': Evil()}}\n",
    "answer": "    def __call__(self, view, memory):\n        return Tendency(Evil()), memory\n",
    "times": "    def __call__(self, view, memory):\n        return Leap(np.zeros((1, 2, 1, 16)), Evil()), memory\n",
}
EVIL = """
class Evil:
    def __array__(self, *_, **__):
        raise {error}

    def __dlpack__(self, *_, **__):
        raise {error}

    __len__ = __dlpack_device__ = __dlpack__
"""
LATER = {  # methods that fail after the checks
    "nonlinear": """
    def nonlinear(self, operators, u, t):
        if t > 0.15:
            raise {error}
        return 0 * u
""",
    "invariants": """
    def invariants(self, state, grid):
        if call("invariants") > 2:
            raise {error}
        return {{"mass": state[:, 0].mean(-1)}}
""",
    "admissible": """
    def admissible(self, state):
        if np.iscomplexobj(state) and call("admissible") > 1:  # the Fourier coefficients of a run
            raise {error}
        return True
""",
}


@pytest.mark.parametrize("error", EXCEPTIONS)
@pytest.mark.parametrize("where", CLOSURES)
def test_any_exception_of_a_closure_is_a_closure_error_with_a_summary(where, error, tmp_path, plugin_case, one_message):
    code = (EVIL + "\nclass Faulty(Zero):\n" + CLOSURES[where]).format(error=error)
    case = plugin_case(tmp_path, code)
    assert execute(["run", str(case), "--out", str(tmp_path / "out")]) == FAILED
    message = one_message()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "failed" and summary["error"] in message
    kept = where in ("answer", "memory", "times") and error in ("RuntimeError('x')", "ValueError")
    assert "'Faulty' at step 0" in message and (kept or f"{error.partition('(')[0]}" in message)
    assert kept or f"({tmp_path / 'wave.py'}, line " in message


@pytest.mark.parametrize("error", EXCEPTIONS)
@pytest.mark.parametrize("where", LATER)
def test_any_exception_of_an_equation_is_one_error_with_a_summary(where, error, tmp_path, plugin_case, one_message):
    case = plugin_case(tmp_path, "class Faulty(Wave):" + LATER[where].format(error=error), equation="Faulty")
    assert execute(["run", str(case), "--out", str(tmp_path / "out")]) == FAILED
    message = one_message()
    assert f"raised {error.partition('(')[0]}" in message and f"({tmp_path / 'wave.py'}, line " in message
    assert "'Faulty." in message
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "failed" and summary["error"] in message


@pytest.mark.parametrize("error", EXCEPTIONS)
def test_any_exception_of_a_stepper_is_a_plugin_error(error, tmp_path, plugin_case, one_message):
    """Its coefficients fail for the modes of the case, and not for those of the check."""
    code = f"""
from subgrid.solver.time_stepping.schemes import OneStep, Stage

def one(z):
    if z.shape[-1] == 9:
        raise {error}
    return np.ones_like(z)

FAULTY = OneStep("faulty", 1, "exponential", (Stage(0.0, one, ()), Stage(1.0, one, (one,))), "none")
"""
    case = plugin_case(tmp_path, code, stepper="wave.py:FAULTY")
    assert execute(["run", str(case), "--out", str(tmp_path / "out")]) == FAILED
    message = one_message()
    assert f"'one' raised {error.partition('(')[0]}" in message and f"({tmp_path / 'wave.py'}, line " in message
    assert not (tmp_path / "out").exists()


def test_an_interrupt_within_a_plugin_is_an_interrupt(tmp_path, plugin_case):
    code = "class Faulty(Zero):\n    def __call__(self, view, memory):\n        raise KeyboardInterrupt\n"
    assert execute(["run", str(plugin_case(tmp_path, code)), "--out", str(tmp_path / "out")]) == INTERRUPTED


def test_an_exception_of_a_plugin_is_one_exception_in_python_too(tmp_path, plugin_case):
    code = "class Faulty(Wave):" + LATER["nonlinear"].format(error="SystemExit(0)")
    with pytest.raises(PluginError, match=r"'Faulty.nonlinear' raised SystemExit: 0 .*line") as caught:
        run(read_case(plugin_case(tmp_path, code, equation="Faulty")), progress=False)
    assert isinstance(caught.value.__cause__, SystemExit)


@pytest.mark.parametrize("error", EXCEPTIONS)
def test_a_row_of_a_comparison_that_exits_fails_alone(error, tmp_path, plugin_case):
    code = f"""
class Faulty(Zero):
    def __call__(self, view, memory):
        if view.step > 2:
            raise {error}
        return Tendency(np.zeros_like(view.state)), memory
"""
    case = plugin_case(tmp_path, code, equation="Wave")
    rows = 'closures = [{ path = "wave.py:Faulty" }, { path = "wave.py:Zero" }]\nfrontier = false\n'
    case.write_text(case.read_text() + "[reference]\nshape = [32]\ntrajectories = 2\n[compare]\n" + rows)
    assert execute(["compare", str(case), "--out", str(tmp_path / "out"), "--json"]) == DONE
    found = {row["name"]: row["failed"] for row in json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]}
    assert found["none"] is None and found["Zero"] is None
    assert f"raised {error.partition('(')[0]}" in found["Faulty"] and "wave.py, line " in found["Faulty"]
