"""Every shipped case, in the short version of its [expected] table, gives the numbers that stand there."""

from pathlib import Path

import pytest

from subgrid.commands.comparison.compare import compare
from subgrid.solver.case.reading import read

CASES = sorted((Path(__file__).parent.parent / "cases").glob("*.toml"))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """References are made here, whatever the user's cache holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path):
    """Every row and metric under [expected] lies between its two numbers; no row has failed."""
    short = read(path).expected
    case = read(path, short.pop("set", []))
    rows = {row["name"]: row for row in compare(case, progress=False).metrics.model_dump()["rows"]}
    assert not [name for name, row in rows.items() if row["failed"]]
    assert short, "a shipped case carries reference numbers"
    found = {
        (name, metric): rows[name][metric][-1] if isinstance(rows[name][metric], list) else rows[name][metric]
        for name, wanted in short.items()
        for metric in wanted
    }
    wrong = {
        key: value for key, value in found.items() if not short[key[0]][key[1]][0] <= value <= short[key[0]][key[1]][1]
    }
    assert not wrong
