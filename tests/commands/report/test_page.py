"""The report shows every run, derives its verdict from the scores, and is one file without references."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from rich.console import Console

from subgrid.commands.comparison.comparison import Comparison
from subgrid.commands.comparison.results import Metrics
from subgrid.commands.report import page
from subgrid.commands.report import particle_paths as paths
from subgrid.commands.report.drawing import looks
from subgrid.commands.report.table import terminal
from subgrid.commands.report.verdict import columns, outcome, verdict

FAILED = "smagorinsky-0.3"
LEVELS = {
    "uncorrected": ("none", 0.30, 1.0),
    "leith": ("classical", 0.22, 1.2),
    FAILED: ("classical", 0.50, 1.2),
    "oracle": ("oracle", 0.02, 9.0),
    "regression": ("learned", 0.08, 2.0),
}
TIMES = np.linspace(0, 8, 33)


def growth(level: float) -> np.ndarray:
    """Error that grows exponentially from a tenth of `level` and saturates at sqrt 2."""
    return np.sqrt(2) * np.tanh(level * np.expm1(0.35 * TIMES) / 2 + 1e-3 * TIMES)


def speedup(cost: float, level: float) -> dict:
    """Over a frontier whose cost is 0.012 / level^2, from 0.30 to 0.05."""
    value = 0.012 / level**2 / cost
    return {"relative_l2": [value, 0.8 * value, 1.2 * value] if 0.05 < level <= 0.3 else None}


def measured(levels: dict[str, tuple[str, float, float]] = LEVELS) -> dict:
    """The contents of a metrics.json whose errors are set by `levels`: name -> kind, error level, cost."""
    rows = []
    for name, (kind, level, cost) in levels.items():
        error, failed = growth(level), name == FAILED
        known = 12 if failed else len(TIMES)
        rows.append(
            {
                "name": name,
                "kind": kind,
                "times": TIMES[:known].tolist(),
                "relative_l2": error[:known].tolist(),
                "correlation_time": None if failed else float(np.interp(0.6, error, TIMES)),
                "spectrum_distance": None if failed else 2 * level,
                "invariants": {"energy": {"final": 1 - level / 4, "drift": -level / 4}},
                "crps": (0.4 * error[:known]).tolist(),
                "spread_skill": [None, *np.linspace(0.5, 1 - level, known - 1).tolist()],
                "skill": None if failed else float(1 - error[-1] / growth(LEVELS["uncorrected"][1])[-1]),
                "means": {} if failed else {"relative_l2": float(error[1:].mean()), "spectrum_distance": 2 * level},
                "cpu_seconds_per_time": cost,
                "wall_seconds_per_time": cost,
                "speedup": {} if failed else speedup(cost, level),
                "closure_calls": 0 if kind == "none" else 800,
                "guard_skips": 0,
                "failed": "state not finite at t = 2.9" if failed else None,
            }
        )
    return {
        "case": "Decaying turbulence on 64² cells",
        "reference": {"shape": [512, 512], "description": "the same equation on a finer grid, filtered"},
        "rows": rows,
        "frontier": [
            {
                "name": f"none {n}x{n}, rk4",
                "kind": "none",
                "times": TIMES.tolist(),
                "relative_l2": growth(level).tolist(),
                "means": {"relative_l2": float(growth(level)[1:].mean()), "spectrum_distance": 2 * level},
                "cpu_seconds_per_time": 0.012 / level**2,
                "shape": [n, n],
                "stepper": "rk4",
                "step": 0.1,
            }
            for n, level in ((64, 0.3), (96, 0.1), (128, 0.05))
        ],
        "command": "subgrid compare cases/turbulence.toml --out RUN",
        "versions": {"subgrid": "0.1.0", "numpy": np.__version__},
        "machine": "Example CPU, 8 cores",
        "git": "0123abc",
    }


def waves(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A random field of unit variance with a steep spectrum, shape (time, *shape), drifting in time."""
    rng = np.random.default_rng(seed)
    wavenumbers = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij")
    k = np.sqrt(sum(w**2 for w in wavenumbers))
    amplitude = k / (1 + (k / 4) ** 4)
    noise = np.fft.fftn(rng.standard_normal(shape))
    drift = rng.uniform(-1, 1, shape) * k**0.66
    fields = [np.fft.ifftn(amplitude * noise * np.exp(1j * drift * t)).real for t in TIMES]
    return np.stack(fields) / np.std(fields[0])


