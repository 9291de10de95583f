"""The radial dam break in PDEBench's layout, small: its depth is a reference, and trains a learned correction."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from subgrid import open_data
from subgrid.commands.cli import execute
from subgrid.ingest.prepare import prepare
from subgrid.solver.case.reading import read

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(module, files of the cases); the file has 48 x 48 cells and 4 samples, the last of which is the reference."""
    folder = tmp_path_factory.mktemp("dam-break")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        patch.setenv("SUBGRID_CACHE", str(folder / "cache"))
        import pdebench_dam_break

        pdebench_dam_break.write(folder / pdebench_dam_break.FILE, 48, 4, cells=288, inner=3)
        yield pdebench_dam_break, *pdebench_dam_break.cases(folder, 48, 4, steps=150)
        del sys.modules["pdebench_dam_break"]


def test_the_file_is_read_by_its_layout(study):
    data = open_data(study[1].parent / study[0].FILE)
    assert data.attrs["format"] == "pdebench" and dict(data.sizes) == {"trajectory": 4, "time": 101, "y": 48, "x": 48}
    assert float(data["gravity"]) == 1.0 and ((data["dam_radius"] > 0.3) & (data["dam_radius"] < 0.7)).all()
    r, depth = study[0].radial_depth(0.5, cells=288)
    volume = (depth * r).sum(axis=1)
    np.testing.assert_allclose(volume, volume[0], rtol=1e-12)


def test_coarse_shallow_water_is_scored_by_the_depth_which_is_all_that_the_file_has(study, caplog, tmp_path):
    module, water, _ = study
    result = module.compare(read(water, ["compare.frontier=false"]), out=tmp_path / "out", progress=False)
    none = result.metrics.rows[0]
    assert none.relative_l2[0] < 1e-7 and 0.005 < none.relative_l2[-1] < 0.06
    assert none.crps[-1] < 0.05 and not none.invariants and none.spectrum_distance is None
    assert (
        result.dataset.attrs["field"] == "depth"
        and "without momentum_x, momentum_y" in result.metrics.reference.description
    )
    assert "is scored by the other fields" in caplog.text
    assert execute(["report", str(tmp_path / "out")]) == 0


def test_the_ladder_is_scored_by_the_same_fields(study):
    module, water, _ = study
    result = module.compare(read(water, ["time.end=0.1", "output.every=0.05", "compare.closures=[]"]), progress=False)
    errors = {row.shape[0]: row.relative_l2[-1] for row in result.metrics.frontier}
    assert errors[24] < errors[12] == pytest.approx(result.metrics.rows[0].relative_l2[-1], rel=0.2)


def test_regression_learns_from_pairs_without_an_equation(study, caplog):
    module, _, alone = study
    small = "train.regression.network_options={width=8, layers=3, kernel=5}"
    module.train(read(alone, [small]), "regression", out=alone.parent / "depth-alone.safetensors", progress=False)
    assert "is a learned correction" in caplog.text
    none, learned = module.compare(read(alone), progress=False).metrics.rows
    assert np.mean(learned.relative_l2[1:]) < 0.6 * np.mean(none.relative_l2[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "reference.unobserved={}",
            "reference.map: .* has no field momentum_x.*or unobserved = { momentum_x = VALUE }",
        ),
        (
            "reference.unobserved={momentum_x=0, momentum_y=0, speed=1}",
            "reference.unobserved: 'speed' is not known; expected one of: depth, momentum_x",
        ),
        (
            "reference.unobserved={depth=1, momentum_x=0, momentum_y=0}",
            r"unobserved.depth: .*2D_rdb_NA_NA.h5 has this field",
        ),
        ('compare.closures=[{name="oracle"}]', "reference.unobserved: a closure needs the missing term"),
    ],
)
def test_fields_that_are_not_observed_are_refused_where_they_do_not_fit(study, change, message):
    with pytest.raises(ValueError, match=message):
        study[0].compare(read(study[1], [change]), progress=False)


def test_the_model_starts_with_the_values_of_fields_that_are_not_observed(study):
    """They are part of the key of the cache."""
    change = "reference.unobserved={{momentum_x={}, momentum_y=0}}"
    cases = [read(study[1], [change.format(value)]) for value in (0, 0.25)]
    for case, value in zip(cases, (0, 0.25), strict=True):
        state = prepare(case, case.folder, with_reference=True).state
        assert (state[:, 1] == value).all() and (state[:, 0] >= 1).all()
