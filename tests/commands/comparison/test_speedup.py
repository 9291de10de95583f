"""Speed-ups against a frontier of known costs, and intervals over trajectories that are drawn again."""

import numpy as np
import pytest

from subgrid.commands.comparison.judgement import judge
from subgrid.commands.comparison.results import Row
from subgrid.commands.comparison.samples import Samples, as_error, central, draws
from subgrid.commands.comparison.speedup import SpeedUp, frontier, interval, speed_up
from subgrid.commands.report.speedups import cells

COSTS = np.array([1.0, 4.0, 16.0, 64.0])
ERRORS = np.array([0.4, 0.2, 0.1, 0.05])  # cost = (0.4 / error)^2


def test_the_cost_at_an_error_is_interpolated_in_the_logarithms():
    for error in (0.4, 0.3, 0.2, 0.123, 0.05):
        found = speed_up(2.0, error, COSTS, ERRORS)
        assert found.beyond == ""
        assert found.value == pytest.approx((0.4 / error) ** 2 / 2, rel=1e-12)


def test_beyond_the_ends_there_is_a_bound():
    assert speed_up(2.0, 0.04, COSTS, ERRORS) == SpeedUp(32.0, ">")
    assert speed_up(2.0, 0.5, COSTS, ERRORS) == SpeedUp(0.5, "<")


def test_a_run_that_is_beaten_by_a_cheaper_one_is_not_on_the_frontier():
    costs, errors = np.append(COSTS, [5.0, 16.0]), np.append(ERRORS, [0.3, 0.12])
    np.testing.assert_array_equal(costs[frontier(costs, errors)], COSTS)
    assert speed_up(1.0, 0.15, costs, errors) == speed_up(1.0, 0.15, COSTS, ERRORS)


def test_a_run_that_is_hardly_better_and_nearly_as_dear_as_the_next_grid_does_not_set_the_cost():
    costs, errors = np.append(COSTS, 15.9), np.append(ERRORS, 0.1999)
    np.testing.assert_array_equal(costs[frontier(costs, errors)], COSTS)
    assert speed_up(1.0, 0.15, costs, errors) == speed_up(1.0, 0.15, COSTS, ERRORS)


def test_an_error_that_a_run_reaches_is_not_beyond_the_frontier():
    """The best run ties with the last one of the frontier: a closure between the two is less accurate than a run."""
    costs, errors = np.append(COSTS, 80.0), np.append(ERRORS, 0.0497)
    np.testing.assert_array_equal(costs[frontier(costs, errors)], COSTS)
    assert speed_up(2.0, 0.0498, costs, errors) == SpeedUp(pytest.approx(32.0))
    assert speed_up(2.0, 0.0496, costs, errors) == SpeedUp(32.0, ">")


def test_values_that_are_not_positive_numbers_have_no_speed_up():
    assert speed_up(1.0, np.nan, COSTS, ERRORS) is None
    assert speed_up(0.0, 0.2, COSTS, ERRORS) is None
    assert speed_up(1.0, 0.2, COSTS, np.full(4, np.nan)) is None


def test_an_interval_that_reaches_beyond_the_frontier_has_an_open_end():
    inside = [SpeedUp(v) for v in np.linspace(1.0, 2.0, 101)]
    assert interval(inside, 0.9) == (pytest.approx(1.05), pytest.approx(1.95))
    assert interval(inside + [SpeedUp(9.0, ">")] * 20, 0.9) == (pytest.approx(1.06), None)
    assert interval([SpeedUp(0.5, "<")] * 20 + inside, 0.9)[0] is None
    assert interval([None], 0.9) == (None, None)


def test_an_interval_beyond_the_frontier_ends_at_a_bound_and_one_on_both_sides_of_it_is_open():
    """A frontier of a single run gives bounds alone: they exclude anything only if they agree."""
    above, below = SpeedUp(3.0, ">"), SpeedUp(3.0, "<")
    assert interval([above] * 100, 0.95) == (3.0, None)
    assert interval([SpeedUp(0.5, ">")] * 10 + [above] * 90, 0.95) == (0.5, None)
    assert interval([below] * 100, 0.95) == (None, 3.0)
    assert interval([above] * 60 + [below] * 40, 0.95) == (0.0, None)


def test_a_closure_on_both_sides_of_the_only_run_of_the_frontier_is_not_said_to_beat_it():
    errors, blank = np.array([0.5, 1.5, 0.6, 1.4, 0.7, 1.1]), np.empty((6, 0))
    one, run = (Samples(e, e, e, e, blank, blank) for e in (np.ones(6), errors))
    (judged,) = judge([run], [(0.5, 0.5)], [one], [(1.0, 1.0)], 10.0, {}, ("crps",))
    known = {"speedup": judged.speedup, "beyond": judged.beyond, "intervals": judged.intervals}
    cell = cells(Row.model_validate({"name": "a", "kind": "learned", "times": [0], "relative_l2": [0]} | known))["CRPS"]
    assert (cell.text, cell.interval, cell.outcome) == ("> 2", "[0, –]", "beyond")


def test_draws_that_keep_their_correlation_to_the_end_are_bounds_and_not_left_out():
    """Five of six trajectories reach the end, 10: a third of the draws has these alone."""
    blank, times = np.empty((6, 0)), np.array([10.0, 10, 10, 10, 10, 5.0])
    ours, coarse, fine = (Samples(t, t, t, t, blank, blank) for t in (times, times * 0.5, np.full(6, 9.9)))
    (judged,) = judge([ours], [(1.0, 1.0)], [coarse, fine], [(1.0, 1.0), (8.0, 8.0)], 10.0, {}, ("correlation_time",))
    value, low, high = judged.speedup["correlation_time"]
    assert value is not None and low is not None and low < value and high is None


def samples(trajectories=6, shells=4, seed=0):
    r = np.random.default_rng(seed)
    energy, true = r.uniform(1, 2, (trajectories, shells)), r.uniform(1, 2, (trajectories, shells))
    values = [r.uniform(0.1, 1, trajectories) for _ in range(4)]
    return Samples(*values, energy, true)


def test_scores_of_drawn_trajectories_are_those_of_the_repeated_trajectories():
    s = samples()
    index = [0, 0, 3, 5, 5, 5]
    weights = np.bincount(index, minlength=6)[None] / 6
    found = {name: values[0] for name, values in s.scores(weights).items()}
    assert found["relative_l2"] == pytest.approx(s.relative_l2[index].mean())
    ratio = s.energy[index].mean(axis=0) / s.true_energy[index].mean(axis=0)
    assert found["spectrum_distance"] == pytest.approx(np.abs(np.log10(ratio)).mean())
    assert s.mean()["crps"] == pytest.approx(s.crps.mean())


def test_the_interval_of_a_mean_covers_it_as_often_as_its_level_says():
    """Of 400 samples of 20 normal numbers the 95 % interval holds the true mean in 85 to 97 %: it is known to be
    narrow for few numbers (about 92 % for 20)."""
    r = np.random.default_rng(1)
    weights = draws(20)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    covered = 0
    for _ in range(400):
        low, high = central(weights @ r.normal(size=20))
        covered += low < 0 < high
    assert 0.85 < covered / 400 < 0.97


def test_a_larger_correlation_time_is_a_smaller_error():
    assert as_error("correlation_time", np.array([2.0, 4.0])).tolist() == [0.5, 0.25]
    assert as_error("crps", np.array([2.0])).tolist() == [2.0]
