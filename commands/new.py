"""`subgrid new`: templates that work as they are, of a closure with its test and case, or of a case."""

from __future__ import annotations

import importlib.util
import keyword
import sys
from pathlib import Path
from string import Template
from typing import Literal

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "closure": {
        "closure.py.txt": "{name}.py",
        "test_closure.py.txt": "test_{name}.py",
        "closure-case.toml": "{name}-case.toml",
    },
    "case": {"case.toml": "{name}.toml"},
}


def write(what: Literal["closure", "case"], name: str, folder: Path) -> list[Path]:
    """Write the files of a template into `folder`, all or none, and return their paths.

    Raises ValueError if the name is not an identifier or would hide an installed module, or if a file exists already.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not an identifier. Remedy: use letters, digits and underscores, as in my_{what}")
    if what == "closure" and (name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None):
        raise ValueError(f"{name}.py would hide the installed module {name!r}. Remedy: choose another name")
    targets = {source: folder / file.format(name=name) for source, file in FILES[what].items()}
    if taken := [str(path) for path in targets.values() if path.exists()]:
        raise ValueError(f"{', '.join(taken)}: exists already. Remedy: choose another name, or another --out")
    folder.mkdir(parents=True, exist_ok=True)
    words = {"name": name, "Name": "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Closure"}
    for source, target in targets.items():
        target.write_text(
            Template((TEMPLATES / source).read_text(encoding="utf-8")).substitute(words), encoding="utf-8"
        )
    return list(targets.values())
