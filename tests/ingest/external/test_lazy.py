"""Views of arrays in files agree with those of NumPy, and read no more than they need."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from subgrid.commands.data import Keys
from subgrid.ingest.external.lazy import Lazy, concatenate, stack, wrapped
from subgrid.ingest.external.options import Options

ARRAY = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
VIEWS = {
    "transpose": (lambda a: a.transpose((2, 0, 3, 1)), lambda a: a.transpose(2, 0, 3, 1)),
    "pick": (lambda a: a.pick(1, 2), lambda a: a[:, 2]),
    "expand": (lambda a: a.expand(1), lambda a: a[:, None]),
    "take": (lambda a: a.take(2, np.array([3, 0, 0, 2])), lambda a: a[:, :, [3, 0, 0, 2]]),
    "concatenate": (
        lambda a: concatenate([a, a.take(1, np.array([1]))], 1),
        lambda a: np.concatenate([a, a[:, 1:2]], 1),
    ),
    "stack": (lambda a: stack([a, a], 2), lambda a: np.stack([a, a], 2)),
    "several": (
        lambda a: concatenate([a, a], 0).transpose((3, 1, 0, 2)).take(0, np.array([4, 1])).pick(3, 1),
        lambda a: np.concatenate([a, a]).transpose(3, 1, 0, 2)[[4, 1]][..., 1],
    ),
}  # fmt: skip


def keys(n: int) -> st.SearchStrategy:
    ends = st.one_of(st.none(), st.integers(-n - 1, n + 1))
    steps = st.sampled_from([None, 1, 2, 3, -1, -2])
    return st.one_of(st.integers(-n, n - 1), st.builds(slice, ends, ends, steps))


@pytest.mark.parametrize("name", VIEWS)
@given(data=st.data())
def test_views_are_those_of_numpy(name, data):
    """For integers and slices of either direction."""
    mine, numpys = (view(a) for view, a in zip(VIEWS[name], (Lazy.of(ARRAY), ARRAY), strict=True))
    assert (mine.shape, mine.ndim, mine.nbytes) == (numpys.shape, numpys.ndim, numpys.nbytes)
    key = tuple(data.draw(keys(n)) for n in numpys.shape)
    np.testing.assert_array_equal(mine[key], numpys[key])


def test_xarray_reads_a_view_by_every_kind_of_index():
    array = xr.DataArray(xr.Variable(("a", "b", "c", "d"), wrapped(Lazy.of(ARRAY))))
    plain = xr.DataArray(ARRAY, dims=array.dims)
    for choice in ({"a": 1}, {"b": [2, 0]}, {"c": slice(None, None, -2), "d": [1, 3]}, {"d": plain["d"] > 1}):
        np.testing.assert_array_equal(array.isel(choice), plain.isel(choice))


def test_a_part_of_a_view_reads_that_part():
    read = []

    def part(key):
        read.append(ARRAY[key].size)
        return ARRAY[key]

    view = Lazy(ARRAY.shape, ARRAY.dtype, part).transpose((3, 2, 1, 0)).pick(0, 4).take(0, np.array([2, 0]))
    assert view[0, 1:, 1].shape == (2,)
    assert read == [2]


def test_the_command_line_has_every_key_of_the_options():
    assert [f.name for f in dataclasses.fields(Keys)] == list(Options.model_fields)
