"""A comparison over the parameters of a sweep: errors at the test points, latent trajectories, and their pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr

from subgrid.commands import cli
from subgrid.commands.comparison.comparison import Comparison
from subgrid.solver.case.reading import check
from subgrid.solver.case.sweep_design import among

CLOSURE = '''
from typing import ClassVar

import numpy as np

from subgrid.closures.learning.learned_closure import LearnedClosure
from subgrid.solver.closure import ClosureError, Tendency


class Growth(LearnedClosure):
    """du/dt += rate u; refuses pulses wider than `widest`."""

    learns_from: ClassVar[str] = "sweep"
    rate: float = 0.1
    widest: float = 1.0
    learned_from: tuple[float, ...] = ()  # parameters of a run that the sweep does not have

    def start(self, problem):
        if problem.initial["width"] > self.widest:
            raise ClosureError("too wide")
        return {}

    def __call__(self, view, memory):
        return Tendency(self.rate * view.state), memory

    def training_points(self):
        return np.array([self.learned_from]) if self.learned_from else None

    def latent_trajectories(self, states, interval):
        found = states.reshape(len(states), -1)[:, :3]
        return {"encoded": found, "predicted": found + interval, "deviation": np.full_like(found, np.nan)}
'''
CASE: dict[str, Any] = {
    "title": "pulse",
    "equation": {"name": "burgers", "viscosity": 0.05, "discretisation": "finite-volume"},
    "grid": {"shape": [16], "length": [1.0]},
    "time": {"end": 0.2, "step": 0.01, "stepper": "ssp-rk2"},
    "initial": {"kind": "gaussian", "centre": 0.5, "width": 0.15, "amplitude": 1.0},
    "output": {"every": 0.05},
    "reference": {"shape": [16]},
}
TWO = {"equation.viscosity": [0.01, 0.09], "initial.width": [0.1, 0.2]}


def page_texts(folder):
    """Titles and labels of the picture of the parameters."""
    (first, *others) = Comparison.load(folder).figure("parameters").axes
    return [a.get_title("left") for a in (first, *others)] + [line.get_label() for line in first.lines]


@pytest.mark.parametrize("plane", [TWO, {"initial.width": [0.1, 0.2]}])
def test_errors_over_the_parameters(plane, tmp_path, monkeypatch, capsys):
    """At the case's parameters the error is that of the row; a refused point has none; both pictures are drawn."""
    monkeypatch.setenv("SUBGRID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "growth.py").write_text(CLOSURE)
    row = {"path": "growth.py:Growth"}
    case = CASE | {
        "sweep": {"parameters": plane, "counts": [2] * len(plane), "test_counts": [3] * len(plane), "every": 0.01},
        "compare": {
            "closures": [
                row | {"label": "all", "learned_from": [0.05, 0.15][-len(plane) :]},
                row | {"label": "narrow", "rate": 0.2, "widest": 0.17},
                "none",
            ],
            "frontier": False,
            "parameter_plane": True,
        },
    }
    file = tmp_path / "pulse.toml"
    file.write_text(tomli_w.dumps(case))
    assert cli.execute(["compare", str(file), "--out", str(tmp_path / "out"), "--json"]) == cli.DONE, (
        capsys.readouterr()
    )
    found = xr.open_zarr(tmp_path / "out" / "comparison.zarr", consolidated=False).load()
    assert list(found["plane_source"].values) == ["all", "narrow"]
    points = found["plane_point"].values
    assert len(points) == 3 ** len(plane)
    own = np.isclose(points[:, -1], 0.15) & np.isclose(points[:, 0], {1: 0.15, 2: 0.05}[len(plane)])
    for name, errors in zip(("all", "narrow"), found["plane_error"].values, strict=True):
        expected = float(found["relative_l2"].sel(source=name).max())
        assert errors[own] == pytest.approx(expected, rel=1e-5) and expected > 1e-3
        assert np.array_equal(np.isnan(errors), (points[:, -1] > 0.17) & (name == "narrow"))
    trained = found["training_point"].values  # the corners, and the centre, of which the weights say so
    assert trained[:-1].tolist() == check(case, "pulse", tmp_path).sweep.points().tolist()
    assert among(points, trained).sum() == 2 ** len(plane) + 1 == len(trained)
    texts = page_texts(tmp_path / "out")
    for name, errors in zip(("all", "narrow"), found["plane_error"].values, strict=True):
        unseen = errors[~among(points, trained) & np.isfinite(errors)]
        worst = (
            f"at most {100 * unseen.max():.2g} % at {len(unseen)} unseen points" if unseen.size else "no other points"
        )
        assert any(name in text and worst in text for text in texts), texts
    assert found["latent_encoded"].shape == (5, 3)
    np.testing.assert_allclose(found["latent_predicted"] - found["latent_encoded"], 0.05, rtol=1e-12)
    pictures = {p.stem for p in (tmp_path / "out" / "pictures").iterdir()}
    assert {"parameters", "latents"} <= pictures
    assert (
        "Each row, started from the initial state of every parameter" in (tmp_path / "out" / "report.html").read_text()
    )
