"""Work shared by the processes of a cluster: the bytes of one process, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from subgrid.commands.cli import execute
from subgrid.ingest import cluster as module
from subgrid.ingest.cache import cache
from subgrid.ingest.cluster import ClusterError, WorkersLost, cluster
from subgrid.ingest.pieces import cache_at
from subgrid.solver.case.reading import CaseError

SMALL = [
    "--set", "training.trajectories=5", "--set", "training.validation=1", "--set", "training.end=10.3",
    "--set", "reference.trajectories=4", "--set", "time.end=10.2", "--set", "reference.shape=[128]",
]  # fmt: skip


@pytest.fixture(scope="module")
def two():
    """Two workers, whose working directory and cache are not those of this process."""
    with cluster(2, None) as workers:
        assert workers is not None
        yield workers


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def compute(where: Path, monkeypatch, *options: str) -> dict[str, bytes]:
    monkeypatch.setenv("SUBGRID_CACHE", str(where))
    assert execute(["data", "burgers-forced", *SMALL, "--json", *options]) == 0
    return files(where)


def test_data_of_two_workers_have_the_bytes_of_one_process(tmp_path, monkeypatch):
    one = compute(tmp_path / "one", monkeypatch)
    two = compute(tmp_path / "two", monkeypatch, "--workers", "2")
    assert len(one) == 9 and one == two


WAVE = """
title = "a wave"
equation = { name = "burgers", viscosity = 0.0 }
grid = { shape = [32], length = [6.283185307179586] }
time = { end = 0.4, step = 0.02, stepper = "rk4" }
initial = { kind = "sine" }
output = { every = 0.1 }
"""


@pytest.fixture
def submitted(monkeypatch) -> list[int]:
    """Sizes of the groups of tasks that are sent to workers."""
    from distributed import Client

    sizes: list[int] = []
    submit = Client.submit

    def counting(client, function, *arguments, **options):
        sizes.append(len(arguments[1]))
        return submit(client, function, *arguments, **options)

    monkeypatch.setattr(Client, "submit", counting)
    return sizes


def test_a_sweep_of_two_workers_has_the_bytes_of_one_process_also_beside_a_run_that_fails(tmp_path, submitted):
    """Its short runs are carried out in groups, and the one that fails is in the middle of one."""
    (tmp_path / "case.toml").write_text(WAVE, encoding="utf-8")
    amplitudes = [str(1 + i / 40) for i in range(40)]
    amplitudes[20] = "1e6"
    vary = ["sweep", str(tmp_path / "case.toml"), "--vary", f"initial.amplitude={','.join(amplitudes)}", "--json"]
    assert execute([*vary, "--out", str(tmp_path / "one"), "--jobs", "1"]) == 0
    assert execute([*vary, "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    assert sum(submitted) >= 40 > len(submitted) and max(submitted) > 1
    for i in range(40):
        one, two = (files(tmp_path / name / f"{i:02d}" / "fields.zarr") for name in ("one", "two"))
        assert one and one == two
        assert [(tmp_path / name / f"{i:02d}" / "failure.json").exists() for name in ("one", "two")] == [i == 20] * 2


def quick(path: str, index: int) -> str:
    """Make a file unless it is there; the process is killed once in the middle."""
    file = Path(path) / str(index)
    if file.exists():
        return "found"
    if index == 40 and not (Path(path) / "killed").exists():
        (Path(path) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    file.touch()
    return "made"


def test_a_worker_that_is_killed_in_a_group_costs_what_has_not_ended(tmp_path, submitted):
    """What its group has done is found, and so is what answers that were still with the worker are about."""
    with cluster(1, None) as workers:
        answers = dict(workers.carry_out(quick, [(str(tmp_path), i) for i in range(60)]))
    assert sorted(answers) == list(range(60)) and len(submitted) < 60
    again = sorted(index for index, answer in answers.items() if answer == "found")
    assert again and again == list(range(again[0], 40))


def test_long_tasks_are_not_grouped_and_a_group_that_takes_too_long_gives_back_its_end(monkeypatch):
    monkeypatch.setattr(module, "TOGETHER", 0.1)
    groups, left = module._Groups(), deque(range(1000))
    assert len(groups.take(left, 2)) == 1
    groups.note(1, 0.01)
    assert len(groups.take(left, 2)) == 10
    groups.note(10, 30.0)
    assert len(groups.take(left, 2)) == 1
    groups.note(1, 0.0001)
    sizes = []
    while left:
        sizes.append(len(groups.take(left, 2)))
    assert sizes[0] == 988 // 4 and sizes == sorted(sizes, reverse=True) and sizes[-4:] == [1] * 4
    answers, seconds = module._carried_out(time.sleep, [(0.15,)] * 4)
    assert len(answers) == 2 and seconds >= 0.3


def test_the_tasks_that_a_group_gives_back_are_carried_out(two, submitted):
    seconds = [(1.1 if i in (25, 35, 45) else 0.001,) for i in range(66)]
    assert sorted(i for i, _ in two.carry_out(time.sleep, seconds)) == list(range(66))
    assert sum(submitted) > 66


def slow(path: str, index: int) -> int:
    """Leave the number of this process, wait, and answer."""
    file = Path(path) / f"{index}.{os.getpid()}"
    file.touch()
    time.sleep(1.0)
    return index


def test_the_threads_of_a_worker_have_the_cache_of_their_task(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "own"))

    def task(name: str) -> list[Path]:
        with cache_at(tmp_path / name):
            found = []
            for _ in range(20):
                found.append(cache())
                time.sleep(0.002)
            return found

    with ThreadPoolExecutor(4) as pool:
        for name, found in zip("abcd", pool.map(task, "abcd"), strict=True):
            assert set(found) == {tmp_path / name}
    assert cache() == tmp_path / "own"


def test_a_worker_that_is_killed_costs_its_task_alone(tmp_path):
    with cluster(2, None) as workers:
        ended = workers.carry_out(slow, [(str(tmp_path), i) for i in range(4)])
        found = [next(ended)[1]]
        begun = {p.name.partition(".")[0]: int(p.suffix[1:]) for p in tmp_path.iterdir()}
        os.kill(next(pid for index, pid in begun.items() if int(index) not in found), signal.SIGKILL)
        found += [answer for _, answer in ended]
    assert sorted(found) == [0, 1, 2, 3]


def deadly() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_kills_its_workers_is_given_up(monkeypatch):
    with cluster(1, None) as workers, pytest.raises(WorkersLost, match=r"has cost 4 workers.*Remedy"):
        list(workers.carry_out(deadly, [()]))


def wrong() -> None:
    raise CaseError("case", ["a mistake"])


def test_a_worker_on_this_machine_is_busy_while_it_carries_out_a_task(two):
    assert not two.busy_here()
    ended = two.carry_out(time.sleep, [(0.1,), (1.5,)])
    next(ended)
    assert two.busy_here()
    list(ended)
    assert not two.busy_here()


def stop() -> None:
    raise KeyboardInterrupt


def wait_for(release: str) -> None:
    for _ in range(1200):
        if Path(release).exists():
            return
        time.sleep(0.05)
    raise AssertionError("the wait was not ended before its task")


def test_a_wait_for_workers_is_ended_by_what_waiting_raises(two, tmp_path):
    """The task ends after the wait only."""
    with pytest.raises(KeyboardInterrupt):
        list(two.carry_out(wait_for, [(str(tmp_path / "release"),)], stop))
    (tmp_path / "release").touch()


def test_the_error_of_a_task_is_raised(two):
    with pytest.raises(ValueError, match="a mistake"):
        list(two.carry_out(wrong, [()]))


def test_a_folder_that_the_workers_do_not_see_is_reported(two, tmp_path, monkeypatch):
    two.require_shared(tmp_path)
    monkeypatch.setattr(module, "_sees", blind)
    with pytest.raises(ClusterError, match=r"is not shared with the workers on elsewhere. Remedy"):
        two.require_shared(tmp_path)
    with pytest.raises(ClusterError):
        two.require_shared(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def settings() -> tuple[bool, bool]:
    import dask

    return dask.config.get("distributed.worker.profile.enabled"), "MALLOC_TRIM_THRESHOLD_" in os.environ


def test_workers_on_this_machine_run_no_profiler_and_keep_freed_memory(two):
    assert list(two._ask(settings).values()) == [(False, False)] * 2


def blind(path: str) -> tuple[str, bool]:
    return "elsewhere", False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers 0: expected 1 or more"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "choose one"),
        (["--scheduler", "nonsense"], "--scheduler nonsense: "),
        (["--scheduler", "tls://127.0.0.1:9"], "--scheduler tls://127.0.0.1:9: does not answer"),  # no certificates
        (["--format", "npz", "--workers", "2"], "--format npz: one process writes it"),
    ],
)
def test_wrong_options_are_refused(options, message, capsys):
    assert execute(["data", "burgers-forced", *SMALL, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["data", "burgers-forced"],
        ["run", "burgers-forced", "--out", "out"],
        ["compare", "burgers-forced", "--out", "out"],
        ["sweep", "advection", "--vary", "equation.speed=0.5,1.0", "--out", "out"],
        ["tune", "burgers-forced", "--closure", "smagorinsky"],
    ],
)
def test_without_dask_the_options_are_refused_with_the_remedy(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    for options in (["--workers", "2"], ["--scheduler", "tcp://127.0.0.1:9"]):
        assert execute([*command, *options]) == 2
        assert "need Dask. Remedy: pip install 'subgrid[scale]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_workers_of_a_scheduler_and_a_scheduler_that_dies(tmp_path):
    """Everything that is finished is kept, and the same command goes on with another scheduler."""
    started: list[subprocess.Popen] = []

    def start(address: Path) -> str:
        environment = os.environ | {"SUBGRID_CACHE": str(tmp_path / "theirs")}
        options = ["--port", "0", "--no-dashboard", "--scheduler-file", str(address)]
        for program in (["scheduler", *options], ["worker", "--scheduler-file", str(address), "--nthreads", "1"]):
            command = [sys.executable, "-m", "distributed.cli.dask_" + program[0], *program[1:]]
            (tmp_path / program[0]).mkdir(exist_ok=True)
            started.append(
                subprocess.Popen(command, cwd=tmp_path / program[0], env=environment, stderr=subprocess.DEVNULL)
            )
            while not address.exists():
                time.sleep(0.05)
        return json.loads(address.read_text())["address"]

    try:
        with cluster(None, start(tmp_path / "first")) as workers:
            ended = workers.carry_out(time.sleep, [(1.0,)] * 3)
            assert next(ended)[1] is None
            started[0].kill()
            with pytest.raises(WorkersLost, match=r"scheduler is gone. Remedy"):
                list(ended)
        with cluster(None, start(tmp_path / "second")) as workers:
            assert sorted(i for i, _ in workers.carry_out(time.sleep, [(0.1,)] * 2)) == [0, 1]
    finally:
        for process in started:
            process.kill()
            process.wait()
