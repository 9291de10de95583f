"""Whatever is wrong with a case file: exit code 2, one message that names every mistake by its key, nothing written."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subgrid.commands import cli
from subgrid.solver.case.reading import CaseError, check, read
from subgrid.solver.equations import EQUATIONS
from subgrid.solver.simulation import Simulation

CASES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "cases").glob("*.toml"))}
COMMANDS = (["check"], ["run"], ["compare"], ["data"], ["train", "--closure", "regression"])
Path_ = tuple[str | int, ...]


def shipped(name: str) -> dict[str, Any]:
    """A shipped case, its paths made absolute."""
    data = tomllib.loads(CASES[name].read_text())
    initial = data.get("reference", {}).get("initial", {})
    if "path" in initial:
        initial["path"] = str(CASES[name].parent / initial["path"])
    return data


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value that is not a table or a list of tables, with its path; free-form tables are left out."""
    if path in (("train",), ("expected",)):
        return
    tables = isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value)
    if isinstance(value, dict) or tables:
        for k, v in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(v, (*path, k))
    else:
        yield path, value


def at(data: Any, path: Path_) -> Any:
    for part in path:
        data = data[part]
    return data


def put(data: Any, path: Path_, value: Any) -> None:
    at(data, path[:-1])[path[-1]] = value


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


def particles(data: dict) -> bool:
    return "entities" in data["grid"]


def points(data: dict) -> list[int]:
    return [data["grid"]["entities"]] if particles(data) else data["grid"]["shape"]


# Each mutation spoils a case in place and returns the key that the message must name, or None if it does not apply.


def missing(data: dict, draw: Callable) -> str | None:
    required = ["title", "equation", "equation.name", "grid", "grid.shape", "grid.length", "time", "time.end"]
    required += ["time.stepper", "initial", "initial.kind", "output", "output.every"]
    if particles(data):
        required = [key for key in required if key not in ("grid.shape", "grid.length")]
    path = tuple(draw(st.sampled_from(required)).split("."))
    del at(data, path[:-1])[path[-1]]
    return f"{dotted(path)}: missing"


def misspelt(data: dict, draw: Callable) -> str | None:
    path, value = draw(st.sampled_from([(p, v) for p, v in leaves(data) if isinstance(p[-1], str)]))
    wrong = draw(st.sampled_from([path[-1] + "s", path[-1] + "_", path[-1].upper(), "x" + path[-1]]))
    del at(data, path[:-1])[path[-1]]
    put(data, (*path[:-1], wrong), value)
    if path[-1] in ("name", "kind", "path"):
        inner = path[:-1] if path[0] in ("closure", "compare") else path
        if path[-2] == "initial" or path[-1] != "kind":
            return f"{dotted(inner)}: "
    if path[:2] == ("sweep", "parameters"):
        return f"{dotted((*path[:-1], wrong))}: "
    return f"{dotted((*path[:-1], wrong))}: unknown key"


def mistyped(data: dict, draw: Callable) -> str | None:
    path, value = draw(st.sampled_from(list(leaves(data))))
    if isinstance(value, list):
        wrong: Any = draw(st.sampled_from(["text", 3, True]))
    elif isinstance(value, str):
        wrong = draw(st.sampled_from([3, 0.5, False, [1]]))
    else:
        wrong = draw(st.sampled_from([str(value), "text", [value], {"value": value}] + [True] * (value is not True)))
    put(data, path, wrong)
    if path[:2] == ("compare", "closures") and isinstance(value, str):
        return dotted(path[:3])
    return f"{dotted(path)}: "


def out_of_range(data: dict, draw: Callable) -> str | None:
    positive = {"shape", "length", "step", "cfl", "every", "members", "trajectories", "validation", "tau", "exponent"}
    positive |= {"width", "wavenumber", "checkpoint_every", "correlation_threshold"}
    numbers = [(*p, i) for p, v in leaves(data) if isinstance(v, list) for i in range(len(v)) if p[-1] in positive]
    numbers += [p for p, v in leaves(data) if p[-1] in positive and isinstance(v, (int, float))]
    path = draw(st.sampled_from(numbers))
    put(data, path, draw(st.sampled_from([0, -1])))
    return f"{dotted(path)}: "


