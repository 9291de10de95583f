"""Reference runs and training sets: cached by content, and continued to the same bytes."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from subgrid.closures.regression.options import TrainingOptions as RegressionOptions
from subgrid.closures.regression.training import fit
from subgrid.ingest import files, training_set, trajectories
from subgrid.ingest.prepare import prepare
from subgrid.ingest.requests import reference_request, start_request, training_request
from subgrid.ingest.restriction import Restrict
from subgrid.ingest.training_set import dataset
from subgrid.ingest.trajectories import Trajectories, generate
from subgrid.solver.case.reading import check
from subgrid.solver.grid import Grid
from subgrid.solver.simulation import BlowUp
from subgrid.solver.spectral import Transforms

STEP = 0.01
SINE = {"kind": "sine", "amplitude": 1.0, "wavenumber": 2}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))


def case_of(tmp_path, equation=None, time=None, reference=None, training=None, **tables):
    """Kolmogorov flow on 16 x 16 from 32 x 32, t = 0.2 ... 0.6, with training data from 0.1 to 0.5."""
    data = {
        "title": "trajectories",
        "equation": {
            "name": "kolmogorov",
            "viscosity": 0.02,
            "forcing": SINE,
            "noise": {"amplitude": 0.2, "correlation": 0.1, "draws": 2},
        }
        | (equation or {}),
        "grid": {"shape": [16, 16], "length": [6.25, 6.25]},
        "time": {"start": 0.2, "end": 0.6, "step": STEP, "stepper": "cnab2"} | (time or {}),
        "initial": {"kind": "reference"},
        "ensemble": {"members": 2, "seed": 1},
        "closure": [{"name": "oracle", "every": 5}],
        "output": {"every": 0.1},
        "reference": {
            "shape": [32, 32],
            "start": 0.0,
            "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0},
            "trajectories": 2,
            "seed": 1,
        }
        | (reference or {}),
        "training": {"trajectories": 3, "validation": 1, "start": 0.1, "end": 0.5, "every": 0.1, "seed": 2}
        | (training or {}),
    }
    return check(data | tables, "case", tmp_path)


@pytest.mark.parametrize(
    ("request_of", "what"), [(reference_request, "reference run"), (training_request, "training set")]
)
def test_a_reference_that_blows_up_is_named_with_its_own_step(request_of, what, tmp_path):
    fields = {"vorticity": "1e4*sin(3*2*pi*x/6.25)*cos(2*2*pi*y/6.25) + 1e4*cos(2*pi*x/6.25)"}
    start = {"initial": {"kind": "expression", "fields": fields}}
    case = case_of(tmp_path, reference=start)
    with pytest.raises(BlowUp, match=rf"^the {what}: the state is .* at step .*Remedy: a smaller reference\.step$"):
        generate(case, request_of(case))


class Killed(Exception):
    pass


def killing(step):
    """A progress that ends the generation at its first stop at or after a step."""

    def progress(done, total, what):
        if done >= step:
            raise Killed

    return progress


@pytest.mark.parametrize("request_of", [reference_request, training_request])
@pytest.mark.parametrize("stepper", ["cnab2", "etdrk4"])
def test_an_interrupted_generation_goes_on_to_the_same_bytes(request_of, stepper, tmp_path, monkeypatch):
    """Cut off three times, each time after a checkpoint, and once before any: states, terms and noise are the same."""
    case = case_of(tmp_path, equation={"omit": ["noise"]}, time={"stepper": stepper})
    whole = generate(case, request_of(case))
    names = sorted(p.name for p in whole.directory.glob("*.npy"))
    expected = {n: (whole.directory / n).read_bytes() for n in names}
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "other"))
    with pytest.raises(Killed):
        generate(case, request_of(case), killing(15))
    directory = request_of(case).directory()
    assert not (directory / "checkpoint.npz").exists()
    monkeypatch.setattr(files, "CHECKPOINT_SECONDS", 0.0)
    seen = []
    for step in (12, 25, 37):
        with pytest.raises(Killed):
            generate(case, request_of(case), killing(step))
        with pytest.raises(ValueError, match="no finished trajectories"):
            Trajectories(directory)
        with np.load(directory / "checkpoint.npz") as arrays:
            seen.append(int(arrays["step"]))
    stops = []
    again = generate(case, request_of(case), lambda done, total, what: stops.append(done))
    assert seen == sorted(set(seen)) and stops[0] == seen[-1] > 0
    assert {n: (again.directory / n).read_bytes() for n in names} == expected
    assert not (directory / "checkpoint.npz").exists()


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("request_of", [reference_request, training_request])
def test_trajectories_one_block_after_the_other_have_the_same_bytes(request_of, together, tmp_path, monkeypatch):
    """With one block in memory at a time, uninterrupted and cut off in the first and in the last block."""
    case = case_of(tmp_path, equation={"omit": ["noise"]}, training={"trajectories": 5})
    request = request_of(case)
    names = ["state.npy", "term.npy"] + (["fine.npy"] if request.fine_at is not None else [])
    expected = [(generate(case, request).directory / name).read_bytes() for name in names]
    monkeypatch.setattr(files, "TOGETHER", together * 32 * 32)
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "blocks"))
    sizes = []
    monkeypatch.setattr(trajectories, "build_simulation", lambda *a, real=trajectories.build_simulation, **k: (
        sizes.append(len(k["members"])), real(*a, **k))[1])  # fmt: skip
    assert [(generate(case, request).directory / name).read_bytes() for name in names] == expected
    assert max(sizes) == together and sum(sizes) == request.trajectories
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "parts"))
    monkeypatch.setattr(files, "CHECKPOINT_SECONDS", 0.0)
    stops: list[int] = []
    generate(case, replace(request, seed=7), lambda done, total, what: stops.append(total))
    for step in (10, stops[0] - 10):
        with pytest.raises(Killed):
            generate(case, request, killing(step))
    blocks = len(sizes)
    assert [(generate(case, request).directory / name).read_bytes() for name in names] == expected
    assert len(sizes) == blocks + 1  # the last one alone, from its checkpoint


def test_what_is_in_the_cache_is_not_made_again(tmp_path, monkeypatch):
    case = case_of(tmp_path)
    first = generate(case, reference_request(case))

    def refuse(*arguments, **options):
        raise AssertionError("it was made again")

    monkeypatch.setattr(trajectories, "build_simulation", refuse)
    again = generate(case, reference_request(case), killing(0))
    assert again.directory == first.directory
    np.testing.assert_array_equal(again.state, first.state)
    with pytest.raises(AssertionError, match="made again"):
        generate(case, training_request(case))


def test_a_reference_is_used_again_when_an_oracle_is_removed_or_called_less_often(tmp_path, monkeypatch):
    with_terms = generate(case := case_of(tmp_path), reference_request(case))
    seldom = case_of(tmp_path, closure=[{"name": "oracle", "every": 10}])
    without = case_of(tmp_path, closure=[])
    with monkeypatch.context() as patched:
        patched.setattr(trajectories, "_generate", None)
        for other in (seldom, without):
            assert reference_request(other).directory() != with_terms.directory
            assert generate(other, reference_request(other)).directory == with_terms.directory
        for other in (case_of(tmp_path, closure=[{"name": "oracle", "every": 4}]), case_of(tmp_path, {"drag": 0.2})):
            with pytest.raises(TypeError):
                generate(other, reference_request(other))
        (with_terms.directory / "state.npy").unlink()
        with pytest.raises(TypeError):
            generate(without, reference_request(without))


@pytest.mark.parametrize("start", [0.0, 0.2])
def test_the_start_alone_is_that_of_the_whole_reference(start, tmp_path, monkeypatch):
    """A run needs no more of it. Without a start of its own the reference takes no step for it."""
    case = case_of(tmp_path, closure=[], reference={"start": start}, training={"start": 0.2})
    alone = generate(case, start_request(case))
    steps = round((0.2 - start) / STEP)
    assert alone.state.shape[1] == 1 and start_request(case).state_steps == (steps, steps, 1)
    run = prepare(case, tmp_path, with_reference=False)
    assert run.trajectories is None
    whole = generate(case, reference_request(case))
    assert whole.directory != alone.directory and np.array_equal(whole.fine, alone.fine)
    shutil.rmtree(alone.directory)
    monkeypatch.setattr(trajectories, "_generate", None)
    assert generate(case, start_request(case)).directory == whole.directory
    for prepared in (run, prepare(case, tmp_path, with_reference=False)):
        assert np.array_equal(prepared.state, prepare(case, tmp_path, with_reference=True).state)
    with pytest.raises(TypeError):  # the whole is not in a part
        generate(case, replace(reference_request(case), state_steps=(steps, steps + 20, 20)))


def test_the_directory_is_named_by_all_the_data_depend_on(tmp_path):
    """Any change of what is asked for is another directory; what the data do not depend on is none."""
    base = case_of(tmp_path)
    changed = {
        "equation": case_of(tmp_path, equation={"viscosity": 0.03}),
        "omit": case_of(tmp_path, equation={"omit": ["noise"]}),
        "noise": case_of(tmp_path, equation={"noise": {"amplitude": 0.3, "correlation": 0.1, "draws": 2}}),
        "stepper": case_of(tmp_path, reference={"stepper": "etdrk4"}),
        "start": case_of(tmp_path, reference={"start": 0.1}),
        "shape": case_of(tmp_path, reference={"shape": [48, 48]}),
        "initial": case_of(
            tmp_path, reference={"initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 4.0}}
        ),
        "restrict": case_of(tmp_path, reference={"restrict": "subsample"}),
        "grid": case_of(tmp_path, grid={"shape": [16, 16], "length": [6.25, 6.0]}),
        "seed": case_of(tmp_path, reference={"seed": 3}, training={"seed": 4}),
    }
    for request_of in (reference_request, training_request):
        directories = {name: request_of(case).directory() for name, case in changed.items()}
        assert len({request_of(base).directory(), *directories.values()}) == 1 + len(changed)
        for same in (
            {"title": "another"},
            {"ensemble": {"members": 4, "seed": 9}},
            {"compare": {"closures": ["smagorinsky"]}},
        ):
            assert request_of(case_of(tmp_path, **same)).directory() == request_of(base).directory()


def test_directories_of_existing_data_are_found(tmp_path):
    """Names recorded before the code was reorganised: data in a user's cache are not computed again."""
    recorded = {
        "complete": ({}, "edd774f9438af4645663", "e785683b225343ed7c00"),
        "omit": ({"equation": {"omit": ["noise"]}}, "d6f665e89813461684c3", "fc92bdd262c6ced5b405"),
        "fine": (
            {"equation": {"omit": ["noise"]}, "reference": {"step": STEP / 2}},
            "9b7c460c46d3014fde5e",
            "4380dcad2d25a1ab62fe",
        ),
    }
    for tables, reference, training in recorded.values():
        case = case_of(tmp_path, **tables)
        assert reference_request(case).directory().name == reference
        assert training_request(case).directory().name == training


