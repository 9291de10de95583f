"""Distribution of one calculation over threads: `share(work, count, cost)` calls work(first, last, place) on each.

The units 0 ... count - 1 are cut into contiguous ranges, one per thread. `work` is Python code that spends its time in
functions that release the interpreter's lock: compiled kernels and transforms. It must give the same numbers for every
cut; what depends on the cut, as a sum does, is cut into units by the caller, for any number of threads alike.

A hand-over costs as much as some thousand cells. Threads wait for it in compiled code: first they poll, for SPINS
pauses of the processor, then they block. They start at the first use, and stop before a fork and at exit.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

from .arrays import kernel

Work = Callable[[int, int, int], None]
intrinsic: Any = extending.intrinsic
config: Any = numba.config

PORTION = 15e3  # nanoseconds of work for which a thread is called; benchmarks/cores.py measures a hand-over
SPINS = 6000  # pauses, of 15 to 45 nanoseconds, before a thread blocks
HEADWAY = 150  # pauses by which a thread follows the one before it, as both need the interpreter's lock for a moment
PATIENCE = 1.0  # seconds after which a blocked thread looks again, in case an interrupt stopped the one that wakes it
MOST = 62  # threads besides the caller's
LATE, SLACK = 3.0, 3e5  # a call is late if its caller waits for LATE times the work and SLACK nanoseconds
MOST_ALONE = 4096  # calls on one thread after a late one

# Words, in cache lines of their own: threads at work, whether the caller is blocked; of each thread the number of jobs
# that it was given, and next to it whether it is blocked.
PENDING, WAITING, GIVEN, LINE = 0, 8, 16, 8
HINT = ("llvm.aarch64.hint", 1)
PAUSES: dict[str, tuple[Any, ...]] = {"x86_64": ("llvm.x86.sse2.pause",), "aarch64": HINT, "arm64": HINT}
IDLE, CALLED, LAST = range(3)  # what `_next` returns: nothing to do yet, a job, the caller is blocked and must be woken


def _word(context, builder, signature, args):  # type: ignore[no-untyped-def]
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def _read(typing, words, index):
    def code(context, builder, signature, args):
        return builder.load_atomic(_word(context, builder, signature, args), "seq_cst", 8)

    return types.int64(words, types.int64), code


@intrinsic
def _add(typing, words, index, value):
    """words[index] += value; returns the value before."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(context, builder, signature, args), args[2], "seq_cst")

    return types.int64(words, types.int64, types.int64), code


@intrinsic
def _swap(typing, words, index, value):
    """words[index] = value; returns the value before."""

    def code(context, builder, signature, args):
        return builder.atomic_rmw("xchg", _word(context, builder, signature, args), args[2], "seq_cst")

    return types.int64(words, types.int64, types.int64), code


@intrinsic
def _pause(typing):
    """Leave the core to its other hardware thread for a moment, where the processor has an instruction for that."""

    def code(context, builder, signature, args):
        name, *given = PAUSES.get(builder.module.triple.partition("-")[0], ("", 0))
        if name:
            number = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [number] * len(given))
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [ir.Constant(number, value) for value in given])
        return context.get_dummy_value()

    return types.void(), code


@kernel(double=True)
def _give(words, threads):
    """Give every thread a job. Returns the blocked ones as bits."""
    _swap(words, PENDING, threads)
    blocked = 0
    for i in range(threads):
        _add(words, GIVEN + LINE * i, 1)
        if _swap(words, GIVEN + LINE * i + 1, 0) == 1:
            blocked |= 1 << i
    return blocked


@kernel(double=True)
def _next(words, index, seen, finished, spins, headway):
    """Finish a job if there is one, and wait for the job after number `seen`."""
    if finished and _add(words, PENDING, -1) == 1 and _swap(words, WAITING, 0) == 1:
        return LAST
    for _ in range(spins):
        if _read(words, GIVEN + LINE * index) != seen:
            for _ in range(headway):
                _pause()
            return CALLED
        _pause()
    return IDLE


@kernel(double=True)
def _may_block(words, index, seen):
    """Announce that a thread will block; False if a job has come in between."""
    _swap(words, GIVEN + LINE * index + 1, 1)
    return _read(words, GIVEN + LINE * index) == seen


@kernel(double=True)
def _all_finished(words, spins):
    """Wait for the threads; False if they take longer."""
    for _ in range(spins):
        if _read(words, PENDING) == 0:
            return True
        _pause()
    return False


@kernel(double=True)
def _caller_may_block(words):
    _swap(words, WAITING, 1)
    return _read(words, PENDING) != 0


