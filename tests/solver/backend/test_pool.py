"""The pool: every unit once, errors, calls from several threads at a time, forks, and no work while idle."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from subgrid.solver.backend import pool
from subgrid.solver.backend.pool import share, sharing

LARGE = 1e9  # nanoseconds per unit: always divided


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_unit_is_done_once_in_every_one_of_many_small_calls(threads):
    done = np.zeros(10, dtype=int)
    places = set()

    def work(first: int, last: int, place: int) -> None:
        done[first:last] += 1
        places.add(place)

    with sharing(threads):
        for _ in range(50):
            share(work, len(done), LARGE)
    assert (done == 50).all()
    assert places == set(range(threads))


def test_work_that_does_not_pay_and_work_without_permission_stay_on_one_thread():
    calls = []
    with sharing(3):
        share(lambda *call: calls.append(call), 100, 0.9 * pool.PORTION * 2 / 100)
        share(lambda *call: calls.append(call), 1, LARGE)
    share(lambda *call: calls.append(call), 100, LARGE)
    assert calls == [(0, 100, 0), (0, 1, 0), (0, 100, 0)]


def test_after_calls_that_were_late_the_next_ones_stay_on_one_thread():
    """As on a machine whose cores are busy: 1, 2, 4, ... calls after late ones in a row, half as many after others."""
    tried, places, done = pool.Pool(), [], np.zeros(10, dtype=int)

    def work(first: int, last: int, place: int) -> None:
        done[first:last] += 1
        places.append(place)

    def alone(waited: float) -> int:
        """Calls on one thread after a call in which the caller waited for so long."""
        tried._alone = 0
        tried._judge(waited, 1e5)
        count = tried._alone
        for _ in range(count):
            tried.run(work, len(done), 2, 1.0)
        assert set(places) <= {0}
        return count

    assert [alone(1e9) for _ in range(5)] == [1, 2, 4, 8, 16]
    assert (done == 31).all()
    assert [alone(1e4), alone(1e4), alone(1e9)] == [0, 0, 8]
    assert max(alone(1e9) for _ in range(20)) == pool.MOST_ALONE
    tried.run(work, len(done), 2, 1e9)
    assert 1 in places
    tried.stop()


def test_a_thread_that_comes_late_is_called_less(monkeypatch):
    monkeypatch.setattr(pool, "_pool", pool.Pool())
    places = []

    def work(first: int, last: int, place: int) -> None:
        places.append(place)
        if place == 1:
            time.sleep(2e-3)

    with sharing(2):
        for _ in range(1000):
            share(work, 10, pool.PORTION)
    assert 2 <= places.count(1) <= 12


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_one_thread_is_raised_when_all_have_ended_and_the_next_call_works(failing):
    ended = []

    def work(first: int, last: int, place: int) -> None:
        if place == failing:
            raise KeyError(place)
        time.sleep(0.05)
        ended.append(place)

    with sharing(3):
        with pytest.raises(KeyError, match=str(failing)):
            share(work, 3, LARGE)
        assert sorted(ended) == sorted({0, 1, 2} - {failing})
        share(lambda first, last, place: ended.append(place), 3, LARGE)
    assert sorted(ended[2:]) == [0, 1, 2]


def test_an_interrupt_waits_for_the_other_threads():
    ended = []

    def work(first: int, last: int, place: int) -> None:
        if place == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        ended.append(place)

    with sharing(2), pytest.raises(KeyboardInterrupt):
        share(work, 2, LARGE)
    assert ended == [1]


def test_two_threads_may_share_at_a_time():
    sums = np.zeros((2, 30), dtype=int)

    def caller(index: int) -> None:
        def work(first: int, last: int, place: int) -> None:
            sums[index, first:last] += 1

        with sharing(2):
            for _ in range(100):
                share(work, 30, LARGE)

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(2)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert (sums == 100).all()


def test_work_within_work_stays_on_its_thread():
    inner = []

    def work(first: int, last: int, place: int) -> None:
        share(lambda *call: inner.append(call), 7, LARGE)

    with sharing(2):
        share(work, 2, LARGE)
    assert inner == [(0, 7, 0)] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_keeps_no_threads_and_both_processes_go_on():
    done = np.zeros(4, dtype=int)

    def work(first: int, last: int, place: int) -> None:
        done[first:last] += 1

    with sharing(2):
        share(work, 4, LARGE)
    pid = os.fork()
    if pid == 0:
        names = [t.name for t in threading.enumerate()]
        with sharing(2):
            share(work, 4, LARGE)
        os._exit(0 if (done == 2).all() and not any("pool" in name for name in names) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    with sharing(2):
        share(work, 4, LARGE)
    assert (done == 2).all()


def test_threads_that_wait_take_no_time_of_the_processor():
    with sharing(2):
        share(lambda first, last, place: None, 2, LARGE)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.5  # one thread that waits busily takes 1 s
