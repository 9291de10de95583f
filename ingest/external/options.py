"""What a user says about data, checked; `Options` are the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from subgrid.solver.case.data_file import CODES, Selection
from subgrid.solver.case.data_file import DataKeys as Options

from .contents import DataError

__all__ = ["CODES", "Options", "Selection", "options_of"]


def options_of(given: Mapping[str, Any]) -> Options:
    """The options, checked. Raises DataError with the key, the value and what was expected."""
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        lines = []
        for found in error.errors():
            key = ".".join(str(part) for part in found["loc"])
            text = str(found["msg"]).removeprefix("Value error, ")
            if found["type"] == "extra_forbidden":
                text = f"unknown key; expected one of {', '.join(Options.model_fields)}"
            lines.append(f"{key}: {text}")
        raise DataError("the options of the data are wrong: " + "; ".join(lines)) from None