def not_finite(data: dict, draw: Callable) -> str | None:
    path, _ = draw(st.sampled_from([(p, v) for p, v in leaves(data) if type(v) in (int, float)]))
    put(data, path, draw(st.sampled_from([float("nan"), float("inf"), -float("inf")])))
    return f"{dotted(path)}: "


def huge(data: dict, draw: Callable) -> str | None:
    if particles(data):
        data["grid"]["entities"] = n = draw(st.sampled_from([10**10, 10**15, 10**400]))
        return "grid.entities: a state" if n < 10**400 else "grid.entities: expected an integer of 64 bits"
    n = draw(st.sampled_from([10**10, 10**15, 10**400]))
    if draw(st.booleans()):
        data["grid"]["shape"] = [n] * len(data["grid"]["shape"])
        return "grid.shape: " if n < 10**400 else "grid.shape.0: expected an integer of 64 bits"
    data.setdefault("ensemble", {})["members"] = n
    return "grid.shape: a state" if n < 10**400 else "ensemble.members: expected an integer of 64 bits"


def unknown_name(data: dict, draw: Callable) -> str | None:
    path = draw(st.sampled_from([("equation", "name"), ("time", "stepper"), ("initial", "kind")]))
    put(data, path, at(data, path) + draw(st.sampled_from(["x", "-2", " "])))
    return f"{dotted(path)}: "


def bad_closure(data: dict, draw: Callable) -> str | None:
    name = {"name": draw(st.sampled_from(["leith", "smagorinsky", "hyperviscosity"]))}
    wrong, key = draw(
        st.sampled_from(
            [
                (name | {"nonsense": 1}, ".nonsense"),
                (name | {"every": 0}, ".every"),
                (name | {"hold": "quadratic"}, ".hold"),
                (name | {"weight": "half"}, ".weight"),
                ({"name": "smagorinsky", "coefficient": -0.1}, ".coefficient"),
                ({"name": "smagorinsky", "coefficient": "0.1"}, ".coefficient"),
                ({"name": "hyperviscosity", "order": 1.5}, ".order"),
                ({"name": "smagorinsk"}, ""),
                ({"every": 2}, ""),
                ({"name": "leith", "path": "a.py:A"}, ""),
                ({"path": "absent.py:A"}, ".path"),
                ({"path": "without-a-class.py"}, ".path"),
                ("leith!", ""),
                (7, ""),
            ]
        )
    )
    if draw(st.booleans()):
        data["compare"] = data.get("compare", {}) | {"closures": [wrong]}
        return f"compare.closures.0{key}: "
    data["closure"] = [{"name": "none"}, wrong]
    return f"closure.1{key}: " if isinstance(wrong, dict) or wrong == "leith!" else "closure.1: "


