"""The files of the cases of SWASHES that ship are those that the study writes."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import netcdf_file

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["subcritical", "shock", "macdonald", "swash"])
def test_the_shipped_files_are_those_of_the_study(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    import swashes

    swashes.main(tmp_path)
    with (
        netcdf_file(tmp_path / f"swashes-{name}.nc", mmap=False) as made,
        netcdf_file(ROOT / "cases" / "data" / f"swashes-{name}.nc", mmap=False) as shipped,
    ):
        assert list(made.variables) == list(shipped.variables)
        for key, variable in made.variables.items():
            np.testing.assert_allclose(shipped.variables[key][:], variable[:], rtol=1e-12, atol=1e-13)