def test_a_file_counts_by_its_content(tmp_path):
    """The initial state's file is part of the request: written anew, the data are made anew."""
    directories = []
    for seed in (0, 1, 0):
        state = np.random.default_rng(seed).standard_normal((1, 32, 32))
        np.savez(tmp_path / "start.npz", state=state)
        case = case_of(tmp_path, reference={"initial": {"kind": "file", "path": "start.npz"}})
        directories.append(reference_request(case).directory())
        made = generate(case, reference_request(case))
    assert directories[0] == directories[2] != directories[1]
    assert made.state.shape == (2, 5, 1, 16, 16)


def test_a_bottom_counts_by_its_content_wherever_it_lies(tmp_path):
    """The same file in another folder is the same request; another bottom under the same name is not."""
    directories = []
    for folder, height in (("here", 0.1), ("there", 0.1), ("there", 0.2)):
        (tmp_path / folder).mkdir(exist_ok=True)
        np.savez(tmp_path / folder / "bottom.npz", bathymetry=np.full((16, 16), height))
        water = {"name": "shallow-water", "bathymetry": {"kind": "file", "path": "bottom.npz"}}
        data = {
            "title": "water",
            "equation": water,
            "grid": {"shape": [8, 8], "length": [1.0, 1.0]},
            "time": {"end": 0.1, "step": STEP, "stepper": "ssp-rk2"},
            "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 20.0},
            "output": {"every": 0.1},
            "reference": {"shape": [16, 16]},
        }
        directories.append(reference_request(check(data, "case", tmp_path / folder)).directory())
    assert directories[0] == directories[1] != directories[2]