def contradictory(data: dict, draw: Callable) -> str | None:
    def end_first(d: dict) -> str:
        d["time"]["end"] = d["time"].get("start", 0.0) - 1.0
        return "time.end: "

    def no_step(d: dict) -> str:
        d["time"].pop("step", None)
        d["time"].pop("cfl", None)
        return "time.step: "

    def odd_outputs(d: dict) -> str | None:
        if "step" not in d["time"]:
            return None
        d["output"]["every"] = d["time"]["step"] * 1.5
        return "output.every: "

    def too_many_axes(d: dict) -> str:
        shape = points(d)
        d["grid"] = {"shape": [16] * (3 - len(shape)), "length": [1.0] * (3 - len(shape))}
        return "grid.shape: "

    def one_length(d: dict) -> str | None:
        if particles(d):
            return None
        d["grid"]["length"] = [1.0] * (3 - len(points(d)))
        return "grid.length: "

    def other_field(d: dict) -> str:
        d["output"]["fields"] = ["temperature"]
        return "output.fields: "

    def two_references(d: dict) -> str:
        d["reference"] = {"exact": True, "shape": [4 * n for n in points(d)]}
        return "reference.shape: "

    def coarse_reference(d: dict) -> str | None:
        if "shape" not in d.get("reference", {}):
            return None
        d["reference"]["shape"] = [n // 2 for n in points(d)]
        return "reference.shape: "

    def uneven_members(d: dict) -> str | None:
        if "shape" not in d.get("reference", {}):
            return None
        d["reference"]["trajectories"] = 3
        d["ensemble"] = {"members": 4}
        return "ensemble.members: "

    def shared_seed(d: dict) -> str | None:
        if "training" not in d:
            return None
        d["training"]["seed"] = d["reference"].get("seed", 0)
        return "training.seed: "

    def training_alone(d: dict) -> str:
        d.pop("reference", None)
        d["training"] = {"trajectories": 2, "start": 0.0, "end": 1.0, "every": 0.5}
        return "training: "

    def no_reference(d: dict) -> str:
        d.pop("reference", None)
        d.pop("training", None)
        d["initial"] = {"kind": "reference"}
        return "initial.kind: "

    def oracle_alone(d: dict) -> str | None:
        if d["initial"]["kind"] == "reference":
            return None
        d.pop("reference", None)
        d.pop("training", None)
        d["closure"] = [{"name": "oracle"}]
        return "closure.0: "

    def unfit_initial(d: dict) -> str:
        one = len(points(d)) == 1
        d["initial"] = {"kind": "taylor-green"} if one else {"kind": "sine"}
        return "initial: "

    def no_closed_form(d: dict) -> str | None:
        if d["equation"].get("boundary") == "dirichlet" or d["equation"]["name"] == "shallow-water":
            return None
        if d["equation"]["name"] == "tracers":
            d["initial"] = d["reference"]["initial"]
        elif not particles(d):
            d["initial"] = {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0}
        d["reference"] = {"exact": True}
        d.pop("training", None)
        return "reference.exact: "

    def too_late(d: dict) -> str | None:
        if "shape" not in d.get("reference", {}):
            return None
        d["reference"]["start"] = d["time"].get("start", 0.0) + 1.0
        return "reference.start: "

    def absent_file(d: dict) -> str:
        d["initial"] = {"kind": "file", "path": "absent.npz"}
        return "initial.path: "

    def field_of_entities(d: dict) -> str | None:
        if particles(d):
            return None
        d["grid"] = {"entities": 16}
        return "grid.entities: "

    def entities_and_shape(d: dict) -> str:
        d["grid"] |= {"entities": 5, "shape": [16]}
        return "grid.entities: "

    def more_entities(d: dict) -> str | None:
        if not particles(d) or d["equation"]["name"] == "tracers":  # whose flow has a finer grid
            return None
        d["reference"]["shape"] = [2 * n for n in points(d)]
        return "reference.shape: must be the number of entities"

    def wrong_for_particles(d: dict) -> str | None:
        if not particles(d) or d["equation"]["name"] == "tracers":
            return None
        table, key, value = draw(
            st.sampled_from(
                [
                    ("time", "cfl", 0.5),
                    ("time", "stepper", "etdrk2"),
                    ("equation", "noise", {"amplitude": 0.1, "correlation": 0.1}),
                    ("equation", "force", "magnetic"),
                    ("equation", "softening", -0.1),
                    ("initial", "kind", "two-body"),
                ]
            )
        )
        d[table][key] = value
        return f"{table}: " if value == "two-body" else f"{table}.{key}: "

    def endless(d: dict) -> str:
        d["time"] |= {"end": 1e300}
        return "output.every: "

    choices = [v for k, v in locals().items() if callable(v) and k != "draw"]
    return draw(st.sampled_from(choices))(data)


SIMPLE = (missing, misspelt, mistyped, out_of_range, not_finite, unknown_name, bad_closure)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch, tmp_path):
    """A faulty case that is accepted fails the test at once; the working directory and the cache are empty folders."""

    def accepted(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a faulty case was accepted")

    monkeypatch.setattr(Simulation, "__init__", accepted)
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def refused(text: str | bytes, verb: list[str], tmp_path: Path, capsys: Any, *more: str) -> str:
    """Run a command on a case file of this content; the message, after the checks that hold for any bad input."""
    file = tmp_path / "case.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    code = cli.execute([verb[0], str(file), *verb[1:], "--out", str(tmp_path / "out"), *more])
    out, err = capsys.readouterr()
    assert code == cli.MISTAKE, f"exit {code}: {out}{err}"
    assert out == ""
    assert err.startswith("subgrid: ") and err.count("subgrid: ") == 1
    assert "Traceback" not in err and "pydantic" not in err and "function-" not in err
    assert all(len(line) < 500 for line in err.splitlines())
    assert sorted(tmp_path.rglob("*")) == before
    return err


def named(key: str, message: str) -> bool:
    """Whether a line of the message begins with the key."""
    return any(line.strip().startswith(key) for line in message.splitlines())


relaxed = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@relaxed
@given(data=st.data())
def test_any_mistake_is_named_by_its_key(data, tmp_path, capsys):
    case = shipped(data.draw(st.sampled_from(sorted(CASES))))
    mutation = data.draw(st.sampled_from((*SIMPLE, huge)))
    key = mutation(case, data.draw)
    verb = data.draw(st.sampled_from(COMMANDS))
    if key is not None:
        message = refused(tomli_w.dumps(case), verb, tmp_path, capsys)
        assert named(key, message), f"{key!r} is not named in {message}"


@relaxed
@given(data=st.data())
def test_any_contradiction_is_named_by_its_key(data, tmp_path, capsys):
    case = shipped(data.draw(st.sampled_from(sorted(CASES))))
    key = contradictory(case, data.draw)
    if key is not None:
        message = refused(tomli_w.dumps(case), data.draw(st.sampled_from(COMMANDS)), tmp_path, capsys)
        assert named(key, message), f"{key!r} is not named in {message}"


@relaxed
@given(data=st.data())
def test_mistakes_in_several_tables_are_all_named(data, tmp_path, capsys):
    case = shipped(data.draw(st.sampled_from(sorted(CASES))))
    keys: dict[str, str] = {}
    for mutation in data.draw(st.lists(st.sampled_from(SIMPLE), min_size=2, max_size=5)):
        spoiled = copy.deepcopy(case)
        try:
            key = mutation(spoiled, data.draw)
        except (KeyError, TypeError):  # what it would spoil is gone already
            continue
        head = key.partition(".")[0].partition(":")[0]
        if head not in keys:
            keys[head], case = key, spoiled
    message = refused(tomli_w.dumps(case), data.draw(st.sampled_from(COMMANDS)), tmp_path, capsys)
    for key in keys.values():
        assert named(key, message), f"{key!r} is not named in {message}"


@relaxed
@given(data=st.data())
def test_a_file_that_is_not_toml_is_refused_with_its_line(data, tmp_path, capsys):
    name = data.draw(st.sampled_from(sorted(CASES)))
    lines = CASES[name].read_text().splitlines()
    whole = [i for i, line in enumerate(lines) if line.startswith("[") or " = " in line]
    place = data.draw(st.sampled_from(whole))
    lines.insert(
        place, data.draw(st.sampled_from(["= 3", "key", "[grid", "a = ", "b = 1 2", 's = "open', "]", "é = 1"]))
    )
    assert "not TOML" in refused("\n".join(lines), data.draw(st.sampled_from(COMMANDS)), tmp_path, capsys)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"title = '\x00'", b"a = " + b"[" * 5000, b"[a]\n[a]\n"])