def dataset(metrics: dict, shape: tuple[int, ...]) -> xr.Dataset:
    """The matching comparison.zarr, for fields on a grid of `shape`."""
    sources = ["reference", *(row["name"] for row in metrics["rows"])]
    series = np.full((3, len(sources), len(TIMES)), np.nan)
    frames = np.repeat(waves(shape, 0)[None], len(sources), axis=0)
    k = np.arange(1, 33)
    spectrum = np.tile(k**-3.0, (len(sources), 1))
    series[1, 0] = 1
    for i, row in enumerate(metrics["rows"], 1):
        error = np.array(row["relative_l2"])
        known = len(error)
        series[0, i, :known] = error
        series[1, i, :known] = 1 - error**2 / 2
        series[2, i, :known] = [np.nan if v is None else v for v in row["spread_skill"]]
        factor = growth(0.2)[:, None] if known < len(TIMES) else error.reshape(-1, 1)
        weight = factor.reshape(-1, *(1,) * len(shape)) / np.sqrt(2)
        frames[i] = np.sqrt(1 - weight**2) * frames[0] + weight * waves(shape, i)
        frames[i, known:] = np.nan
        spectrum[i] = k**-3.0 * (1 + (row["spectrum_distance"] or 3) * (k / 20) ** 3)
    drift = series[0].copy()
    drift[0] = 0
    time, axes = ("source", "time"), ("y", "x")[-len(shape) :]
    variables = {
        "relative_l2": (time, series[0]),
        "relative_l2_low": (time, 0.8 * series[0]),
        "relative_l2_high": (time, 1.25 * series[0]),
        "correlation": (time, series[1]),
        "crps": (time, 0.4 * series[0]),
        "spread_skill": (time, series[2]),
        "invariant_energy": (time, 1 - drift / 4),
        "invariant_enstrophy": (time, 2 - 0.04 * TIMES - drift / 3),
        "spectrum": (("source", "wavenumber"), spectrum),
        "frames": (("source", "frame", *axes), frames),
    }
    coordinates = {
        "source": np.array(sources, dtype=object),
        "time": TIMES,
        "wavenumber": k,
        "frame_time": ("frame", TIMES),
        **{axis: 2 * np.pi * (np.arange(n) + 0.5) / n for axis, n in zip(axes, shape, strict=True)},
    }
    attributes = {
        "field": "vorticity",
        "units": "1/s",
        "title": metrics["case"],
        "correlation_threshold": 0.8,
    }
    return xr.Dataset(variables, coordinates, attributes)


def lay(directory: Path, metrics: dict, shape: tuple[int, ...]) -> Path:
    """Write the two inputs of a report."""
    directory.mkdir(exist_ok=True)
    (directory / "metrics.json").write_text(json.dumps(metrics))
    dataset(metrics, shape).to_zarr(directory / "comparison.zarr", consolidated=False)
    return directory


def write(directory: Path) -> Path:
    """Draw the report of the comparison in a folder, as `subgrid report` does."""
    comparison = Comparison.load(directory)
    return page.write(comparison.metrics, comparison.dataset, directory)[0]


@pytest.fixture(scope="module", params=[(48, 64), (96,)], ids=["2D", "1D"])
def drawn(request, tmp_path_factory) -> Path:
    directory = lay(tmp_path_factory.mktemp("comparison"), measured(), request.param)
    assert write(directory) == directory / "report.html"
    return directory


def test_error_curves_begin_after_the_start():
    """The error of the start is that of a restriction, ten orders below the others."""
    found = dataset(measured(), (96,))
    lines = page.plots(Metrics.model_validate(measured()), found)["error"].figure().axes[0].lines
    curves = [line for line in lines if len(line.get_xdata()) == found.sizes["time"]]
    assert curves
    for line in curves:
        assert np.isnan(line.get_ydata()[0]) and np.isfinite(line.get_ydata()[1])


