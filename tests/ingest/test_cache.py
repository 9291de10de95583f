"""The cache: its place, several processes at once, vanished folders, full disks."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from multiprocessing import get_context

import numpy as np
import pytest
import tomli_w

from subgrid.commands import cli
from subgrid.ingest import cache as cache_module
from subgrid.ingest import files, sweep, trajectories
from subgrid.ingest.cache import CacheError, cache, locked, say_waiting
from subgrid.ingest.requests import reference_request, training_request
from subgrid.ingest.sweep import runs
from subgrid.ingest.trajectories import generate
from subgrid.solver.backend import files as solver_files
from subgrid.solver.backend.files import FolderLock


def contents(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


# -- several processes at once ---------------------------------------------------------------------------------


def in_processes(count, work):
    """Run work() in forked processes that start together; their exit codes."""
    context = get_context("fork")
    barrier = context.Barrier(count)

    def start():
        barrier.wait()
        work()

    processes = [context.Process(target=start) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def counted(monkeypatch, module, log):
    """Let `build_simulation` of a module note each call in a file."""
    build = module.build_simulation

    def noting(*arguments, **options):
        with log.open("a") as file:
            file.write("x")
        return build(*arguments, **options)

    monkeypatch.setattr(module, "build_simulation", noting)


@pytest.mark.parametrize("request_of", [reference_request, training_request])
def test_processes_that_need_one_reference_compute_it_once(case, request_of, tmp_path, monkeypatch):
    counted(monkeypatch, trajectories, tmp_path / "log")
    assert in_processes(7, lambda: generate(case, request_of(case))) == [0] * 7
    assert (tmp_path / "log").read_text() == "x"
    assert np.isfinite(generate(case, request_of(case)).state).all()


def test_processes_that_need_one_sweep_compute_each_run_once(case, tmp_path, monkeypatch):
    counted(monkeypatch, sweep, tmp_path / "log")
    assert in_processes(7, lambda: runs(case, case.sweep.points()).states()) == [0] * 7
    assert (tmp_path / "log").read_text() == "xxx"
    assert sorted(f.suffix for f in (cache() / "sweep").iterdir()) == [".npz"] * 3


def test_a_process_that_waits_says_so_once_and_uses_the_result_of_the_other(case, monkeypatch, caplog):
    monkeypatch.setattr(solver_files, "LOCK_TIMEOUT", 0.05)
    request = reference_request(case)
    request.directory().mkdir(parents=True)
    found = []
    with FolderLock(request.directory()):
        waiting = threading.Thread(target=lambda: found.append(generate(case, request)))
        waiting.start()
        waiting.join(0.6)
        assert waiting.is_alive()
        said = [r.getMessage() for r in caplog.records]
        assert (
            len(said) == 1 and said[0].startswith("waiting for another process") and request.directory().name in said[0]
        )
        trajectories._generate(
            case, request, trajectories.start(case, request), lambda *_: None
        )  # what the other process does
    monkeypatch.setattr(trajectories, "_generate", lambda *_: pytest.fail("it was computed again"))
    waiting.join(30)
    assert found and len(caplog.records) == 1


def test_a_lock_on_a_folder_that_was_deleted_meanwhile_is_taken_again(tmp_path, monkeypatch):
    """The process that waited holds the lock on the folder that is there now, not on the deleted one."""
    monkeypatch.setattr(solver_files, "LOCK_TIMEOUT", 0.05)
    folder, inside = tmp_path / "entry", threading.Event()

    def work():
        with locked(folder, lambda: None):
            assert folder.is_dir()
            inside.set()

    folder.mkdir()
    with FolderLock(folder):
        waiting = threading.Thread(target=work)
        waiting.start()
        waiting.join(0.3)
        folder.rmdir()
        assert not inside.is_set()
    waiting.join(30)
    assert inside.is_set()


def test_trainings_with_one_target_or_one_folder_of_checkpoints_wait(case, tmp_path, monkeypatch, caplog):
    from subgrid.commands.train import train

    monkeypatch.setattr(solver_files, "LOCK_TIMEOUT", 0.05)
    options = {"modes": 4, "latent": 2, "widths": [4], "degree": 1, "steps": 4, "stages": 1, "stride": 2, "threads": 1}
    case = case.model_copy(update={"train": {"lasdi": options}})
    whole = train(case, "lasdi", out=tmp_path / "w.safetensors", progress=False)["weights"].read_bytes()
    (work,) = cache().glob("training-*")
    taken = []
    original = cache_module.FolderLock
    monkeypatch.setattr(
        cache_module, "FolderLock", lambda folder, wait: (taken.append(folder), original(folder, wait))[1]
    )
    train(case, "lasdi", out=tmp_path / "w.safetensors", progress=False)
    target = taken[0]
    assert taken[-1] == work and not target.exists()
    for folder in (target, work):
        folder.mkdir(exist_ok=True)
        (tmp_path / "w.safetensors").unlink()
        caplog.clear()
        with FolderLock(folder):
            waiting = threading.Thread(target=train, args=(case, "lasdi"), kwargs={"out": tmp_path / "w.safetensors"})
            waiting.start()
            waiting.join(1.0)
            assert waiting.is_alive() and not (tmp_path / "w.safetensors").exists()
            assert [r.getMessage().split(",")[0] for r in caplog.records] == ["waiting for another process"]
        waiting.join(60)
        assert (tmp_path / "w.safetensors").read_bytes() == whole


# -- disks and folders -----------------------------------------------------------------------------------------


def test_a_full_disk_is_noticed_when_files_are_allocated(case, monkeypatch):
    """A map of a file without allocated blocks would kill the process with SIGBUS."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device.*state\.npy") as caught:
        generate(case, reference_request(case))
    assert caught.value.errno == errno.ENOSPC
    assert sorted(contents(reference_request(case).directory())) == ["request.json"]