def test_bytes_that_no_editor_writes_are_refused(content, tmp_path, capsys):
    assert "not TOML" in refused(content, ["check"], tmp_path, capsys)


@settings(relaxed, max_examples=100)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    ),
    table=st.sampled_from(["title", "equation", "grid", "time", "initial", "ensemble", "closure", "guard", "output"])
    | st.sampled_from(["reference", "training", "train", "compare"]),
)
def test_a_table_of_anything_is_refused_or_read(data, table, tmp_path):
    """No value whatever in place of a table raises anything but CaseError."""
    case = shipped("taylor-green") | {table: data}
    try:
        check(case, "case", tmp_path)
    except CaseError as error:
        assert error.mistakes


SPOILT = """
titel = "spoilt"
[equation]
name = "kolmogorov"
viscosity = "0.1"
forcing = { kind = "sine", amplitde = 1.0, wavenumber = 4 }
omit = ["advektion"]
[grid]
shape = [64, true]
length = [6.28]
[time]
end = "late"
stepper = "etd4"
[initial]
kind = "gaussian-random-field"
exponent = -2
[ensemble]
members = 1.5
[[closure]]
name = "smagorinski"
[[closure]]
name = "smagorinsky"
evry = 2
coefficient = -1
[output]
every = nan
checkpoint_every = "soon"
[reference]
trajectories = 0
initial = { kind = "sin" }
[train.regresion]
[compare]
closures = [
    "leit",
    [{ name = "none", speed = 2 }, 3],
    { closures = [{ name = "leith", coefficient = "a" }], lbel = "x" },
]
metrics = ["crsp"]
"""
EVERY_MISTAKE = {
    "titel", "title", "equation.viscosity", "equation.forcing.amplitde", "equation.forcing.amplitude", "equation.omit",
    "grid.shape.1", "time.end", "time.stepper", "initial.exponent", "initial.tau", "ensemble.members", "closure.0",
    "closure.1.evry", "closure.1.coefficient", "output.every", "output.checkpoint_every", "reference.trajectories",
    "reference.initial.kind", "train", "compare.closures.0", "compare.closures.1.0.speed", "compare.closures.1.1",
    "compare.closures.2.lbel", "compare.closures.2.closures.0.coefficient", "compare.metrics.0",
}  # fmt: skip