class _Gate:
    """What a thread blocks at: the first call of `open` lets it pass, and further ones before that do nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire(timeout=PATIENCE)

    def open(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._lock.release()


class Pool:
    """Threads that wait for work. One calculation at a time: a second one stays on the thread that calls for it."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._words = np.zeros(GIVEN + LINE * MOST, dtype=np.int64)
        self._threads: list[threading.Thread] = []
        self._gates: list[_Gate] = []
        self._done = _Gate()
        self._job: Callable[[int], None] | None = None
        self._errors: dict[int, BaseException] = {}
        self._alone = 0  # calls that this thread is to do by itself
        self._pause = 1  # such calls after the next late one

    def run(self, work: Work, count: int, threads: int, cost: float) -> None:
        """work(first, last, place) for `threads` ranges, place = 0 ... threads - 1, the first on this thread.

        Returns, or raises the error of the first range that failed, when all have ended. All of the work is done by
        this thread if the pool is in use, and for some calls after one that was late: see `_judge`.
        """
        if not self._busy.acquire(blocking=False):
            work(0, count, 0)
            return
        try:
            divided = self._alone == 0
            self._alone -= not divided
            if divided:
                self._divide(work, count, threads, cost)
        finally:
            self._busy.release()
        if not divided:
            work(0, count, 0)

    def _divide(self, work: Work, count: int, threads: int, cost: float) -> None:
        self._start(threads - 1)
        self._errors = {}
        self._job = lambda place: work(place * count // threads, (place + 1) * count // threads, place)
        began = own = time.perf_counter_ns()
        try:
            self._call(threads - 1)
            self._job(0)
            own = time.perf_counter_ns()
        finally:
            self._wait()
            self._job = None
        if self._errors:
            raise self._errors[min(self._errors)]
        largest = -(-count // threads)
        self._judge(time.perf_counter_ns() - own, max((own - began) * largest / (count // threads), cost * largest))

    def _judge(self, waited: float, expected: float) -> None:
        """After a call in which this thread waited for much longer than the work takes, do the next ones alone.

        Other processes hold the cores then, and a hand-over takes as long as a time slice of theirs: a hundred times
        the work. The number of such calls doubles with every late call, up to MOST_ALONE, and halves with others.
        """
        if waited > LATE * expected + SLACK:
            self._alone = self._pause
            self._pause = min(2 * self._pause, MOST_ALONE)
        else:
            self._pause = max(self._pause // 2, 1)

    def stop(self) -> None:
        """End the threads, unless they are at work. They start again when they are needed."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._call(len(self._threads))
            for thread in self._threads:
                thread.join()
            self._threads, self._gates = [], []
            self._words[:] = 0
        finally:
            self._busy.release()

    def _start(self, threads: int) -> None:
        while len(self._threads) < threads:
            index = len(self._threads)
            gate = _Gate()
            name = f"subgrid pool {index + 1}"
            seen = int(self._words[GIVEN + LINE * index])
            thread = threading.Thread(target=self._serve, args=(index, gate, seen), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
            self._gates.append(gate)

    def _call(self, threads: int) -> None:
        blocked = _give(self._words, threads)
        for i in range(threads if blocked else 0):
            if blocked >> i & 1:
                self._gates[i].open()

    def _wait(self) -> None:
        """Wait for all threads, also after an interrupt: they are writing into arrays of the caller."""
        interrupt: BaseException | None = None
        while True:
            try:
                while not _all_finished(self._words, SPINS):
                    if _caller_may_block(self._words):
                        self._done.wait()
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _serve(self, index: int, gate: _Gate, seen: int) -> None:
        finished = False
        while True:
            state = _next(self._words, index, seen, finished, SPINS, HEADWAY * (index + 1))
            finished = False
            if state == LAST:
                self._done.open()
            elif state == IDLE:
                if _may_block(self._words, index, seen):
                    gate.wait()
            else:
                seen += 1
                if self._job is None:
                    return
                try:
                    self._job(index + 1)
                except BaseException as error:
                    self._errors[index + 1] = error
                finished = True


class _Allowed(threading.local):
    threads = 1


_allowed = _Allowed()
_pool = Pool()


@contextlib.contextmanager
def sharing(threads: int) -> Iterator[None]:
    """Let `share` use so many threads, this one included, where this thread calls it."""
    before = _allowed.threads
    _allowed.threads = 1 if config.DISABLE_JIT else min(threads, MOST + 1)
    try:
        yield
    finally:
        _allowed.threads = before


def share(work: Work, count: int, cost: float) -> None:
    """work(first, last, place) for contiguous ranges of `count` units, on as many threads as are allowed and pay.

    cost: nanoseconds that a unit takes on one thread; a thread gets at least PORTION. place: 0 ... threads - 1, of
    which each is in use by one thread at a time, for arrays of work. By default, and within `work`, one thread is
    allowed. Errors of `work` are raised here when all ranges have ended.
    """
    threads = _allowed.threads
    if threads > 1:
        threads = min(threads, count, int(count * cost / PORTION))
    if threads > 1:
        _pool.run(work, count, threads, cost)
    else:
        work(0, count, 0)


def allowed_threads() -> int:
    """The number of threads that `share` may use here."""
    return _allowed.threads


def pays(count: int, cost: float) -> bool:
    """Whether `share` divides so many units of this cost among two threads."""
    return count > 1 and count * cost >= 2 * PORTION


def divided(kernel: Callable[..., Any], count: int, cost: float) -> Callable[..., None]:
    """A function of the arguments of a kernel but for its last two, `first` and `last`: see `share`."""
    if not pays(count, cost):
        return lambda *arguments: kernel(*arguments, 0, count)
    return lambda *arguments: share(lambda first, last, place: kernel(*arguments, first, last), count, cost)


def _start_anew() -> None:
    """In a forked process, which has none of the threads."""
    global _pool
    _pool, _allowed.threads = Pool(), 1


atexit.register(lambda: _pool.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: _pool.stop(), after_in_child=_start_anew)