def test_times_are_those_of_the_case(tmp_path):
    """States at the output times, terms wherever an oracle is called, samples in [start, end)."""
    case = case_of(tmp_path)
    reference = generate(case, reference_request(case))
    np.testing.assert_allclose(reference.times(), [0.2, 0.3, 0.4, 0.5, 0.6], atol=1e-12)
    np.testing.assert_allclose(reference.times("term"), 0.2 + 0.05 * np.arange(9), atol=1e-12)
    assert reference.state.shape == (2, 5, 1, 16, 16) and reference.state.dtype == np.float64
    assert reference.term.shape == (2, 9, 1, 16, 16) and reference.term.dtype == np.float32
    assert reference.fine.shape == (2, 1, 32, 32)
    training = generate(case, training_request(case))
    np.testing.assert_allclose(training.times(), [0.1, 0.2, 0.3, 0.4], atol=1e-12)
    np.testing.assert_array_equal(training.times("term"), training.times())
    assert training.state.shape == training.term.shape == (3, 4, 1, 16, 16)
    assert np.isfinite(training.state).all() and np.isfinite(training.term).all()
    restrict = Restrict(case.build_equation(), Grid((32, 32), (6.25, 6.25)), case.grid.grid(), "filter")
    np.testing.assert_array_equal(restrict(np.array(reference.fine)), reference.state[:, 0])