def test_every_mistake_of_a_spoilt_file_is_reported_once_with_the_nearest_name(tmp_path, capsys):
    message = refused(SPOILT, ["run"], tmp_path, capsys)
    first, *lines = message.splitlines()
    assert first.endswith(f"{len(lines)} mistakes")
    keys = [line.strip().partition(": ")[0] for line in lines]
    assert sorted(keys) == sorted(EVERY_MISTAKE)
    for wrong, right in [("titel", "title"), ("evry", "every"), ("smagorinski", "smagorinsky"), ("etd4", "etdrk4")]:
        assert any(wrong in line and f"did you mean {right!r}" in line for line in lines)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("grid.shape", "must read table.key=value"),
        ("=3", "must read table.key=value"),
        ("title.length=3", "is not in a table"),
        ("closure.7.every=2", "is not in a table"),
        ("time.stepper=euler", "time.stepper: 'euler' is not known; did you mean 'cn-euler'?"),
        ("time.sept=0.1", "time.sept: unknown key; did you mean 'step'?"),
        ("grid.shape=[64", "grid.shape: "),
    ],
)
def test_a_bad_override_is_refused(override, expected, tmp_path, capsys):
    data = tomli_w.dumps(shipped("kolmogorov-les"))
    assert expected in refused(data, ["run"], tmp_path, capsys, "--set", override)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class A:\n    pass\n", "is not a subclass of subgrid.Closure"),
        (
            "from subgrid.solver.closure import Closure\nclass A(Closure):\n    pass\n",
            "does not define __call__ and start",
        ),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit(0)\n", "SystemExit"),
        ("B = 1\n", "defines no A"),
    ],
)
def test_a_plugin_file_that_cannot_be_used_is_refused_with_the_reason(source, expected, tmp_path, capsys):
    case = shipped("taylor-green") | {"closure": [{"path": "plugin.py:A"}]}
    (tmp_path / "plugin.py").write_text(source)
    (tmp_path / "__pycache__").mkdir()
    file = tmp_path / "case.toml"
    file.write_text(tomli_w.dumps(case))
    assert cli.execute(["check", "--import", str(file)]) == cli.MISTAKE
    message = capsys.readouterr().err
    assert expected in message and str(tmp_path / "plugin.py") in message and named("closure.0.path: ", message)


def test_paths_of_a_case_are_relative_to_its_folder_and_absolute_once_read(tmp_path):
    (tmp_path / "plugin.py").write_text(
        "from pathlib import Path\n\nfrom subgrid.closures.none import NoClosure\n\n"
        "class A(NoClosure):\n    table: Path | None = None\n    hint: str | None = None\n"
    )
    (tmp_path / "table.npz").touch()
    case = shipped("taylor-green") | {
        "closure": [{"path": "plugin.py:A", "table": "table.npz", "hint": "table.npz"}],
        "compare": {"closures": [{"path": "plugin.py:A", "table": "elsewhere.npz"}]},
    }
    (tmp_path / "case.toml").write_text(tomli_w.dumps(case))
    resolved = read(tmp_path / "case.toml").resolved()
    assert resolved["closure"][0]["path"] == f"{tmp_path / 'plugin.py'}:A"
    assert resolved["closure"][0]["table"] == str(tmp_path / "table.npz")
    assert resolved["closure"][0]["hint"] == "table.npz", "a string is no path, even if a file has this name"
    assert resolved["compare"]["closures"][0]["closures"][0]["table"] == str(tmp_path / "elsewhere.npz")


