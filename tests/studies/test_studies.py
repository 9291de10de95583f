"""Every command of studies/ starts: its imports and its options."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "studies"
COMMANDS = [
    "cheap_closures",
    "exponax_reference",
    "hypar_two_stream",
    "lam_slide",
    "lam_slide_ethanol",
    "lam_slide_identifiers",
    "lam_slide_pedestrians",
    "latent_diffusion",
    "long_runs",
    "mi2a",
    "mi2a_curves",
    "mi2a_speed",
    "mi2a_table",
    "pdebench_dam_break",
    "results",
    "rom",
    "rom_frontier",
    "rom_study",
    "swashes",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_study_starts_in_any_folder(name, tmp_path):
    """The help text is the docstring, and names the path of the command."""
    if name == "exponax_reference" and importlib.util.find_spec("exponax") is None:
        pytest.skip("needs exponax")
    command = [sys.executable, str(STUDIES / f"{name}.py"), "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert f"python studies/{name}.py" in shown.stdout


def test_all_studies_are_listed():
    commands = [path.stem for path in STUDIES.glob("*.py") if '__name__ == "__main__"' in path.read_text()]
    assert sorted(commands) == COMMANDS