def test_files_are_allocated_where_the_system_has_no_call_for_it(case, monkeypatch):
    expected = contents(generate(case, reference_request(case)).directory)
    shutil.rmtree(cache())
    monkeypatch.delattr(os, "posix_fallocate")
    assert contents(generate(case, reference_request(case)).directory) == expected


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_cache_that_is_deleted_during_the_generation_is_named(seconds, case, monkeypatch):
    monkeypatch.setattr(files, "CHECKPOINT_SECONDS", seconds)

    def delete(done, total, what):
        if done == 100:
            shutil.rmtree(cache())

    with pytest.raises(CacheError, match=r"was deleted while it was in use. Remedy: run the command again"):
        generate(case, reference_request(case), delete)
    generate(case, reference_request(case))


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/subgrid", "x" * 300])
def test_a_cache_that_cannot_be_written_is_refused_with_the_remedy(place, pulse, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "case.toml").write_text(tomli_w.dumps(pulse))
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / place))
    monkeypatch.chdir(tmp_path)
    assert cli.execute(["data", "case.toml"]) == cli.MISTAKE
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / place) in error and "Remedy: set SUBGRID_CACHE" in error


def test_a_cache_that_can_only_be_read_serves_what_it_contains(case, monkeypatch):
    made = generate(case, reference_request(case))
    swept = runs(case, case.sweep.points()).states()

    def refuse(path, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(solver_files, "replace", refuse)
    monkeypatch.setattr(os, "mkdir", refuse)
    assert np.array_equal(generate(case, reference_request(case)).state, made.state)
    assert np.array_equal(runs(case, case.sweep.points()).states(), swept)
    with pytest.raises(CacheError, match=r"cannot be used: .*Read-only file system. Remedy: set SUBGRID_CACHE"):
        generate(case, training_request(case))


def test_a_relative_cache_stays_where_it_was_and_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBGRID_CACHE", f"relative-{tmp_path.name}")
    place = cache()
    assert place == tmp_path / f"relative-{tmp_path.name}"
    monkeypatch.chdir("/")
    assert cache() == place
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SUBGRID_CACHE", f"~/{tmp_path.name}")
    assert cache() == tmp_path / tmp_path.name


def test_without_a_home_directory_the_remedy_is_named(monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(CacheError, match=r"there is no home directory\. Remedy: set SUBGRID_CACHE"):
        cache()


def test_waiting_is_said_once(caplog):
    say = say_waiting("something")
    say()
    say()
    assert [r.getMessage() for r in caplog.records] == ["waiting for another process, which makes something"]