def test_files_named_within_the_equation_and_the_reference_are_found_beside_the_case(tmp_path):
    for name, array, shape in (("bottom.npz", "bathymetry", (16, 24)), ("water.npz", "state", (3, 16, 24))):
        np.savez(tmp_path / name, **{array: np.ones(shape)})
    bottom = {"bathymetry": {"kind": "file", "path": "bottom.npz"}}
    reference = {"shape": [16, 24], "initial": {"kind": "file", "path": "water.npz"}}
    case = WATER | {"equation": WATER["equation"] | bottom, "initial": {"kind": "reference"}, "reference": reference}
    (tmp_path / "case.toml").write_text(tomli_w.dumps(case))
    resolved = read(tmp_path / "case.toml").resolved()
    assert resolved["equation"]["bathymetry"]["path"] == str(tmp_path / "bottom.npz")
    assert resolved["reference"]["initial"]["path"] == str(tmp_path / "water.npz")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "case.toml").write_text(tomli_w.dumps(resolved))
    assert read(tmp_path / "elsewhere" / "case.toml").resolved() == resolved


@pytest.mark.parametrize("name", CASES)
def test_a_resolved_case_reads_as_itself(name, tmp_path):
    """case.toml of a run holds every default, and reading it changes nothing: that is what a resume relies on."""
    case = read(CASES[name])
    (tmp_path / "case.toml").write_text(tomli_w.dumps(case.resolved()))
    again = read(tmp_path / "case.toml")
    assert again.resolved() == case.resolved()
    assert again.build_equation() == case.build_equation()
    assert set(case.resolved()["equation"]) >= {"name", "omit"}
    assert case.equation["name"] in EQUATIONS


WATER: dict[str, Any] = {
    "title": "water",
    "equation": {"name": "shallow-water"},
    "grid": {"shape": [8, 12], "length": [1.0, 1.0]},
    "time": {"end": 0.1, "step": 0.05, "cfl": 0.4, "stepper": "ssp-rk2"},
    "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 20.0},
    "output": {"every": 0.05},
}
PLASMA: dict[str, Any] = {
    "title": "plasma",
    "equation": {"name": "vlasov-poisson"},
    "grid": {"shape": [16, 12], "length": [12.0, 12.5], "origin": [-6.0, 0.0]},
    "time": {"end": 0.1, "step": 0.05, "stepper": "strang"},
    "initial": {"kind": "landau"},
    "output": {"every": 0.05},
}
FILES = {
    "wrong.npz": {"bathymetry": np.zeros((8, 10))},
    "coarse.npz": {"bathymetry": np.zeros((4, 6))},
    "fine.npz": {"bathymetry": np.zeros((16, 24))},
    "line.npz": {"bathymetry": np.zeros(12)},
    "words.npz": {"bathymetry": np.full((8, 12), "a")},
    "complex.npz": {"bathymetry": np.full((8, 12), 1j)},
    "hole.npz": {"bathymetry": np.full((8, 12), np.nan)},
    "other.npz": {"depth": np.zeros((8, 12))},
    "drained.npz": {"state": np.full((3, 8, 12), -1.0)},
    "text.npz": b"no array",
    "cut.npz": b"PK\x03\x04",
    "text.nc": b"no array",
}


def sides(**other: str) -> dict[str, Any]:
    return {"boundary": dict.fromkeys(("left", "right", "bottom", "top"), "wall") | other}


def bottom(kind: str = "file", **options: Any) -> dict[str, Any]:
    return {"bathymetry": {"kind": kind, **options}}


BUMP = {"height": 1.0, "width": 1.0, "centre": [0.0, 0.0]}
BOWL = {"kind": "paraboloid", "depth": 1.0, "radius": 1.0}
FILE_FAULTS = {
    "absent.npz": "there is no file",
    "wrong.npz": "has [8, 10] cells, expected a whole multiple of the grid's [8, 12]",
    "coarse.npz": "expected a whole multiple of the grid's [8, 12]",
    "line.npz": "must be finite real numbers of shape (y, x), found float64 of shape (12,)",
    "words.npz": "must be finite real numbers of shape (y, x), found <U1",
    "complex.npz": "must be finite real numbers of shape (y, x), found complex128",
    "hole.npz": "must be finite real numbers of shape (y, x)",
    "other.npz": "contains the arrays ['depth'], expected 'bathymetry'. Remedy",
    "text.npz": "is not an intact .npz file with arrays of numbers",
    "cut.npz": "is not an intact .npz file with arrays of numbers",
    "text.nc": "is not an intact .npz file with arrays of numbers",
}


