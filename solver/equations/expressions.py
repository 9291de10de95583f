"""Formulas in case files: numbers, names, + - * / **, comparisons, and the functions of FUNCTIONS.

A formula is parsed into a syntax tree, every node of which must be on a short list, and the tree is computed with
arrays by `Expression.__call__`. No text is ever executed as Python. Numbers are in double precision from the start, so
that no power is large: what overflows is infinite.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..grid import Grid

LONGEST, MOST_NODES = 2000, 500
NODES = 4  # of Gauss-Legendre quadrature along each axis of a cell
CONSTANTS = {"pi": math.pi}
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    **{name: (1, getattr(np, name)) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt")},
    "abs": (1, np.abs),
    "arctan2": (2, np.arctan2),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "where": (3, np.where),
}
_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_UNARY: dict[type, Callable[..., Any]] = {ast.USub: np.negative, ast.UAdd: np.positive}
_COMPARED: dict[type, Callable[..., Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}


class Expression:
    """A formula of the given names, checked when it is made.

    Raises ValueError, with the place and the remedy, if the text is no formula or asks for another name.
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        self._text, self._names = text, (*names, *CONSTANTS)
        if len(text) > LONGEST:
            raise ValueError(f"the formula has {len(text)} characters. Remedy: use at most {LONGEST}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", SyntaxWarning)  # such as of "1if x"
                self._tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"{self._quoted()} is no formula: {error.msg}, at character {error.offset}") from None
        except (ValueError, RecursionError, MemoryError):
            raise ValueError(
                f"{self._quoted()} is no formula. Remedy: use fewer brackets, and printable text"
            ) from None
        if sum(1 for _ in ast.walk(self._tree)) > MOST_NODES:
            raise ValueError(
                f"{self._quoted()} is too long. Remedy: use fewer than {MOST_NODES} operations and numbers"
            )
        self._check(self._tree)

    def __call__(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """The formula of arrays that fit each other, in double precision; not finite where it overflows."""
        with np.errstate(all="ignore"):
            return np.asarray(self._compute(self._tree, {**CONSTANTS, **values}), dtype=np.float64)

    def uses(self, name: str) -> bool:
        """Whether the formula names `name`."""
        return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(self._tree))

    def _quoted(self) -> str:
        return repr(self._text if len(self._text) <= 60 else self._text[:57] + "...")

    def _refuse(self, node: ast.expr, why: str) -> None:
        raise ValueError(f"{self._quoted()}: {why}, at character {node.col_offset + 1}")

    def _check(self, node: ast.expr) -> None:
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                try:
                    float(value)
                except OverflowError:
                    self._refuse(node, "a number is too large")
            case ast.Name(id=name):
                if name not in self._names:
                    known = f"Remedy: the names here are {', '.join(self._names)}"
                    self._refuse(node, f"{name!r} is not known. {known}")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._check(left)
                self._check(right)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                self._check(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARED:
                self._check(left)
                self._check(right)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                if name not in FUNCTIONS:
                    self._refuse(node, f"there is no function {name!r}. Remedy: use {', '.join(FUNCTIONS)}")
                if len(arguments) != FUNCTIONS[name][0]:
                    self._refuse(node, f"{name} takes {FUNCTIONS[name][0]} arguments, found {len(arguments)}")
                for argument in arguments:
                    self._check(argument)
            case _:
                allowed = f"numbers, names, + - * / **, one of < <= > >=, {', '.join(FUNCTIONS)}"
                self._refuse(node, f"a formula cannot contain this. Remedy: use {allowed}")

    def _compute(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=int() | float() as value):
                return float(value)
            case ast.Name(id=name):
                return values[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](self._compute(left, values), self._compute(right, values))
            case ast.UnaryOp(op=op, operand=operand):
                return _UNARY[type(op)](self._compute(operand, values))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _COMPARED[type(op)](self._compute(left, values), self._compute(right, values))
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return FUNCTIONS[name][1](*(self._compute(argument, values) for argument in arguments))
        raise AssertionError("the formula was checked when it was made")


def cell_means(
    formula: Expression, along: Mapping[str, NDArray[np.float64]], grid: Grid, known: Mapping[str, float]
) -> NDArray[np.float64]:
    """Means of a formula over the cells of a grid, by Gauss-Legendre quadrature with NODES points along each axis.

    along: centres of the cells by axis, in array order; known: the values of other names. Exact for polynomials of
    degree 7.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total = np.zeros(grid.shape)
    for place in np.ndindex(*(NODES,) * grid.dimensions):
        moved = {
            name: values + 0.5 * h * nodes[i]
            for (name, values), h, i in zip(along.items(), grid.spacing, place, strict=True)
        }
        weight = np.prod([0.5 * weights[i] for i in place])
        total += weight * formula(sparse(moved) | dict(known))
    return total


def sparse(along: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Coordinates by axis, in array order, shaped to broadcast over the grid."""
    return dict(zip(along, np.meshgrid(*along.values(), indexing="ij", sparse=True), strict=True))
