"""Single precision in Numba kernels: constants and scalar arguments take the precision of the arrays.

Numba types every float constant of Python, and every Python float that is passed as an argument, as float64. One of
them in an expression of single precision would convert the whole expression, and vectors would hold half as many
values. A kernel whose arrays are in single precision is therefore compiled with constants and arguments of type
float32. Nothing changes for arrays in double precision. Constants that are integers keep their type: a kernel writes
2.0 x and not 2 x, because numba computes the product of an integer and a float32 in double precision.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numba.core import ir, types
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions, mk_unique_var
from numba.core.untyped_passes import InlineInlinables
from numba.extending import overload
from numpy.typing import NDArray

Precision = Literal["float64", "float32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
COMPLEX: dict[str, str] = {"float64": "complex128", "float32": "complex64"}
"""By the type of a real array: that of its Fourier coefficients."""


class ByPrecision(float):
    """A constant of kernels that has one value in double precision and another one in single precision."""

    single: float

    def __new__(cls, double: float, single: float) -> ByPrecision:
        value = super().__new__(cls, double)
        value.single = single
        return value

    def of(self, precision: str) -> float:
        """The value for arrays of type "float64" or "float32", for array code."""
        return self.single if precision == "float32" else float(self)


def in_single(value: Any) -> bool:
    """Whether a number is in single precision; in kernels a constant, which selects code when they are compiled."""
    return isinstance(value, np.float32)


@overload(in_single, inline="always")
def _in_single(value):
    return (lambda value: True) if value == types.float32 else (lambda value: False)


FLUSHED = ByPrecision(1e-280, 1e-30)  # the compiled steps set smaller values to zero from time to time


def real_type(dtype: Any) -> Precision:
    """The type of the real and imaginary parts of an array: "float64" or "float32"."""
    return "float32" if str(dtype).rpartition(".")[2] in ("float32", "complex64") else "float64"


def rounded(values: NDArray, dtype: Any) -> NDArray:
    """Coefficients, real or complex, in the precision of an array type."""
    if real_type(dtype) == "float64":
        return values
    return values.astype("complex64" if np.iscomplexobj(values) else "float32")


def in_two_parts(values: NDArray, dtype: Any) -> tuple[NDArray, NDArray | None]:
    """Coefficients by which a state is multiplied in every step: a whole number and the rest, in single precision.

    Such a coefficient is 1 + z with a small z, and its rounding error is the same in every step: the errors of many
    steps would add up instead of cancelling. With 1 and z the error is relative to the change of the state. In double
    precision the coefficients as they are, and None.
    """
    if real_type(dtype) == "float64":
        return values, None
    whole = np.round(values)
    return rounded(whole, dtype), rounded(values - whole, dtype)


@register_pass(mutates_CFG=False, analysis_only=False)
class _SinglePrecision(FunctionPass):
    """Replace float constants and float64 arguments of functions of float32 or complex64 arrays by float32 ones."""

    _name = "subgrid_single_precision"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        single = (types.float32, types.complex64)
        if not any(isinstance(a, types.Array) and a.dtype in single for a in state.args):
            return False
        for block in state.func_ir.blocks.values():
            body: list[Any] = []
            for statement in block.body:
                value = getattr(statement, "value", None)
                if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)) and isinstance(value.value, float):
                    rounded = np.float32(getattr(value.value, "single", value.value))
                    body.append(ir.Assign(ir.Const(rounded, statement.loc), statement.target, statement.loc))
                elif isinstance(value, ir.Arg) and state.args[value.index] == types.float64:
                    body += _rounded(statement)
                else:
                    body.append(statement)
            block.body = body
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


def _rounded(argument: Any) -> list[Any]:
    """The assignment of an argument to a variable, with a conversion to float32."""
    target, loc = argument.target, argument.loc
    given, convert = (ir.Var(target.scope, mk_unique_var(f"${name}"), loc) for name in ("given", "float32"))
    return [
        ir.Assign(argument.value, given, loc),
        ir.Assign(ir.Global("float32", np.float32, loc), convert, loc),
        ir.Assign(ir.Expr.call(convert, (given,), (), loc), target, loc),
    ]


class KernelCompiler(CompilerBase):
    """Numba's compiler, with single precision as above."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_SinglePrecision, InlineInlinables)
        passes.finalize()
        return [passes]