@pytest.mark.parametrize(
    ("base", "change", "key", "words"),
    [
        (WATER, {"equation": sides(left="periodic")}, "equation.boundary",
         "left and right must both be periodic or neither, found 'periodic' and 'wall'"),
        (WATER, {"equation": sides(top="dirichlet")}, "equation.boundary.top", "'periodic', 'wall' or 'open', found"),
        (WATER, {"equation": {"boundary": "reflecting"}}, "equation.boundary", "'wall' or 'open', found 'reflecting'"),
        (WATER, {"equation": {"boundary": ["wall"]}}, "equation.boundary", "expected a table, found ['wall']"),
        (WATER, {"equation": {"boundary": {"left": "wall"}}}, "equation.boundary.right", "missing; it is required"),
        (WATER, {"equation": {"boundary": "wall"}}, "initial", 'Remedy: set equation.boundary = "periodic"'),
        (WATER, {"equation": {"noise": {"amplitude": 0.1, "correlation": 0.1}}}, "equation.noise",
         "Remedy: remove equation.noise"),
        (WATER, {"equation": {"gravity": 0.0}}, "equation.gravity", "expected greater than 0, found 0.0"),
        (WATER, {"equation": {"reconstruction": "weno"}}, "equation.reconstruction", "'muscl' or 'weno5'"),
        (WATER, {"equation": bottom("bump")}, "equation.bathymetry.kind", "expected one of: 'flat', 'paraboloid'"),
        (WATER, {"equation": {"bathymetry": {"path": "fine.npz"}}}, "equation.bathymetry.kind", "missing"),
        (WATER, {"equation": {"bathymetry": "flat"}}, "equation.bathymetry", "expected a table, found 'flat'"),
        (WATER, {"equation": bottom()}, "equation.bathymetry.path", "missing; it is required"),
        (WATER, {"equation": bottom(path=3)}, "equation.bathymetry.path", "expected a string, found 3"),
        (WATER, {"equation": bottom("bumps", bumps=[BUMP | {"width": 0.0}])}, "equation.bathymetry.bumps.0.width",
         "expected greater than 0, found 0.0"),
        (WATER, {"equation": {"bathymetry": BOWL | {"center": [0.0, 0.0]}}},
         "equation.bathymetry.center", "did you mean 'centre'?"),
        (WATER, {"equation": bottom("bumps", bumps=[BUMP | {"size": 1.0}])},
         "equation.bathymetry.bumps.0.size", "expected one of: height, width, centre"),
        *((WATER, {"equation": bottom(path=f)}, "equation.bathymetry.path", w) for f, w in FILE_FAULTS.items()),
        (WATER, {"equation": bottom(path="fine.npz"), "reference": {"shape": [32, 48]}},
         "equation.bathymetry.path", "expected a whole multiple of the grid's [32, 48]"),
        (WATER, {"initial": {"kind": "file", "path": "drained.npz"}}, "initial", "is not admissible for shallow-water"),
        (WATER, {"initial": {"kind": "file", "path": "text.npz"}}, "initial.path", "is not an intact .npz file"),
        (WATER, {"initial": {"kind": "file", "path": "cut.npz"}}, "initial.path", "is not an intact .npz file"),
        (WATER, {"initial": {"kind": "file", "path": "words.npz"}}, "initial.path", "Remedy: name the array 'state'"),
        (WATER, {"initial": {"kind": "landau"}}, "initial", "for the equation vlasov-poisson, not for shallow-water"),
        (WATER, {"time": {"stepper": "strang"}}, "time.stepper", "strang does not fit shallow-water"),
        (WATER, {"time": {"stepper": "etdrk4"}}, "time.stepper", "expected one of: rk4, ssp-rk2, ssp-rk3"),
        (WATER, {"time": {"step": None}, "closure": ["none"]}, "time.step", "with adaptive steps, closures are called"),
        (WATER, {"grid": {"shape": [8], "length": [1.0]}}, "grid.shape", "shallow-water needs 2 axes, found 1"),
        (WATER, {"reference": {"shape": [16, 30]}}, "reference.shape", "must be a whole multiple of grid.shape"),
        (PLASMA, {"time": {"stepper": "etdrk4"}}, "time.stepper", "expected one of: rk4, ssp-rk2, ssp-rk3, strang"),
        (PLASMA, {"time": {"cfl": 0.5}}, "time.cfl", "which strang does not support for vlasov-poisson"),
        (PLASMA, {"grid": {"origin": [-6.0]}}, "grid.origin", "expected one number for each of 2 axes"),
        (PLASMA, {"equation": {"interpolation": 4}}, "equation.interpolation", "3, 5, 7, 9, 11 or 13, found 4"),
        (PLASMA, {"equation": {"ends": "periodic"}}, "equation.ends", "expected 'closed' or 'open', found 'periodic'"),
        (PLASMA, {"equation": {"noise": {"amplitude": 0.1, "correlation": 0.1}}}, "equation.noise",
         "vlasov-poisson has no noise term. Remedy: remove equation.noise"),
        (PLASMA, {"equation": {"positivity": 1}}, "equation.positivity", "expected a valid boolean, found 1"),
        (PLASMA, {"reference": {"shape": [24, 24]}}, "reference.shape", "must be a whole multiple of grid.shape"),
        (PLASMA, {"initial": {"wavenumber": 0.5}}, "initial.wavenumber", "expected a multiple of 1, found 0.5"),
    ],
)  # fmt: skip
def test_mistakes_in_water_and_plasma_are_named_once_by_their_key(base, change, key, words, tmp_path, capsys):
    """One mistake, one line; the case without it is accepted."""
    for name, content in FILES.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            np.savez(tmp_path / name, **content)
    check(base, "case", tmp_path)
    spoilt = base | {k: v if "kind" in v or k == "closure" else base.get(k, {}) | v for k, v in change.items()}
    spoilt["time"] = {k: v for k, v in spoilt["time"].items() if v is not None}
    message = refused(tomli_w.dumps(spoilt), ["check"], tmp_path, capsys)
    lines = [line.strip() for line in message.splitlines() if line.startswith("  ")]
    assert any(line.startswith(f"{key}: ") and words in line for line in lines), message
    assert len(lines) == 1 or key == "equation.boundary.right", message