def test_oracles_of_several_intervals_share_their_greatest_common_divisor(tmp_path):
    rows = {"closures": [{"name": "oracle", "every": 4}, [{"name": "oracle", "every": 6}, "smagorinsky"]]}
    case = case_of(tmp_path, closure=[], compare=rows)
    assert reference_request(case).term_steps == (20, 60, 2)
    assert reference_request(case_of(tmp_path, closure=[])).term_steps is None


def test_a_smaller_step_of_the_reference_is_counted_in_its_own_steps(tmp_path):
    case = case_of(tmp_path, equation={"omit": ["noise"]}, reference={"step": STEP / 2})
    request = reference_request(case)
    assert request.state_steps == (40, 120, 20) and request.term_steps == (40, 120, 10)
    np.testing.assert_allclose(generate(case, request).times(), [0.2, 0.3, 0.4, 0.5, 0.6], atol=1e-12)


def test_training_and_reference_share_no_trajectory(tmp_path):
    """Every trajectory of either starts from, and is stirred by, numbers of its own; equal seeds are refused."""
    case = case_of(tmp_path)
    reference, training = generate(case, reference_request(case)), generate(case, training_request(case))
    fields = [np.array(s).ravel() for s in (*reference.state[:, 0], *training.state[:, 1])]  # all at t = 0.2
    correlation = np.corrcoef(fields) - np.eye(5)
    assert np.abs(correlation).max() < 0.9
    same = case.model_copy(update={"training": case.training.model_copy(update={"seed": case.reference.seed})})
    with pytest.raises(ValueError, match=r"training\.seed must differ"):
        training_request(same)


def without_noise(case):
    """The training request, its terms without noise."""
    return replace(training_request(case), term_noise=False)


def test_the_training_term_holds_the_noise_of_its_step(tmp_path):
    """term - H = xi / sqrt(h): the very numbers that stir the reference in that step, of the law's variance."""
    case = case_of(tmp_path, equation={"omit": ["advection", "noise"]}, training={"every": STEP, "trajectories": 8})
    model, coarse = case.build_equation(), case.grid.grid()
    law, transforms = model.noise.law(coarse), Transforms(coarse)
    made, missing = generate(case, training_request(case)), generate(case, without_noise(case))
    noise = np.array(made.term[:, :, 0], dtype=float) - np.array(missing.term[:, :, 0])
    for i, step in ((0, 10), (7, 17)):
        drawn = transforms.to_physical(law.sample(2, "equation", tuple(range(8)), step)) / math.sqrt(STEP)
        np.testing.assert_allclose(noise[:, i], drawn, atol=1e-6 * np.abs(made.term).max())
    power = (np.abs(transforms.to_spectrum(noise)) ** 2).mean(axis=(0, 1))
    inside = (coarse.shells() > 0) & (coarse.shells() < 7)
    ratio = power[inside] / (law.amplitude[inside] ** 2 / STEP)
    samples = noise.shape[0] * noise.shape[1]
    assert np.abs(ratio - 1).max() < 5 / math.sqrt(samples)
    assert abs(ratio.mean() - 1) < 5 / math.sqrt(samples * inside.sum())


def test_the_pairs_step_into_each_other(tmp_path):
    """An explicit Euler step of the restricted reference is h times its term, noise included: u_{n+1} = u_n + h term_n.

    Exact for a model that has no other term, and to the rounding of float32, on the modes that the restriction keeps.
    """
    bare = {"omit": ["advection", "noise"], "viscosity": 0.0, "forcing": SINE | {"amplitude": 0.0}}
    case = case_of(tmp_path, equation=bare, time={"stepper": "cn-euler"}, training={"every": STEP})
    made = generate(case, training_request(case))
    step = np.diff(made.state, axis=1)
    grid = case.grid.grid()
    term = Transforms(grid).to_spectrum(np.array(made.term[:, :-1], dtype=float)) * grid.mask()
    expected = STEP * Transforms(grid).to_physical(term)
    np.testing.assert_allclose(step, expected, atol=1e-5 * np.abs(step).max())


