"""Formulas of case files: their values, and what they refuse."""

import ast
import math
import random

import numpy as np
import pytest

from subgrid.solver.equations.expressions import FUNCTIONS, Expression

X = np.linspace(-1, 2, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", 2.0),
        ("-x**2 + 3*x/2", -(X**2) + 1.5 * X),
        ("2**-1", 0.5),
        ("10/4", 2.5),
        ("sin(2*pi*x) * exp(-x)", np.sin(2 * np.pi * X) * np.exp(-X)),
        ("where(x < 0.5, 1, cosh(x))", np.where(X < 0.5, 1.0, np.cosh(X))),
        ("max(min(x, 1), 0)", np.clip(X, 0, 1)),
        ("(x >= 0) * sqrt(abs(x)) + arctan2(x, 1)", (X >= 0) * np.sqrt(np.abs(X)) + np.arctan2(X, 1)),
        ("  +log(x + 2)\n", np.log(X + 2)),
    ],
)
def test_a_formula_has_the_value_of_the_same_text_in_numpy(text, expected):
    found = Expression(text, ("x",))({"x": X})
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_huge_powers_overflow_in_double_precision():
    """In integers the first would fill the memory."""
    assert Expression("9**9**9**9", ())({}) == math.inf
    assert Expression("1/0", ())({}) == math.inf and np.isnan(Expression("log(-1)", ())({}))
    with pytest.raises(ValueError, match="a number is too large, at character 3"):
        Expression("1+" + "9" * 400, ())


REFUSED = [
    "__import__('os').system('ls')",
    "x.real",
    "x.__class__",
    "(1).__class__",
    "x[0]",
    "[1, 2]",
    "(1, 2)",
    "{}",
    "'text'",
    "f'{x}'",
    "True",
    "None",
    "1j",
    "...",
    "lambda: 1",
    "(lambda: 1)()",
    "x if x else 1",
    "x and 1",
    "not x",
    "0 < x < 1",
    "x == 1",
    "x % 2",
    "x // 2",
    "x << 9",
    "x @ x",
    "~x",
    "(y := 1)",
    "sin(x=1)",
    "sin(*x)",
    "sin(**x)",
    "[i for i in x]",
    "await x",
    "yield x",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot contain this|is no formula|takes 1 arguments"):
        Expression(text, ("x",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no formula"),
        ("sin(x", "'sin\\(x' is no formula: .*, at character 4"),
        ("x = 1", "is no formula"),
        ("import os", "is no formula"),
        ("x\0", "is no formula"),
        ("2*z", "'z' is not known. Remedy: the names here are x, pi, at character 3"),
        ("__builtins__", "'__builtins__' is not known"),
        ("eval(x)", "there is no function 'eval'. Remedy: use sin, "),
        ("where(x, 1)", "where takes 3 arguments, found 2"),
        ("(" * 900 + "x" + ")" * 900, "is no formula"),
        ("-" * 1900 + "x", "is no formula|is too long"),
        ("x+" * 700 + "x", "is too long. Remedy: use fewer than 500"),
        ("x" * 2001, "has 2001 characters. Remedy: use at most 2000"),
    ],
)
def test_a_mistake_is_one_message_with_its_place(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        Expression(text, ("x",))
    assert len(str(raised.value)) < 400


def test_random_text_is_a_formula_of_the_list_or_refused():
    """Pieces of Python in random order: a formula that is taken has nodes of the list alone, and a value."""
    pieces = [
        "x",
        "1",
        "2.5",
        "pi",
        "(",
        ")",
        "+",
        "-",
        "*",
        "/",
        "**",
        ",",
        ".",
        "<",
        "[",
        "]",
        " ",
        "'",
        ":",
        "=",
        "!",
    ]
    pieces += [
        *FUNCTIONS,
        "lambda",
        "if",
        "else",
        "for",
        "in",
        "__class__",
        "import",
        "os",
        "exec",
        "\n",
        "{",
        "}",
        "@",
    ]
    listed = (ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.operator, ast.unaryop)
    listed += (ast.cmpop, ast.expr_context)
    draw, taken = random.Random(0), 0
    for _ in range(20000):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 8)))
        try:
            formula = Expression(text, ("x",))
        except ValueError:
            continue
        taken += 1
        assert all(isinstance(node, listed) for node in ast.walk(ast.parse(text.strip(), mode="eval").body))
        assert formula({"x": X}).shape in ((), X.shape)
    assert taken > 200