def test_every_picture_is_valid_and_shows_something(drawn):
    fields = {"snapshots"} if (drawn / "pictures/snapshots.png").exists() else {"spacetime", "profiles"}
    expected = {"error", "correlation", "spectra", "ensemble", "invariants", "frontier"} | fields
    found = {path.stem: path for path in (drawn / "pictures").glob("*.png")}
    assert set(found) == expected
    for path in found.values():
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] > 1000
        assert 1000 < (pixels < 200).sum() < pixels.size * 0.9, path.name


def test_every_picture_has_a_caption():
    template = (Path(page.__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    captions = re.search(r"set captions = \{(.*?)^\} %\}", template, re.DOTALL | re.MULTILINE)
    assert captions and set(re.findall(r'^  "(\w+)":', captions[1], re.MULTILINE)) == {*page.ORDER, "animation"}


def studied(metrics: dict) -> xr.Dataset:
    """The comparison of a parameter study: latent variables, and errors at five points of one parameter."""
    latent = np.stack([np.sin(TIMES), np.cos(TIMES)], axis=1)
    axes = ("time", "latent")
    return dataset(metrics, (96,)).assign(
        latent_encoded=(axes, latent),
        latent_predicted=(axes, latent + 0.1 * TIMES[:, None]),
        latent_deviation=(axes, np.full_like(latent, 0.1)),
        plane_error=(("plane_source", "point"), np.geomspace(0.001, 0.01, 5)[None]),
        plane_source=("plane_source", np.array(["regression"], dtype=object)),
        plane_parameter=("parameter", np.array(["initial.width"], dtype=object)),
        plane_point=(("point", "parameter"), np.linspace(0, 1, 5)[:, None]),
        training_point=(("run", "parameter"), np.array([[0.0], [1.0]])),
    )


COMPARISONS = {
    "2D": lambda metrics: dataset(metrics, (48, 64)),
    "1D": lambda metrics: dataset(metrics, (96,)),
    "particles": lambda metrics: orbits(metrics, 3),
    "parameters": studied,
}


@pytest.mark.parametrize("kind", COMPARISONS)
def test_every_line_of_every_picture_has_a_width(kind):
    """Lines, steps and error bars; only the edges of shaded bands have none."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import StepPatch

    data = measured()
    for row in data["rows"]:  # error bars, and rank histograms
        if row["means"]:
            row["intervals"] = {name: (0.9 * value, 1.1 * value) for name, value in row["means"].items()}
    fields = COMPARISONS[kind](data)
    ranks = np.tile(np.linspace(0.5, 1.5, 5), (fields.sizes["source"], 1))
    fields = fields.assign(rank_histogram=(("source", "rank"), ranks))
    found = page.plots(Metrics.model_validate(data), fields)
    assert len(found) >= 6
    seen: set[type] = set()
    for name, plot in found.items():
        for axes in plot.figure().axes:
            for artist in axes.get_children():
                if isinstance(artist, Line2D) and artist.get_linestyle() != "None":
                    assert artist.get_linewidth() >= 0.5, name
                elif isinstance(artist, Line2D):
                    assert artist.get_markersize() >= 2, name
                elif isinstance(artist, (StepPatch, LineCollection)):
                    assert np.all(np.asarray(artist.get_linewidth()) >= 0.4), name  # 0.4: the edge of a colour bar
                seen.add(type(artist))
    assert {Line2D, StepPatch, LineCollection} <= seen


@pytest.mark.parametrize("name", ["error", "correlation", "spectra", "ensemble", "invariants", "profiles", "frontier"])
def test_the_colour_of_every_run_is_in_the_axes_of_every_picture_of_curves(name):
    """The picture as it is saved, without its legend: pixels of each colour, as many as a thin curve or a point has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    metrics = Metrics.model_validate(measured())
    figure = page.plots(metrics, dataset(measured(), (96,)))[name].figure()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3].astype(int)
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    for axes in figure.axes:
        x0, y0, x1, y1 = np.rint(axes.get_window_extent().extents).astype(int)
        inside[y0 + 3 : y1 - 2, x0 + 3 : x1 - 2] = True
    for look in looks(metrics.rows):
        if name == "frontier" and (look.failed or look.name == "reference"):
            continue  # it has no cost
        if look.name == "reference" and name in ("error", "ensemble"):
            continue  # it has no error, and no spread
        if look.failed and name == "profiles":
            continue  # it did not reach the last frame
        rgb = [int(look.color[i : i + 2], 16) for i in (1, 3, 5)] if look.color.startswith("#") else [0, 0, 0]
        count = int((np.abs(pixels - rgb).max(axis=-1) < 40)[inside].sum())
        assert count > (20 if name == "frontier" else 60), look.name


def test_animation_is_small_and_moves(drawn):
    path = drawn / "pictures/animation.gif"
    assert path.stat().st_size <= 1_500_000
    with Image.open(path) as image:
        frames = [np.asarray(frame.convert("L"), dtype=float) for frame in ImageSequence.Iterator(image)]
    assert 2 <= len(frames) <= 40
    assert np.abs(frames[0] - frames[-1]).max() > 50


def test_page_names_every_run_and_fetches_nothing(drawn):
    text = (drawn / "report.html").read_text(encoding="utf-8")
    for name in LEVELS:
        assert f'<th scope="row">{name}' in text
    assert "state not finite at t = 2.9" in text
    assert "subgrid compare cases/turbulence.toml" in text
    assert "0123abc" in text
    references = re.findall(r"""(?:src|href|url|srcset)\s*[=(]\s*["']?([^"'\s>)]{0,60})""", text)
    assert len(references) == len(list((drawn / "pictures").iterdir()))
    assert all(reference.startswith("data:image/") for reference in references)
    assert "<script" not in text
    assert len(re.findall(r'<img [^>]*alt="[^"]{20,}"', text)) == len(references)


def test_page_escapes_what_it_is_given(tmp_path):
    metrics = measured() | {"case": "<b>bold</b> & co"}
    text = write(lay(tmp_path / "run", metrics, (32,))).read_text(encoding="utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in text


def test_verdict_follows_the_numbers():
    winning = verdict(Metrics.model_validate(measured()))
    assert "best closure is regression" in winning
    assert "beats the uncorrected run" in winning
    assert "beats the best classical closure (leith" in winning
    assert "is 0.94 [0.75, 1.1] by relative L2 error" in winning
    assert "by relative L2 error the intervals leave open" in winning
    assert f"{FAILED} failed" in winning
    losing = verdict(Metrics.model_validate(measured(LEVELS | {"regression": ("learned", 0.08, 20.0)})))
    assert "is 0.094 [0.075, 0.11] by relative L2 error" in losing
    assert "It is not worth its cost by any of these." in losing
    assert "beats the uncorrected run" in losing
    cheap = verdict(Metrics.model_validate(measured(LEVELS | {"regression": ("learned", 0.08, 1.0)})))
    assert "It is worth its cost by relative L2 error." in cheap
    behind = verdict(Metrics.model_validate(measured(LEVELS | {"leith": ("classical", 0.07, 1.2)})))
    assert "It is worse on correlation time" in behind
    worst = verdict(Metrics.model_validate(measured(LEVELS | {"regression": ("learned", 0.4, 2.0)})))
    assert "best closure is leith" in worst
    assert "The best learned closure, regression" in worst
    assert "loses to the uncorrected run" in worst
    tied = verdict(Metrics.model_validate(measured(LEVELS | {"leith": ("classical", 0.08, 2.2)})))
    assert "ties with the best classical closure" in tied
    data = measured()
    data["rows"][4]["differences"] = {"uncorrected": {"relative_l2": [-0.3, 0.1]}}
    assert "ties with the uncorrected run" in verdict(Metrics.model_validate(data))


def test_without_a_frontier_no_caption_explains_one(tmp_path):
    for there in (True, False):
        metrics = measured() | ({} if there else {"frontier": []})
        text = write(lay(tmp_path / str(there), metrics, (32,))).read_text(encoding="utf-8")
        assert ("Black: the frontier" in text) is there and ("Speed-up at equal error: what" in text) is there
        assert "Bars: 95 % intervals" in text


def test_an_interval_that_contradicts_the_means_over_time_is_a_tie():
    """Intervals are of means over the outputs after the start, which give the last one more weight."""
    data = measured()
    ours, other = data["rows"][4], data["rows"][0]
    ours |= {"relative_l2": [0.0, 1.0, 1.0, 3.0], "times": [0.0, 1.0, 2.0, 3.0]}
    other |= {"relative_l2": [0.0, 1.3, 1.3, 2.0], "times": [0.0, 1.0, 2.0, 3.0]}
    rows = [Metrics.model_validate(data).rows[i] for i in (4, 0)]
    assert rows[0].error() < rows[1].error()
    for ends, words in (([0.1, 0.15], "ties with"), ([-0.2, 0.1], "ties with"), ([-0.2, -0.1], "beats")):
        ours["differences"] = {other["name"]: {"relative_l2": ends}}
        rows = [Metrics.model_validate(data).rows[i] for i in (4, 0)]
        assert outcome(*rows) == words


@pytest.mark.parametrize(
    "bound, best",
    [((">", 10.0), {"c"}), ((">", 2.0), set()), (("<", 2.0), {"b"}), (("<", 4.0), set()), (None, {"b"})],
)
def test_the_best_speed_up_takes_bounds_into_account(bound, best):
    speed_ups = {"a": 2.0, "b": 3.0, "c": None}
    rows = [
        {"name": name, "kind": "learned", "times": [0], "relative_l2": [0], "speedup": {"crps": [value, None, None]}}
        for name, value in speed_ups.items()
    ]
    rows[2] |= {"beyond": {"crps": bound}} if bound else {"speedup": {}}
    metrics = Metrics.model_validate(measured() | {"rows": rows, "frontier": []})
    column = next(c for c in columns(metrics) if c.heading == "speed-up CRPS")
    assert column.best(metrics.rows) == best


def test_a_speed_up_beyond_the_frontier_is_a_bound():
    data = measured()
    data["rows"][4] |= {"speedup": {"relative_l2": [None, 1.5, None]}, "beyond": {"relative_l2": [">", 2.4]}}
    metrics = Metrics.model_validate(data)
    text = verdict(metrics)
    assert "> 2.4 [1.5, –] by relative L2 error" in text and "It is worth its cost" in text
    column = next(c for c in columns(metrics) if c.heading == "speed-up L2")
    assert column.text(metrics.rows[4]) == "> 2.4"


def test_verdict_without_a_closure_that_finished():
    levels = {name: LEVELS[name] for name in ("uncorrected", FAILED)}
    assert "No closure finished" in verdict(Metrics.model_validate(measured(levels)))
    classical = {name: LEVELS[name] for name in ("uncorrected", "leith")}
    assert "The comparison has no learned closure." in verdict(Metrics.model_validate(measured(classical)))
    failing = measured({name: LEVELS[name] for name in ("uncorrected", "leith", "regression")})
    failing["rows"][2]["failed"] = "refused"
    assert "No learned closure finished." in verdict(Metrics.model_validate(failing))


def test_a_failed_run_cannot_be_ranked():
    rows = {row.name: row for row in Metrics.model_validate(measured()).rows}
    with pytest.raises(ValueError, match=FAILED):
        outcome(rows["regression"], rows[FAILED])


def test_best_values_leave_out_the_oracle_and_what_failed():
    metrics = Metrics.model_validate(measured())
    best = {column.heading: column.best(metrics.rows) for column in columns(metrics)}
    assert best["mean L2"] == best["corr. time"] == best["skill"] == best["spread/skill t=8"] == {"regression"}
    assert best["wall s/t"] == {"uncorrected"}
    assert best["calls"] == set()


def test_terminal_table_fits_eighty_columns_and_hides_nothing():
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(terminal(Metrics.model_validate(measured())))
    text = capture.get()
    for word in (
        "uncorrected",
        "leith",
        "oracle",
        "regression",
        "failed",
        "L2 t=8",
        "corr. time",
        "spectrum",
        "CRPS",
        "skill",
        "CPU s/t",
        "wall s/t",
        "skips",
    ):
        assert word in text
    assert "…" not in text


def test_null_and_absent_scores_are_a_dash_not_an_error(tmp_path):
    metrics = measured()
    for row in metrics["rows"]:
        row |= {"spread_skill": [None] * len(row["times"]), "correlation_time": None}
    assert {"spread/skill", "corr. time"}.isdisjoint(c.heading for c in columns(Metrics.model_validate(metrics)))
    write(lay(tmp_path / "run", metrics, (32,)))


def test_a_blow_up_does_not_set_the_scale(drawn, tmp_path):
    metrics = measured()
    directory = lay(tmp_path / "run", metrics, (32,))
    fields = dataset(metrics, (32,))
    failed = fields["source"].values.tolist().index(FAILED)
    for variable in ("relative_l2", "invariant_energy"):
        fields[variable][failed, 11] = 1e12
    fields["frames"][failed, -1] = 1e300
    fields.to_zarr(directory / "comparison.zarr", mode="w", consolidated=False)
    write(directory)
    for name in ("error", "invariants"):
        with (
            Image.open(directory / f"pictures/{name}.png") as blown,
            Image.open(drawn / f"pictures/{name}.png") as calm,
        ):
            assert blown.size == pytest.approx(calm.size, abs=20)


def test_drawing_again_removes_a_picture_without_numbers(tmp_path):
    directory = lay(tmp_path / "run", measured(), (32,))
    (directory / "pictures").mkdir()
    (directory / "pictures/snapshots.png").write_bytes(b"from a comparison in 2D")
    write(directory)
    assert not (directory / "pictures/snapshots.png").exists()


def orbits(metrics: dict, entities: int) -> xr.Dataset:
    """The comparison of a particle system: circles of radius 1, 2, ... in a plane that is not that of x and y."""
    sources = ["reference", *(row["name"] for row in metrics["rows"])]
    radius = np.arange(1, entities + 1)
    frames = np.stack(
        [
            np.stack([radius * np.cos(angle), radius * np.sin(angle), radius * np.sin(angle)], axis=1)
            for angle in (TIMES[:, None] * (1 + 0.01 * i) / radius for i in range(len(sources)))
        ]
    )
    for i, row in enumerate(metrics["rows"], 1):
        frames[i, len(row["times"]) :] = np.nan
    flat = dataset(metrics, (32,)).drop_vars(["frames", "spectrum", "x", "wavenumber"])
    axes = ("source", "frame", "coordinate", "entity")
    coordinates = {"coordinate": np.array(["x", "y", "z"], dtype=object), "entity": np.arange(entities)}
    flat = flat.assign(frames=(axes, frames)).assign_coords(coordinates)
    return flat.assign_attrs(field="positions", units="length")


@pytest.mark.parametrize("entities", [2, 11])
def test_particles_are_drawn_as_paths_without_spectra(tmp_path, entities):
    metrics = measured()
    directory = lay(tmp_path / "run", metrics, (32,))
    shutil.rmtree(directory / "comparison.zarr")
    orbits(metrics, entities).to_zarr(directory / "comparison.zarr", consolidated=False)
    text = write(directory).read_text(encoding="utf-8")
    found = {path.stem for path in (directory / "pictures").glob("*.png")}
    assert found == {"error", "paths", "correlation", "ensemble", "invariants", "frontier"}
    assert "512 × 512 entities" in text and "all fields of all entities" in text and "Energy spectra" not in text
    test_animation_is_small_and_moves(directory)


def test_paths_are_true_to_scale_and_lie_over_those_of_the_reference():
    frames = orbits(measured(), 3)["frames"].values[:2]
    figure = Figure()
    axes = list(figure.subplots(1, 2))
    paths.still(axes, list(frames), "")
    for a in axes:
        (left, right), (bottom, top) = a.get_xlim(), a.get_ylim()
        assert right - left == pytest.approx(top - bottom) and a.get_box_aspect() == 1
        assert left < -1 and right > 3 and bottom < -1 and top > 3
    for i in range(3):
        reference, path = axes[1].lines[4 * i : 4 * i + 2]
        np.testing.assert_array_equal(reference.get_xydata(), frames[0, :, :2, i])
        np.testing.assert_array_equal(path.get_xydata(), frames[1, :, :2, i])


@pytest.mark.parametrize("missing", ["metrics.json", "comparison.zarr"])
def test_missing_input_names_the_file_and_the_remedy(tmp_path, missing):
    directory = lay(tmp_path / "run", measured(), (32,))
    (directory / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"{missing} is missing.*subgrid compare CASE"):
        write(directory)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "JSON"), ('{"case": "x"}', "rows: Field required"), ("[]", "malformed")],
)
def test_malformed_metrics_name_the_file_and_the_remedy(tmp_path, text, complaint):
    directory = lay(tmp_path / "run", measured(), (32,))
    (directory / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=complaint) as caught:
        write(directory)
    assert "metrics.json" in str(caught.value)
    assert "subgrid compare CASE" in str(caught.value)


