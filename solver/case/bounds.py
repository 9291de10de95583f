"""Bounds on the data of a case, checked before anything else reads them: depth, numbers, and lengths of text and lists.

A file of a few kilobytes can otherwise exhaust the stack, or hold integers, names and lists that no later code expects.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .mistakes import MOST_SHOWN, CaseError, shortened

LARGEST_FILE = 2**20  # bytes of a case file
DEEPEST = 20  # tables and lists within each other
LONGEST_KEY, LONGEST_TEXT = 200, 10_000  # characters
MOST_CLOSURES, MOST_ENTRIES, MOST_VALUES = 100, 1000, 20_000  # of a list of closures, of any list, in all
LARGEST_INTEGER = 2**63 - 1  # TOML's


def parse(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ValueError with what is wrong."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its tables or lists are nested too deeply") from None


def check_size(path: Path) -> None:
    """Raise ValueError if the file is larger than any case."""
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise ValueError(f"it has {size / 1e6:.3g} MB, expected a case of at most {LARGEST_FILE / 1e6:.3g} MB")


def require_bounded(data: Mapping[str, Any], source: str) -> None:
    """Raise CaseError if a key or a value of a case is out of bounds."""
    if mistakes := out_of_bounds(data):
        raise CaseError(source, mistakes)


def out_of_bounds(data: Mapping[str, Any]) -> list[str]:
    """A mistake for every key or value out of bounds, found without recursion: no depth of the data can stop it."""
    mistakes: list[str] = []
    waiting: list[tuple[str, int, Any]] = [("", 0, data)]
    seen = 0
    while waiting and len(mistakes) <= MOST_SHOWN:
        key, depth, value = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            return [f"it has more than {MOST_VALUES} values. Remedy: remove what is no part of a case"]
        if wrong := _wrong(key, depth, value):
            mistakes.append(f"{shortened(key, 100)}: {wrong}")
        elif isinstance(value, (Mapping, list, tuple)):
            entries = list(value.items() if isinstance(value, Mapping) else enumerate(value))
            if bad := [k for k, _ in entries if isinstance(k, str) and (len(k) > LONGEST_KEY or not _is_text(k))]:
                name = shortened(ascii(bad[0]), 60)
                mistakes.append(f"{key or 'case'}: the key {name} is no name of at most {LONGEST_KEY} characters")
            else:
                waiting += [(f"{key}.{k}" if key else str(k), depth + 1, v) for k, v in reversed(entries)]
    return mistakes


def _wrong(key: str, depth: int, value: Any) -> str | None:
    """What is out of bounds in a value, or None."""
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"expected an integer of 64 bits, found {shortened(_digits(value), 40)}"
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"expected at most {LONGEST_TEXT} characters, found {len(value)}"
    if isinstance(value, str) and not _is_text(value):
        return f"expected text, found {shortened(ascii(value), 60)}, which has a NUL character or a surrogate"
    if isinstance(value, (Mapping, list, tuple)):
        if depth > DEEPEST:
            return f"nested too deeply; expected at most {DEEPEST} tables and lists within each other"
        closures = key == "closure" or key.startswith("compare.")
        most = MOST_CLOSURES if closures and not isinstance(value, Mapping) else MOST_ENTRIES
        if len(value) > most:
            return f"expected at most {most} entries, found {len(value)}"
    return None


def _digits(value: int) -> str:
    """The integer in decimal digits; Python refuses to write one of more than some thousand."""
    return str(value) if abs(value) < 10**1000 else f"one of {value.bit_length()} bits"


def _is_text(text: str) -> bool:
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)
