"""Text from outside on terminals: no control reaches the terminal, and no character is an error."""

from __future__ import annotations

import pytest

from subgrid.commands import terminal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("tourbillon à α = 1 °", "tourbillon à α = 1 °"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("\x9b31m", r"\x9b31m"),
        ("case\u202egnp.exe", r"case\u202egnp.exe"),
        ("a\u2066b\u2069\u200b\ufeff", r"a\u2066b\u2069\u200b\ufeff"),
        ("a\u2028b\u2029c\x85", r"a\u2028b\u2029c\x85"),
        ("caf\udce9", r"caf\udce9"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_controls_and_bidirectional_characters_are_escaped(text, expected):
    assert terminal.printable(text) == expected
    assert terminal.printable("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"
