"""Pictures for papers and reports of runs: sizes, colours, units, and independence of the user's settings."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from rich.console import Console

from subgrid.commands import cli
from subgrid.commands.comparison.dataset import squared
from subgrid.commands.comparison.results import Metrics
from subgrid.commands.report import frontier, of_runs, page
from subgrid.commands.report.drawing import (
    NAMES,
    PALETTE,
    PAPER,
    SIZES,
    bracketed,
    canvas,
    colours,
    legend,
    looks,
    plain_logarithm,
    sized,
    slots,
)
from subgrid.commands.report.scales import typical
from subgrid.commands.report.table import frame, html, terminal

from .test_page import dataset, lay, measured

WATER: dict[str, Any] = {
    "title": "Waves over a bump",
    "equation": {"name": "shallow-water", "bathymetry": {"kind": "bumps", "bumps": [
        {"height": 0.5, "width": 0.3, "centre": [0.5, 1.2]}]}},
    "grid": {"shape": [8, 24], "length": [1.0, 3.0]},
    "time": {"end": 0.2, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "tau": 3.0},
    "output": {"every": 0.05, "derived": ["surface"]},
    "reference": {"shape": [16, 48], "step": 0.005},
    "compare": {"frontier": False},
}  # fmt: skip


@pytest.mark.parametrize("style", ["one-column", "two-column"])
def test_pictures_for_papers_are_pdf_and_png_of_the_width_of_the_columns(style, tmp_path, capsys):
    folder = lay(tmp_path / "run", measured(), (24, 96))
    assert cli.execute(["report", str(folder), "--style", style, "--json"]) == cli.DONE
    place = Path(json.loads(capsys.readouterr().out)["report"])
    found = {f.stem for f in place.glob("*.pdf")}
    assert found == {f.stem for f in place.glob("*.png")} >= {"error", "spectra", "snapshots", "frontier"}
    for file in place.glob("*.png"):
        with Image.open(file) as image:
            assert image.width == round(300 * SIZES[style].width)
    assert all(file.read_bytes().startswith(b"%PDF") for file in place.glob("*.pdf"))
    assert not (folder / "report.html").exists()


def test_an_unknown_style_is_one_message(tmp_path, capsys):
    folder = lay(tmp_path / "run", measured(), (32,))
    before = sorted(folder.rglob("*"))
    assert cli.execute(["report", str(folder), "--style", "poster"]) == cli.MISTAKE
    assert "one-column" in capsys.readouterr().err and sorted(folder.rglob("*")) == before


def test_the_settings_of_the_user_change_no_picture():
    import matplotlib

    plot = page.plots(Metrics.model_validate(measured()), dataset(measured(), (96,)))["error"]
    expected = plot.png()
    before = dict(matplotlib.rcParams)
    try:
        matplotlib.rcParams.update({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9, "axes.grid": False})
        assert plot.png() == expected
        assert matplotlib.rcParams["font.size"] == 30
    finally:
        matplotlib.rcParams.update(before)


def test_a_run_has_one_colour_in_all_reports():
    """Whatever rows stand beside it; rows that share no name have different colours in one report."""
    rows = Metrics.model_validate(measured()).rows
    whole = {look.name: look.color for look in looks(rows)}
    for one in rows:
        assert looks([one])[1].color == whole[one.name] or one.name not in NAMES
    for names in (list(NAMES[:7]), ["a", "b", "leith", "c"], ["leith", "mine"]):
        assert len({s % len(PALETTE) for s in slots(names)}) == len(names)
        assert slots(names)[names.index("leith")] == NAMES.index("leith")
    assert len(set(slots([f"run {i}" for i in range(20)]))) == 20


def test_spectra_end_where_the_grid_resolves_and_have_a_panel_of_ratios():
    found = dataset(measured(), (96,)).assign_attrs(resolved_wavenumber=20)
    spectra, ratios = page.plots(Metrics.model_validate(measured()), found)["spectra"].figure().axes
    for axes in (spectra, ratios):
        assert all(np.nanmax(line.get_xdata()[np.isfinite(line.get_ydata())]) == 20 for line in axes.lines)
    reference = ratios.lines[0].get_ydata()
    np.testing.assert_allclose(reference[np.isfinite(reference)], 1.0)
    assert ratios.get_ylabel() == "E(k) / reference"


def test_the_domain_keeps_its_aspect_ratio():
    found = dataset(measured(), (16, 96))
    found = found.assign_coords(y=np.linspace(0, 1, 16), x=np.linspace(0, 6, 96))
    for style in SIZES:
        with sized(style):
            axes = page.plots(Metrics.model_validate(measured()), found)["snapshots"].figure().axes[0]
        assert axes.get_box_aspect() == pytest.approx((1 + 1 / 15) / (6 + 6 / 95), rel=1e-6)


def test_a_very_long_domain_has_a_legible_panel():
    found = dataset(measured(), (16, 96)).assign_coords(y=np.linspace(0, 0.02, 16), x=np.linspace(0, 1, 96))
    axes = page.plots(Metrics.model_validate(measured()), found)["snapshots"].figure().axes[0]
    assert axes.get_box_aspect() == 1 / 8


def test_grids_on_the_frontier_are_named_beside_the_line_and_do_not_cover_each_other():
    axes = page.plots(Metrics.model_validate(measured()), dataset(measured(), (96,)))["frontier"].figure().axes[0]
    found = [(text.xyann, text.get_ha(), text.get_va()) for text in axes.texts]
    assert found and set(found) <= {((4, 3), "left", "bottom"), ((-4, -3), "right", "top")}
    axes.set(xscale="log", yscale="log", xlim=(1, 1e3), ylim=(1, 1e3))
    grids = [("near", 10.0, 100.0), ("covered", 11.0, 99.0), ("far", 100.0, 10.0), ("far", 200.0, 3.0)]
    crowded = [(100.0 * a, 10.0 * b) for a in (0.8, 1.2) for b in (0.8, 1.2)]
    for taken, names in (([], ["near", "covered", "far"]), (crowded, ["near", "covered", "far"])):
        for text in list(axes.texts):
            text.remove()
        frontier._name(axes, grids, taken, "relative_l2")
        assert [text.get_text() for text in axes.texts] == names
    assert {text.get_ha() for text in axes.texts[:2]} == {"left", "right"}  # beside each other they would overlap
    assert axes.texts[2].xy == (200.0, 3.0)  # the first point of this name is crowded
    axes.set_xlim(1, 11)
    axes.texts[0].remove()
    frontier._name(axes, [("at the edge", 10.5, 100.0)], [], "relative_l2")
    assert axes.texts[-1].get_ha() == "right"


def test_every_axis_of_the_frontier_has_its_unit_and_a_time_that_was_not_reached_its_line():
    metrics = measured()
    metrics["unit"] = "length/time"
    for i, row in enumerate([*metrics["rows"], *metrics["frontier"]]):
        if row["means"]:
            row["means"] |= {"crps": 0.1 / (i + 1), "correlation_time": min(8.0, 3.0 + i)}
    figure = page.plots(Metrics.model_validate(metrics), dataset(metrics, (96,)))["frontier"].figure()
    labels = {a.get_ylabel(): a for a in figure.axes}
    expected = {"relative L2 error", "correlation time [time]", "spectrum distance", "CRPS [length/time]"}
    assert set(labels) == expected
    assert all(a.get_xlabel() == "CPU seconds per unit of time" for a in figure.axes)
    window = [line for line in labels["correlation time [time]"].lines if line.get_label() == "length of the window"]
    assert len(window) == 1 and set(window[0].get_ydata()) == {8.0}


def test_particles_on_the_frontier_are_named_by_their_steps():
    metrics = measured()
    for row, step in zip(metrics["frontier"], (0.4, 0.2, 0.1), strict=True):
        row |= {"shape": [5], "step": step}
    axes = page.plots(Metrics.model_validate(metrics), dataset(metrics, (96,)))["frontier"].figure().axes[0]
    assert {text.get_text() for text in axes.texts} <= {"h = 0.4", "h = 0.2", "h = 0.1"} and axes.texts


def test_a_panel_that_is_free_takes_the_legend():
    figure, axes = canvas(2, 2, panels=3)
    axes[0, 0].plot([0, 1], [0, 1], label="a run")
    axes[1, 1].set_axis_off()
    legend(figure, axes[0, 0], free=axes[1, 1])
    assert axes[1, 1].get_legend().texts[0].get_text() == "a run" and not figure.legends


def test_an_invariant_that_hardly_varies_is_drawn_from_a_number_that_its_axis_names():
    found = dataset(measured(), (96,))
    found["invariant_energy"] = 1.25 + 1e-7 * found["invariant_energy"]
    found["invariant_energy"].attrs |= {"units": "length^2/time^2", "long_name": "kinetic energy"}
    axes = page.plots(Metrics.model_validate(measured()), found)["invariants"].figure().axes[0]
    assert axes.get_ylabel() == "energy − 1.25 [length²/time²]" and axes.get_title("left") == "kinetic energy"
    assert max(np.nanmax(np.abs(line.get_ydata())) for line in axes.lines) < 1e-6
    found["invariant_energy"] = 0 * found["invariant_energy"] + 1.25
    axes = page.plots(Metrics.model_validate(measured()), found)["invariants"].figure().axes[0]
    assert max(np.abs(axes.get_ylim())) > 1e-13  # not the scale of round-off


def test_a_bad_run_does_not_hide_the_errors_of_the_others():
    errors = np.random.default_rng(0).standard_normal((4, 500)) * np.array([1.0, 1.1, 0.9, 20.0])[:, None]
    assert 2 < np.abs(typical(errors)).max() < 6
    np.testing.assert_array_equal(typical(errors)[:3], np.clip(errors[:3], -6, 6))
    assert np.isnan(typical(np.full((2, 3), np.nan))).all()


@pytest.mark.parametrize(
    ("low", "high", "axis", "labels"),
    [
        (0.02, 1.1, "x", ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]),
        (0.02, 900, "x", ["0.1", "1", "10", "100"]),
        (1.5e-4, 1.5e-3, "y", [r"$2\times10^{-4}$", r"$5\times10^{-4}$", "$10^{-3}$"]),
        (1.5e-5, 1.1e-2, "x", ["$10^{-4}$", "$10^{-3}$", "$10^{-2}$"]),
    ],
)  # fmt: skip
def test_a_logarithmic_axis_has_one_notation(low, high, axis, labels):
    _, (((axes,),)) = canvas()
    axes.set(**{f"{axis}scale": "log", f"{axis}lim": (low, high)})
    one = axes.xaxis if axis == "x" else axes.yaxis
    plain_logarithm(one)
    shown = [(x, text) for x, text in zip(one.get_majorticklocs(), one.get_majorticklabels(), strict=True)]
    axes.figure.draw_without_rendering()
    assert [text.get_text() for x, text in shown if low <= x <= high] == labels


def test_curves_that_cover_each_other_differ_in_width():
    rows = Metrics.model_validate(measured()).rows
    widths = [look.width for look in looks(rows)[1:] if look.dash == "solid"]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) == len(widths)


def test_one_column_has_no_room_for_panels_that_are_not_there():
    with sized("one-column"):
        figure, axes = canvas(4, 2, height=10.0, panels=7)
    assert axes.shape == (7, 1) and figure.get_figheight() == PAPER


def test_the_caption_of_a_paper_replaces_a_long_title():
    drawn = page.plots(Metrics.model_validate(measured()), dataset(measured(), (96,)))["error"]
    with sized("one-column"):
        assert drawn.figure().axes[0].get_title("left") == ""
    assert drawn.figure().axes[0].get_title("left")


def test_a_long_logarithmic_axis_keeps_labels():
    _, axes = canvas()
    axes[0, 0].set(yscale="log", ylim=(1e-17, 1))
    plain_logarithm(axes[0, 0].yaxis)
    assert len(axes[0, 0].get_yticks()) > 2
    axes[0, 0].set(ylim=(0.015, 0.6))
    plain_logarithm(axes[0, 0].yaxis)
    assert {0.02, 0.05, 0.1, 0.2, 0.5} <= set(np.round(axes[0, 0].get_yticks(), 6))


def test_a_budget_leaves_out_what_contributes_nothing_and_a_term_has_one_colour():
    time, member = np.linspace(0, 1, 5), [0]
    size = ("time", "member")
    run = xr.Dataset({"energy": (size, np.ones((5, 1)))}, coords={"time": time, "member": member})
    for name, value in {"forcing": 1.0, "beta": 0.0, "smagorinsky": -1.0, "diffusion": -0.5}.items():
        run[f"energy_by_{name}"] = (size, np.full((5, 1), value), {"units": "1/time"})

    def shown(found: xr.Dataset) -> dict[str, Any]:
        axes = of_runs.plots(found)["budget-energy"].figure().axes[0]
        return {str(line.get_label()): line.get_color() for line in axes.lines}

    both = shown(run)
    assert "by beta" not in both and {"by forcing", "by smagorinsky", "by diffusion", "sum"} <= set(both)
    assert shown(run.drop_vars("energy_by_smagorinsky"))["by forcing"] == both["by forcing"]
    assert both["by smagorinsky"] == PALETTE[NAMES.index("smagorinsky")]


def test_rows_known_by_name_alone_have_the_colours_of_reports():
    data = measured()
    for row in data["rows"]:
        row["name"] = row["kind"] if row["kind"] in ("none", "oracle") else row["name"]
    rows = Metrics.model_validate(data).rows
    assert len(rows) > 3 and colours([row.name for row in rows]) == [look.color for look in looks(rows)[1:]]


def test_a_time_that_is_the_window_was_not_reached():
    data = measured()
    data["rows"][4]["correlation_time"] = 8.0
    metrics = Metrics.model_validate(data | {"unit": "1/time"})
    assert "not reached" in html(metrics) and "CRPS at" not in frame(metrics).columns
    assert "[1/time]" in html(metrics) and "CRPS t=8" in html(metrics)
    assert frame(metrics).loc["regression", "correlation time"] == 8.0


@pytest.mark.parametrize(
    "names", [["dynamic-smagorinsky", "0.5 Smagorinsky + ShellDamping"], ["x" * 90], list(NAMES[:9])]
)
def test_tables_fit_80_columns_and_break_no_word(names):
    data = measured()
    data["rows"] += [data["rows"][4] | {"name": name, "correlation_time": 8.0} for name in names]
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(terminal(Metrics.model_validate(data)))
    text = capture.get()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    words = [word for name in names for word in name.replace("-", "- ").split() if len(word) <= 28]
    assert all(word in text for word in words)
    assert "reached" in text


def test_the_spectrum_has_the_unit_of_the_square_of_the_field():
    assert squared("time/length^2") == "time^2/length^4" and squared("length") == "length^2"


def test_units_have_raised_powers():
    assert bracketed("energy", "length^2/time^2") == "energy [length²/time²]"
    assert bracketed("time", "time") == "time" and bracketed("froude", "1") == "froude"


def test_the_report_of_a_run_shows_scalars_budgets_and_the_last_state(tmp_path, monkeypatch, capsys):
    import tomli_w

    monkeypatch.chdir(tmp_path)
    Path("case.toml").write_text(tomli_w.dumps(WATER), encoding="utf-8")
    closure = 'closure=[{name="smagorinsky"}]'
    assert cli.execute(["run", "case.toml", "--set", closure, "--out", "run", "--json"]) == cli.DONE
    assert cli.execute(["report", "run"]) == cli.DONE
    assert {f.stem for f in Path("run/pictures").glob("*.png")} == {"scalars", "budget-energy", "state"}
    assert "Budget of the energy" in Path("run/report.html").read_text(encoding="utf-8")
    assert cli.execute(["report", "run", "--style", "two-column"]) == cli.DONE
    assert Path("run/pictures/two-column/scalars.pdf").stat().st_size > 1000
    assert cli.execute(["resume", "run", "--json"]) == cli.DONE
    capsys.readouterr()
    assert cli.execute(["report", "missing"]) == cli.MISTAKE
    assert "missing" in capsys.readouterr().err


def test_a_run_that_lacks_outputs_has_no_report(tmp_path, monkeypatch, capsys):
    """A chunk without a file would read as nan: before later outputs it is damage, and at the end of a done run."""
    import tomli_w

    monkeypatch.chdir(tmp_path)
    Path("case.toml").write_text(tomli_w.dumps(WATER), encoding="utf-8")
    assert cli.execute(["run", "case.toml", "--set", "output.frames_per_chunk=1", "--out", "run", "--json"]) == cli.DONE
    chunks = Path("run/fields.zarr/depth/c")
    first, *_, last = sorted(chunks.iterdir(), key=lambda path: int(path.name))
    summary = json.loads(Path("run/summary.json").read_text(encoding="utf-8"))
    shutil.rmtree(last)
    assert cli.execute(["report", "run"]) == cli.MISTAKE
    assert "depth" in (message := capsys.readouterr().err) and "has no file, and 0 more" in message
    Path("run/summary.json").write_text(json.dumps(summary | {"status": "failed"}), encoding="utf-8")
    assert cli.execute(["report", "run"]) == cli.DONE
    shutil.rmtree(first)
    assert cli.execute(["report", "run"]) == cli.MISTAKE
    assert "at t = 0 has no file" in capsys.readouterr().err


def test_a_spectrum_has_logarithmic_axes_and_maps_beside_it_are_to_scale():
    from subgrid.commands.report.of_runs import plots
    from subgrid.commands.run import run
    from subgrid.solver.case.reading import read_case

    case = {
        "title": "a wide domain",
        "equation": {"name": "kolmogorov", "viscosity": 1e-3},
        "grid": {"shape": [16, 64], "length": [2.0, 8.0]},
        "time": {"end": 0.1, "step": 0.05, "stepper": "etdrk4"},
        "initial": {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 4.0},
        "output": {"every": 0.05, "derived": ["spectrum"]},
    }
    found = run(read_case(case), progress=False)
    line, field = plots(found[["spectrum", "vorticity"]])["state"].figure().axes[:2]
    assert (line.get_xscale(), line.get_yscale()) == ("log", "log") and line.get_xlabel() == "wavenumber"
    drawn = line.lines[0].get_ydata()
    assert np.isnan(drawn[0]) and np.isfinite(drawn[1:8]).all()
    assert field.get_box_aspect() == pytest.approx(0.25, rel=0.15)


def test_water_is_shown_as_a_surface_over_its_bed(tmp_path, monkeypatch):
    from subgrid.commands.comparison.compare import compare
    from subgrid.solver.case.reading import read_case

    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path))
    failing = {"compare.closures": ["hyperviscosity"]}  # fails at once: its surface is nowhere
    found = compare(read_case(WATER, failing), progress=False)
    assert isinstance(found.dataset, xr.Dataset) and "section" in found.figures
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surface = found.figure("section").axes[0]
    assert surface.get_ylabel() == "surface and bed [length]"
    np.testing.assert_allclose(surface.lines[0].get_ydata(), 1.0, atol=0.2)
    assert found.dataset["invariant_energy"].attrs["units"] == "length^3/time^2"
