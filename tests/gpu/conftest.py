"""Modules that the tests of this folder share with `make gpu`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def cupy() -> Iterator:
    """The backend of the stand-in for CuPy, which is installed during the test."""
    import fake_cupy

    with fake_cupy.installed() as backend:
        yield backend