def test_malformed_fields_name_the_file_and_the_remedy(tmp_path):
    directory = lay(tmp_path / "run", measured(), (32,))
    shutil.rmtree(directory / "comparison.zarr" / "spectrum")
    with pytest.raises(ValueError, match=r"comparison\.zarr lacks spectrum.*subgrid compare CASE"):
        write(directory)
    shutil.rmtree(directory / "comparison.zarr")
    (directory / "comparison.zarr").mkdir()
    with pytest.raises(ValueError, match=r"comparison\.zarr cannot be read.*subgrid compare CASE"):
        write(directory)


def test_sources_must_match_the_rows(tmp_path):
    directory = lay(tmp_path / "run", measured(), (32,))
    metrics = measured(LEVELS | {"unknown": ("learned", 0.1, 1.0)})
    (directory / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match="no source named unknown"):
        write(directory)


def browse(profile: Path, *options: str) -> str:
    """Run headless Chromium with a profile of its own and no traffic; returns what it prints."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for path in map(shutil.which, names) if path), None)
    if browser is None:
        pytest.skip("no Chromium found: install the Debian package `chromium`")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    run = subprocess.run([browser, *flags, *options], capture_output=True, text=True, timeout=120, check=True)
    return run.stdout


def test_a_browser_shows_the_page_with_all_its_pictures(drawn, tmp_path):
    text = (drawn / "report.html").read_text(encoding="utf-8")
    probe = "<script>for (const i of document.images) i.dataset.loaded = i.complete && i.naturalWidth</script>"
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    dom = browse(tmp_path / "profile", "--virtual-time-budget=10000", "--dump-dom", probed.as_uri())
    widths = [int(width) for width in re.findall(r'data-loaded="(\d+)"', dom)]
    assert len(widths) == text.count("<img ")
    assert min(widths) > 300
    assert all(f'<th scope="row">{name}' in dom for name in LEVELS)
    shot = tmp_path / "page.png"
    options = ("--hide-scrollbars", "--window-size=1200,1600", f"--screenshot={shot}")
    browse(tmp_path / "profile", *options, (drawn / "report.html").as_uri())
    with Image.open(shot) as image:
        assert image.size == (1200, 1600)
        assert np.asarray(image.convert("L")).std() > 10


def test_a_nearest_training_run_is_no_closure():
    levels = {name: LEVELS[name] for name in ("uncorrected", "leith")} | {"nearest": ("nearest", 0.01, 1e-9)}
    metrics = Metrics.model_validate(measured(levels))
    assert "best closure is leith" in verdict(metrics) and "nearest" not in verdict(metrics)
    assert set(page._outcomes(metrics)) == {"leith"}


def test_page_says_why_an_oracle_can_be_beaten_if_there_is_one(tmp_path):
    why = "A closure can beat it"
    assert why in write(lay(tmp_path / "with", measured(), (32,))).read_text(encoding="utf-8")
    without = {name: level for name, level in LEVELS.items() if name != "oracle"}
    assert why not in write(lay(tmp_path / "without", measured(without), (32,))).read_text(encoding="utf-8")