CELLS: dict[str, Any] = {
    "title": "cells",
    "equation": {"name": "burgers", "viscosity": 0.0, "discretisation": "finite-volume"},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.1, "step": 0.05, "cfl": 0.4, "stepper": "ssp-rk2"},
    "initial": {"kind": "sine"},
    "output": {"every": 0.05},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {"entities": 4}}, "grid.entities: burgers needs grid.shape and grid.length, not entities"),
        ({"grid": {"entities": 4, "shape": [4]}}, "grid.entities: replaces grid.shape"),
        (
            {"grid": {"shape": [16], "length": [1.0], "origin": [0.0, 0.0]}},
            "grid.origin: expected one number for each of 1 axes of grid.shape, found 2",
        ),
        ({"time": CELLS["time"] | {"stepper": "strang"}}, "time.stepper: strang does not fit burgers"),
        ({"time": CELLS["time"] | {"stepper": "etdrk2"}}, "expected one of: rk4, ssp-rk2, ssp-rk3"),
        (
            {"equation": {"name": "burgers", "viscosity": 0.1}, "time": CELLS["time"] | {"stepper": "etdrk2"}},
            "time.cfl: with time.step it requires adaptive steps, which etdrk2 does not support for burgers",
        ),
        ({"backend": "jax"}, "backend: expected numpy, cupy or torch[:device], found 'jax'"),
    ],
)
def test_steps_grids_and_backends_that_do_not_fit(change, message, tmp_path):
    check(CELLS, "cells.toml", tmp_path)
    with pytest.raises(CaseError) as caught:
        check(CELLS | change, "cells.toml", tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"initial.time": 0.5}, "initial.time", "must equal time.start = 0, found 0.5"),
        ({"time.start": -0.5}, "initial.time", "must equal time.start = -0.5, found 0"),
        (
            {
                "reference": {"shape": [1200], "initial": {"kind": "oscillator", "time": 1.0}},
                "initial.kind": "reference",
            },
            "reference.initial.time",
            "must equal time.start = 0, found 1",
        ),
    ],
)
def test_a_formula_of_a_time_of_its_own_starts_at_that_time(changes, key, words, tmp_path, capsys):
    case = {k: v for k, v in shipped("rom-oscillator").items() if k not in ("closure", "compare", "sweep", "train")}
    for name, value in changes.items():
        table, _, inner = name.partition(".")
        case[table] = case[table] | {inner: value} if inner else value
    message = refused(tomli_w.dumps(case), ["check"], tmp_path, capsys)
    assert f"  {key}: {words}" in message
