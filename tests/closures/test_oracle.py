"""The oracle reads the true term: with it the coarse model follows the restricted reference."""

import json
import shutil

import numpy as np
import pytest

from subgrid.closures.oracle import Oracle
from subgrid.ingest.prepare import prepare
from subgrid.ingest.requests import reference_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.reading import check
from subgrid.solver.closure import ClosureError, Problem, View
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream

STEP, STEPS = 0.01, 40


def case_of(omit=(), restrict="filter", stepper="cn-euler", step=STEP, every=1, fine=64, noise=0.0, **closure):
    """Forced Kolmogorov flow on 32 x 32 with an oracle, from a reference of fine x fine, to t = 0.4 in two blocks."""
    equation = {"name": "kolmogorov", "viscosity": 1e-2, "drag": 0.1, "omit": list(omit)}
    equation["forcing"] = {"kind": "sine", "amplitude": 1.0, "wavenumber": 2}
    if noise:
        equation["noise"] = {"amplitude": noise, "correlation": 0.1}
    rough = {"kind": "gaussian-random-field", "exponent": 1.5, "tau": 4.0, "scale": 2.0}
    return {
        "title": "oracle",
        "equation": equation,
        "grid": {"shape": [32, 32], "length": [2 * np.pi, 2 * np.pi]},
        "time": {"start": 0.05, "end": 0.05 + STEP * STEPS, "step": step, "stepper": stepper},
        "initial": {"kind": "reference"},
        "ensemble": {"members": 4, "seed": 3},
        "closure": [{"name": "oracle", "every": every, **closure}],
        "output": {"every": 0.1},
        "reference": {
            "shape": [fine, fine],
            "start": 0.0,
            "initial": rough,
            "trajectories": 2,
            "seed": 5,
            "restrict": restrict,
        },
    }


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def errors(data, folder) -> tuple[float, float]:
    """Relative L2 error at the end with the oracle and without."""
    case = check(data, "case", folder)
    prepared = prepare(case, folder, with_reference=True)
    truth = np.repeat(np.array(prepared.trajectories.state)[:, -1], 2, axis=0)
    found = []
    for tables in (case.closure, ()):
        simulation = prepared.simulation(tables)
        simulation.run(case.steps())
        found.append(np.linalg.norm(simulation.state - truth) / np.linalg.norm(truth))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("omit", "restrict", "fine"),
    [((), "filter", 64), (("advection",), "subsample", 32), (("advection", "forcing"), "filter", 64)],
)
def test_where_the_scheme_freezes_n_the_oracle_is_exact(omit, restrict, fine, tmp_path):
    """cn-euler takes N at the start of the step as it does the frozen term, and L is diagonal: R(u_n) is followed.

    What is left is the rounding of the stored term to float32, 6e-8 of it a step, grown by the flow.
    """
    oracle, without = errors(case_of(omit, restrict, fine=fine), tmp_path)
    assert oracle < 1e-6
    assert without > 0.02


def test_a_term_frozen_over_a_step_is_of_first_order_in_the_step(tmp_path):
    """An exponential scheme of order 4 takes N within the step and the frozen term at its start: half a step late."""
    coarse, fine = (errors(case_of(stepper="etdrk4", step=h), tmp_path) for h in (0.01, 0.005))
    assert coarse[0] < 0.1 * coarse[1]
    assert 1.8 < coarse[0] / fine[0] < 2.2


def test_a_held_term_is_of_first_order_in_the_interval_and_an_extrapolated_one_of_second(tmp_path):
    """cn-euler has no error of its own here. Held for k steps a term is (k - 1) / 2 steps late on average: 3.5 / 1.5.

    Extrapolated it errs by (j^2 + j k) h^2 H'' / 2 at step j, on average 22.75 against 4.75, and in the first interval,
    where there is nothing to extrapolate from, by j h H', in sum 28 against 6.
    """
    held, linear = ([errors(case_of(every=k, hold=how), tmp_path)[0] for k in (4, 8)] for how in ("constant", "linear"))
    assert held[1] / held[0] == pytest.approx(3.5 / 1.5, rel=0.1)
    assert linear[1] / linear[0] == pytest.approx(4.7, rel=0.15)
    assert linear[0] < 0.6 * held[0]


def started(case, folder, **changes):
    """(prepared, oracle, its answer at the start of the case)."""
    prepared = prepare(case, folder, with_reference=True)
    oracle = Oracle(reference=prepared.trajectories.directory)
    problem = {
        "equation": prepared.equation,
        "grid": prepared.grid,
        "step": case.step,
        "every": 1,
        "start": case.time.start,
        "members": (0, 1, 2, 3),
        "seed": 3,
    } | changes
    memory = oracle.start(Problem(**problem))
    time = problem.get("start")
    answer, _ = oracle(View(lambda: prepared.state, time, 0, Stream(3, "closure", 0, (0, 1, 2, 3))), memory)
    return prepared, answer


def test_noise_is_that_which_the_model_omits(tmp_path):
    """The law of sigma dW/dt where the model lacks it; none where the model draws it itself."""
    model, answer = started(check(case_of(["noise"], noise=0.3), "case", tmp_path), tmp_path)
    law = model.equation.noise.law(model.grid)
    np.testing.assert_array_equal(answer.noise.amplitude, law.amplitude)
    assert law.amplitude.max() > 0
    _, answer = started(check(case_of(noise=0.3), "case", tmp_path), tmp_path)
    assert answer.noise is None


def test_members_get_the_term_of_their_own_trajectory(tmp_path):
    case = check(case_of(), "case", tmp_path)
    prepared, answer = started(case, tmp_path)
    term = np.array(prepared.trajectories.term)[:, 0]
    np.testing.assert_array_equal(answer.field, term[[0, 0, 1, 1]].astype(float))
    assert answer.field.dtype == np.float64
    assert not np.array_equal(term[0], term[1])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"grid": Grid((24, 24), (2 * np.pi, 2 * np.pi))}, "shape"),
        ({"grid": Grid((32, 32), (2 * np.pi, 6.0))}, "length"),
        ({"equation": Burgers(viscosity=0.1)}, "kolmogorov.*burgers"),
        ({"equation": Kolmogorov(viscosity=0.02)}, "viscosity.*0.01.*0.02"),
        ({"members": (0, 1, 2)}, "3 members"),
        ({"start": 0.053}, "t = 0.053.*every 0.01"),
        ({"start": 7.0}, "t = 7"),
    ],
)
def test_what_does_not_fit_is_refused(changes, named, tmp_path):
    with pytest.raises(ClosureError, match=f"(?s)oracle.*{named}.*Remedy"):
        started(check(case_of(), "case", tmp_path), tmp_path, **changes)


def test_references_that_cannot_serve_are_refused(tmp_path, monkeypatch):
    """None at all, an unfinished one, and one that was made without terms."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "without terms"))
    case = check(case_of() | {"closure": []}, "case", tmp_path)
    made = generate(case, reference_request(case))
    problem = Problem(case.build_equation(), case.grid.grid(), STEP, 1, 0.05, (0, 1, 2, 3), 3)
    assert json.loads((made.directory / "request.json").read_text())["term_steps"] is None
    with pytest.raises(ClosureError, match=r"stored without missing terms.*Remedy"):
        Oracle(reference=made.directory).start(problem)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(made.directory, unfinished)
    (unfinished / "done.json").unlink()
    with pytest.raises(ClosureError, match=r"no finished trajectories.*Remedy"):
        Oracle(reference=unfinished).start(problem)
    with pytest.raises(ClosureError, match=r"needs a reference.*Remedy"):
        Oracle().start(problem)
