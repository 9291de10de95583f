"""Fuzz test of the command line: mutated cases, run folders and data files, each in a process of its own.

    python tests/fuzz/run.py --cases 1000 --runs 300 --files 300

Every command must end with 0, 2, 3 or 130; with one message unless with 0; without a traceback; with nothing written on
2; in less than 60 s and 2 GB. The mutation number n of a kind depends on the seed, the kind and n alone:
`--only cases:17` repeats one and prints what it prints. Failures are printed as they happen; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "DUCC0_NUM_THREADS": "1", "SUBGRID_THREADS": "1"}  # a fork keeps no threads
sys.path.insert(0, str(Path(__file__).parent))

import bases
import mutations
import numpy as np

KINDS = ("cases", "runs", "files")
MEMORY, SECONDS = 2 * 10**9, 60
WORTH_WARMING = 100  # cases; fewer load their kernels from numba's cache
EXITS = {0, 2, 3, 130}
VICTIM = b"a file that a link leads to"
BACKENDS = ("torch", "torch:meta", "torch:cpu", "cupy", "numpy", "[/red]", "torch:é", "a\0b", "torch:cpu:7")
OUTPUTS = (  # in the folder of the mutation alone: what is written elsewhere may be the machine's own
    "", ".", "x", "x" * 5000, "a\0b", "[/red]", "\x1b[2J", "caf\udce9", "case.toml", "case.toml/x",
    "pipe", "link", "absent/x",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, help=f"number of mutated {kind}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=20.0, help="seconds after which a valid run is interrupted")
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time")
    parser.add_argument("--only", help="one mutation, as in cases:17")
    options = parser.parse_args()
    wanted = [(kind, n) for kind in KINDS for n in range(getattr(options, kind))]
    if options.only:
        kind, _, number = options.only.partition(":")
        wanted = [(kind, int(number))]
    with tempfile.TemporaryDirectory(prefix="subgrid-fuzz-") as place:
        return Fuzz(Path(place), options).run(wanted, bool(options.only))


class Fuzz:
    """The parent process: it imports and compiles once, and forks one child per mutation."""

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        self.place, self.options = place, options
        self.small = bases.cases()
        self.running: dict[int, tuple[str, int, Path, float]] = {}
        self.asked: Counter[int] = Counter()
        self.failures: list[str] = []
        self.exits: Counter[str] = Counter()
        self.largest, self.longest = 0, 0.0

    def run(self, wanted: list[tuple[str, int]], verbose: bool) -> int:
        began = time.monotonic()
        self._warm({kind for kind, _ in wanted})
        print(f"warm after {time.monotonic() - began:.0f} s", flush=True)
        waiting = list(reversed(wanted))
        while waiting or self.running:
            while waiting and len(self.running) < self.options.jobs:
                self._start(*waiting.pop(), verbose)
            self._wait()
        exits = ", ".join(f"{kind} {n}" for kind, n in sorted(self.exits.items()))
        print(
            f"{len(wanted)} mutations, {len(self.failures)} failures; {exits}; at most {self.largest / 1e9:.2f} GB and "
            f"{self.longest:.1f} s; {time.monotonic() - began:.0f} s in all"
        )
        return 1 if self.failures else 0

    def _warm(self, kinds: set[str]) -> None:
        """Run every small case once: its modules are then imported and its kernels compiled. Make what is mutated."""
        from subgrid.solver.backend import select

        select("torch")
        for kind in KINDS:
            (self.place / kind).mkdir()
        os.environ["SUBGRID_CACHE"] = str(self.place / "warm-cache")
        os.chdir(self.place)
        if "cases" in kinds and self.options.cases >= WORTH_WARMING:
            for name, case in self.small.items():
                Path("warm.toml").write_bytes(mutations.toml(case) or b"")
                bases.done(["check", "warm.toml"])
                bases.done(["run", "warm.toml", "--out", f"warm-{name}"])
            bases.done(["compare", "warm.toml", "--out", "warm-compare"])
        for kind, make in (("runs", bases.make_runs), ("files", bases.make_files)):
            if kind in kinds:
                os.environ["SUBGRID_CACHE"] = str(self.place / kind / "cache")
                os.chdir(self.place / kind)
                with redirect_stderr(io.StringIO()):
                    make(self.place / kind)
        os.environ["SUBGRID_CACHE"] = "cache"

    def _start(self, kind: str, number: int, verbose: bool) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.place))
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            self._child(kind, number, folder, verbose)
        self.running[child] = (kind, number, folder, time.monotonic())

    def _child(self, kind: str, number: int, folder: Path, verbose: bool) -> None:
        """One mutation and its command; never returns."""
        code = 1
        try:
            rng = np.random.default_rng([self.options.seed, KINDS.index(kind), number])
            work = folder / "work"
            work.mkdir()
            os.chdir(work)
            (work / "victim").write_bytes(VICTIM)
            (work / "link").symlink_to("victim")
            os.mkfifo(work / "pipe")
            arguments, what = getattr(self, f"_{kind}")(rng, work)
            before = _listing(work)
            (folder / "what").write_text(f"subgrid {' '.join(arguments)!r:.300} | {what}", errors="backslashreplace")
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + 3 * MEMORY // 2,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if not verbose:
                for descriptor, name in ((1, "out"), (2, "err")):
                    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), descriptor)
            from subgrid.commands import cli, entry

            entry.handle_signals()
            try:
                code = cli.execute(arguments)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            if code == 2 and _listing(work) != before:
                sys.stderr.write(f"WRITTEN: {sorted(_listing(work) ^ before)[:5]}\n")
            sys.stderr.flush()
        except BaseException:
            (folder / "what").write_text(f"the harness failed: {traceback.format_exc()[-600:]}")
        finally:
            os._exit(code)

    def _cases(self, rng: np.random.Generator, work: Path) -> tuple[list[str], str]:
        name = mutations.pick(rng, sorted(self.small))
        case = json.loads(json.dumps(self.small[name]))
        others = list(self.small.values())
        what = [name]
        text = None
        if rng.random() < 0.8:
            what += [mutations.table(rng, case, others) for _ in range(mutations.pick(rng, (1, 1, 1, 2, 3)))]
            text = mutations.toml(case)
        if text is None:
            text, how = mutations.content(rng, mutations.toml(self.small[name]) or b"")
            what.append(how)
        (work / "case.toml").write_bytes(text)
        arguments = mutations.pick(rng, bases.commands(self.small[name]))
        if rng.random() < 0.1:
            arguments += ["--set", mutations.override(rng, case)]
        if rng.random() < 0.06:
            arguments += ["--backend", mutations.pick(rng, BACKENDS)]
        if rng.random() < 0.05:
            arguments += ["--out", mutations.pick(rng, OUTPUTS)]
        return arguments, "; ".join(what)

    def _runs(self, rng: np.random.Generator, work: Path) -> tuple[list[str], str]:
        name = f"{mutations.pick(rng, bases.RUNS)}-{mutations.pick(rng, ('interrupted', 'interrupted', 'finished'))}"
        shutil.copytree(self.place / "runs" / name, work / name, symlinks=True)
        if (cache := self.place / "runs" / "cache").is_dir():
            shutil.copytree(cache, work / "cache")
        what = [mutations.folder(rng, work / name) for _ in range(int(rng.integers(1, 3)))]
        return ["resume", name], "; ".join([name, *what])

    def _files(self, rng: np.random.Generator, work: Path) -> tuple[list[str], str]:
        shutil.copytree(self.place / "files", work, symlinks=True, dirs_exist_ok=True)
        name = mutations.pick(rng, sorted(bases.FILES))
        target = work / name
        what = mutations.folder(rng, target) if target.is_dir() else mutations.file(rng, target)
        arguments = list(mutations.pick(rng, bases.FILES[name]))
        if arguments[0] in ("run", "compare"):
            arguments += ["--out", "out"]
        return arguments, f"{name}: {what}"

    def _wait(self) -> None:
        """Collect the children that have ended; ask those that take long to stop, and end those that do not."""
        child, status, usage = os.wait4(-1, os.WNOHANG)
        if child:
            self._judge(child, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
            return
        for child, (_, _, _, began) in self.running.items():
            if time.monotonic() - began > SECONDS + 10:
                os.kill(child, signal.SIGKILL)
            elif time.monotonic() - began > self.options.patience + 10 * self.asked[child]:
                self.asked[child] += 1
                os.kill(child, signal.SIGINT)
        time.sleep(0.002)

    def _judge(self, child: int, code: int, memory: int) -> None:
        kind, number, folder, began = self.running.pop(child)
        seconds = time.monotonic() - began
        err = (folder / "err").read_text(errors="replace") if (folder / "err").exists() else ""
        self.exits[f"exit {code}"] += 1
        self.largest, self.longest = max(self.largest, memory), max(self.longest, seconds)
        wrong = []
        what = (folder / "what").read_text(errors="replace") if (folder / "what").exists() else "not started"
        if child in self.asked:
            print(f"{kind}:{number}: interrupted after {self.options.patience:g} s: {what[:300]}", flush=True)
        if code not in EXITS:
            wrong.append(f"exit {code}")
        if "Traceback" in err:
            wrong.append("a traceback")
        messages = sum(line.startswith("subgrid: ") for line in err.splitlines())
        if code in EXITS and not self.options.only and messages != (code != 0):
            wrong.append(f"{messages} messages")
        if (folder / "work").is_dir() and not (folder / "work" / "pipe").is_fifo():
            wrong.append("a pipe replaced")
        victim = folder / "work" / "victim"
        if victim.exists() and victim.read_bytes() != VICTIM:
            wrong.append("a file outside the folder written")
        if code == 2 and "WRITTEN" in err:
            wrong.append("something written")
        if seconds > SECONDS:
            wrong.append(f"{seconds:.0f} s")
        if memory > MEMORY:
            wrong.append(f"{memory / 1e9:.2f} GB")
        if wrong:
            tail = "\n    ".join(err.strip().splitlines()[-9:])
            self.failures.append(f"{kind}:{number}: {', '.join(wrong)}: {what[:700]}\n    {tail[-1500:]}")
            print(self.failures[-1], flush=True)
        shutil.rmtree(folder, ignore_errors=True)


def _listing(folder: Path) -> set[tuple[str, int, int]]:
    """Files with their sizes and times, without the cache, which a command may fill before it refuses."""
    found = set()
    for path in folder.rglob("*"):
        if "cache" not in path.relative_to(folder).parts:
            stat = path.lstat()
            of_file = (0, 0) if path.is_dir() else (stat.st_size, stat.st_mtime_ns)
            found.add((str(path.relative_to(folder)), *of_file))
    return found


if __name__ == "__main__":
    sys.exit(main())
