"""Outputs of a case: at the multiples of output.every and at time.end, in every kind of run."""

import numpy as np
import pytest

from subgrid.commands.run import run
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import reference_request
from subgrid.solver.case.base import common_interval
from subgrid.solver.case.reading import CaseError, check
from subgrid.solver.simulation.schedule import output_times


def case(every: float, time: dict | None = None, **tables):
    return check(
        {
            "title": "outputs",
            "equation": {"name": "burgers", "viscosity": 0.05},
            "grid": {"shape": [16], "length": [6.283185307179586]},
            "time": {"end": 1.0, "step": 0.1, "stepper": "rk4"} | (time or {}),
            "initial": {"kind": "sine"},
            "output": {"every": every},
            **tables,
        },
        "case",
        ".",
    )


@pytest.mark.parametrize("where", ["memory", "folder"])
@pytest.mark.parametrize(("every", "times"), [(0.4, [0, 0.4, 0.8, 1]), (0.7, [0, 0.7, 1]), (0.5, [0, 0.5, 1])])
def test_a_run_writes_the_state_at_its_end(tmp_path, where, every, times):
    last = run(case(1.0), progress=False)["velocity"].values[-1]
    found = run(case(every), out=tmp_path / "out" if where == "folder" else None, progress=False)
    np.testing.assert_allclose(found["time"], times, atol=1e-12)
    assert np.isfinite(found["velocity"].values).all()
    assert np.array_equal(found["velocity"].values[-1], last)


def test_the_step_of_a_courant_number_divides_the_span_and_the_interval():
    """0.4 and 1 have the common step 0.2, which is divided further until the Courant number holds."""
    advection = {"equation": {"name": "advection", "speed": 1.0, "discretisation": "finite-volume"}}
    time = {"step": None, "cfl": 0.4, "stepper": "ssp-rk3"}
    data = case(0.4, {"stepper": "ssp-rk3"}, **advection).model_dump(mode="json", exclude_none=True)
    for every, steps in ((0.4, 10), (0.5, 8), (1.0, 7)):
        made = check(
            data | {"time": {"end": 1.0, "cfl": time["cfl"], "stepper": "ssp-rk3"}, "output": {"every": every}},
            "case",
            ".",
        )
        resolved = with_step(made)
        assert resolved.steps() == steps
        assert output_times(resolved)[-1] == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(CaseError, match=r"output.every: .* have no common step. Remedy: 0.3333333333"):
        check(
            data | {"time": {"end": 1.0, "cfl": 0.4, "stepper": "ssp-rk3"}, "output": {"every": 1 / np.pi}}, "case", "."
        )


def test_the_common_interval_is_the_interval_itself_where_it_divides_the_span():
    for every, span in ((0.1, 1.0), (0.3, 0.9), (1e-3, 7.0)):
        assert common_interval(every, span) == every
    assert common_interval(0.4, 1.0) == 0.2
    assert common_interval(0.7, 1.0) == pytest.approx(0.1)


def test_only_a_reference_whose_interval_does_not_divide_the_span_has_another_request():
    """Finished references keep their place in the cache."""
    reference = {"reference": {"shape": [64], "step": 0.02}}
    assert reference_request(case(0.5, **reference)).state_steps == (0, 50, 25)
    assert reference_request(case(0.4, **reference)).state_steps == (0, 50, 20, True)


def test_a_sweep_needs_an_interval_that_divides_the_span():
    """Its runs are training data at equal distances in time."""
    swept = {"sweep": {"parameters": {"equation.viscosity": [0.01, 0.1]}, "counts": [3]}}
    case(0.5, **swept)
    with pytest.raises(CaseError, match=r"output.every: with \[sweep\] it must divide .* = 1, found 0.4. Remedy: 0.5"):
        case(0.4, **swept)


def test_a_reference_step_divides_the_span():
    with pytest.raises(CaseError, match=r"reference.step: time.end - time.start"):
        case(0.4, reference={"shape": [64], "step": 0.08})