def test_the_term_of_a_forcing_that_depends_on_time_is_that_of_its_time(tmp_path):
    forcing = {"kind": "expression", "value": "cos(2*pi*y/6.25)*cos(9*t)"}
    equation = {"omit": ["forcing"], "forcing": forcing}
    case = case_of(tmp_path, equation=equation, reference={"shape": [16, 16]})  # the forcing is all that is missing
    made = generate(case, training_request(case))
    largest = np.abs(made.term).max(axis=(0, 2, 3, 4))
    times = 0.1 + 0.1 * np.arange(len(largest))
    np.testing.assert_allclose(largest, np.abs(np.cos(9 * times)), rtol=1e-2)


def test_noise_that_the_model_draws_itself_is_not_in_the_term(tmp_path):
    case = case_of(tmp_path)
    made, without = generate(case, training_request(case)), generate(case, without_noise(case))
    assert made.directory != without.directory
    np.testing.assert_array_equal(made.term, without.term)


def test_the_dataset_is_split_by_trajectory(tmp_path):
    """The last trajectories validate; states are single precision, and the case is described."""
    case = case_of(tmp_path, equation={"omit": ["advection", "noise"]})
    made = generate(case, training_request(case))
    pairs = dataset(case, lambda done, total, what: None)
    flat = np.array(made.state, dtype=np.float32)
    np.testing.assert_array_equal(pairs.train[0], flat[:2].reshape(8, 1, 16, 16))
    np.testing.assert_array_equal(pairs.validation[0], flat[2])
    np.testing.assert_array_equal(pairs.validation[1], made.term[2])
    assert pairs.train[1].dtype == np.float32
    about = json.loads(json.dumps(pairs.about))
    assert about["equation"]["name"] == "kolmogorov" and about["equation"]["omit"] == ["advection", "noise"]
    assert (about["fields"], about["shape"], about["length"]) == (["vorticity"], [16, 16], [6.25, 6.25])
    assert (about["step"], about["seeds"]) == (STEP, {"trajectories": 2})


def test_a_large_training_set_lies_in_a_file_and_trains_to_the_same_weights(tmp_path, monkeypatch):
    """Of the pairs a batch is in memory. The file has no name, so that nothing is left in the cache."""
    case = case_of(tmp_path, equation={"omit": ["advection", "noise"]})
    options = RegressionOptions(network_options={"modes": 6, "pairs": 2}, steps=3, batch=4, threads=1, reflections=True)
    weights = []
    for large, where in ((2**28, np.ndarray), (1000, np.memmap)):
        monkeypatch.setattr(training_set, "LARGE", large)
        pairs = dataset(case, lambda done, total, what: None)
        assert all(isinstance(part, np.memmap) == (where is np.memmap) for part in (*pairs.train, *pairs.validation))
        found = fit(*pairs.train, *pairs.validation, 6.25, options, tmp_path / str(large))
        weights.append({name: value.tobytes() for name, value in found.tensors.items()})
    assert weights[0] == weights[1]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_finite_volumes(tmp_path):
    """Cell averages of Burgers' equation: the mean of every restricted state is that of the reference's own."""
    case = check(
        {
            "title": "cells",
            "equation": {"name": "burgers", "viscosity": 0.01, "discretisation": "finite-volume"},
            "grid": {"shape": [16], "length": [6.25]},
            "time": {"end": 0.4, "step": STEP, "stepper": "ssp-rk3"},
            "initial": {"kind": "gaussian-random-field", "exponent": 2.0, "tau": 3.0},
            "ensemble": {"members": 2},
            "output": {"every": 0.1},
            "reference": {"shape": [64], "trajectories": 2},
        },
        "case",
        tmp_path,
    )
    made = generate(case, reference_request(case))
    assert made.state.shape == (2, 5, 1, 16) and made.fine.shape == (2, 1, 64)
    means = np.array(made.state).mean(axis=-1)
    np.testing.assert_allclose(means, np.broadcast_to(means[:, :1], means.shape), atol=1e-14)
    np.testing.assert_allclose(np.array(made.fine).mean(-1), means[:, 0], atol=1e-14)
