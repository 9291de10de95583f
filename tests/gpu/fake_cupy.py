"""A stand-in for CuPy: its names over NumPy, with arrays that refuse every implicit conversion to NumPy.

`installed()` puts it in the place of the module `cupy`, so that array_api_compat wraps it as it wraps CuPy. Code that
passes on it does not mix arrays of host and device, and does not use what only NumPy has. It is stricter than CuPy:
float(), NumPy's functions and indices that are NumPy arrays are refused too. Counted are `to_host` (asnumpy, and truth
values and integers, which wait for the device) and `to_device` (asarray of what is on the host).
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from subgrid.solver.backend import Backend

BACKEND = Backend("cupy", "cpu")  # tensors of learned closures are in host memory here
counts = {"to_host": 0, "to_device": 0}


def _names(text: str) -> list[str]:
    return text.split()


NAMES = _names(
    """
    abs absolute add all amax amin any append arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax
    argmin argsort atleast_1d bitwise_and bitwise_or bitwise_xor broadcast_arrays broadcast_to ceil clip
    concatenate conj copysign cos cosh count_nonzero cumprod cumsum diff divide dot einsum empty empty_like equal
    exp expand_dims expm1 eye flip floor floor_divide full full_like greater greater_equal hypot imag invert
    isfinite isinf isnan left_shift less less_equal linspace log log10 log1p log2 logaddexp logical_and
    logical_not logical_or logical_xor matmul max maximum mean meshgrid min minimum moveaxis multiply negative
    nonzero not_equal ones ones_like outer positive power prod real reciprocal remainder repeat reshape
    right_shift roll round searchsorted sign signbit sin sinh sort sqrt square squeeze stack std subtract sum
    swapaxes take take_along_axis tan tanh tensordot tile transpose tril triu trunc unique var where zeros
    zeros_like
    """
)
OF_NUMPY = _names(
    """
    bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128 intp dtype finfo
    iinfo issubdtype integer floating complexfloating number signedinteger unsignedinteger pi inf nan newaxis e
    result_type can_cast broadcast_shapes isdtype
    """
)
FFT = _names(
    """
    fft ifft fftn ifftn rfft irfft rfftn irfftn hfft ihfft fftfreq rfftfreq fftshift ifftshift fft2 rfft2 irfft2
    """
)
LINALG = _names(
    """
    cholesky det eigh eigvalsh inv lstsq matrix_power matrix_rank multi_dot norm pinv qr slogdet solve svd tensorinv
    tensorsolve
    """
)
NUMBERS = (bool, int, float, complex, np.number, np.bool_)


def _refused(what: str) -> TypeError:
    return TypeError(f"Implicit conversion to a NumPy array is not allowed ({what})")


def unwrapped(value: Any) -> Any:
    """The NumPy values of arguments; arrays of NumPy and tensors are refused."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, (list, tuple)):
        return type(value)(unwrapped(v) for v in value)
    if isinstance(value, slice):
        return slice(*(unwrapped(v) for v in (value.start, value.stop, value.step)))
    if isinstance(value, np.ndarray) or type(value).__module__ == "torch":
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def wrapped(value: Any) -> Any:
    """Results as arrays of this module; reductions give arrays without axes, as those of CuPy do."""
    if isinstance(value, (np.ndarray, np.number, np.bool_)):
        return ndarray(np.asarray(value))
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(wrapped(v) for v in value) if type(value) in (list, tuple) else tuple(map(wrapped, value))
    return value


def _lifted(function: Any) -> Any:
    def lifted(*args: Any, **options: Any) -> Any:
        return wrapped(function(*unwrapped(args), **{k: unwrapped(v) for k, v in options.items()}))

    lifted.__name__ = lifted.__qualname__ = getattr(function, "__name__", "function")
    return lifted


class ndarray:
    """An array in the memory of the pretended device."""

    __array_ufunc__ = None  # NumPy's operators leave the work to those of this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise _refused("__array__")

    def __array_function__(self, function: Any, *others: Any) -> Any:
        raise _refused(function.__name__)

    def __float__(self) -> float:
        raise _refused("float()")

    def __complex__(self) -> complex:
        raise _refused("complex()")

    def __bool__(self) -> bool:
        counts["to_host"] += 1
        return bool(self._values)

    def __int__(self) -> int:
        counts["to_host"] += 1
        return int(self._values)

    def __index__(self) -> int:
        raise _refused("index()")

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[ndarray]:
        return (wrapped(v) for v in self._values)

    def __repr__(self) -> str:
        return f"fake_cupy.ndarray(shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> Any:
        return wrapped(self._values[unwrapped(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[unwrapped(index)] = unwrapped(value)

    def __dlpack__(self, **options: Any) -> Any:
        values = self._values if self._values.flags.writeable else self._values.copy()
        return values.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()

    def get(self) -> np.ndarray:
        counts["to_host"] += 1
        return self._values.copy()

    def item(self) -> Any:
        counts["to_host"] += 1
        return self._values.item()

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    flags = property(lambda self: self._values.flags)
    device = property(lambda self: "device 0")
    T = property(lambda self: wrapped(self._values.T))
    real = property(lambda self: wrapped(self._values.real))
    imag = property(lambda self: wrapped(self._values.imag))


for _name in ["astype", "copy", "reshape", "ravel", "transpose", "swapaxes", "squeeze", "view"]:
    setattr(ndarray, _name, _lifted(getattr(np.ndarray, _name)))
for _name in ["sum", "prod", "mean", "min", "max", "any", "all", "conj", "argmax", "argmin"]:
    setattr(ndarray, _name, _lifted(getattr(np.ndarray, _name)))


def _operator(function: Any, swapped: bool = False) -> Any:
    def apply(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(other)}")
        pair = (unwrapped(other), self._values) if swapped else (self._values, unwrapped(other))
        return wrapped(np.asarray(function(*pair)))

    return apply


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "matmul"]
for _name in _BINARY:
    _function = getattr(operator, f"__{_name}__")
    setattr(ndarray, f"__{_name}__", _operator(_function))
    setattr(ndarray, f"__r{_name}__", _operator(_function, swapped=True))
for _name in ["lt", "le", "gt", "ge", "eq", "ne"]:
    setattr(ndarray, f"__{_name}__", _operator(getattr(operator, f"__{_name}__")))
for _name in ["neg", "pos", "abs", "invert"]:
    _function = getattr(operator, f"__{_name}__")
    setattr(ndarray, f"__{_name}__", lambda self, _f=_function: wrapped(np.asarray(_f(self._values))))


def asarray(values: Any, dtype: Any = None, **options: Any) -> ndarray:
    """An array of the device: a transfer, unless the values are there."""
    if isinstance(values, ndarray):
        return wrapped(values._values.astype(dtype or values.dtype, copy=False))
    counts["to_device"] += 1
    return wrapped(np.array(values, dtype=dtype))


def asnumpy(values: ndarray) -> np.ndarray:
    """A copy on the host: a transfer."""
    assert isinstance(values, ndarray)
    return values.get()


def from_dlpack(values: Any) -> ndarray:
    """An array that shares memory with one of another library on the device."""
    assert not isinstance(values, np.ndarray), "an array of NumPy is on the host"
    return wrapped(np.from_dlpack(values))


class Device:
    """The context manager of cupy.cuda, which array_api_compat enters."""

    def __init__(self, device: Any = None) -> None:
        assert device in (None, "device 0")

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *args: Any) -> None:
        pass


def _module() -> dict[str, types.ModuleType]:
    found = {n: types.ModuleType(n) for n in ("cupy", "cupy.fft", "cupy.linalg", "cupy.cuda", "cupy.cuda.device")}
    cupy, fft, linalg, cuda, device = found.values()
    for name in NAMES:
        setattr(cupy, name, _lifted(getattr(np, name)))
    for name in OF_NUMPY:
        setattr(cupy, name, getattr(np, name))
    for name in FFT:
        setattr(fft, name, _lifted(getattr(np.fft, name)))
    for name in [
        "norm",
        "inv",
        "solve",
        "eigh",
        "eigvalsh",
        "qr",
        "svd",
        "pinv",
        "det",
        "slogdet",
        "cholesky",
        "matrix_rank",
        "lstsq",
        "matrix_power",
        "multi_dot",
        "tensorinv",
        "tensorsolve",
    ]:
        setattr(linalg, name, _lifted(getattr(np.linalg, name)))
    cuda.__dict__.update(Device=Device, device=device)
    device.__dict__.update(Device=Device)
    own = (ndarray, asarray, asnumpy, from_dlpack)
    cupy.__dict__.update({f.__name__: f for f in own}, array=asarray, fft=fft, linalg=linalg, cuda=cuda)
    return found


@contextmanager
def installed() -> Iterator[Backend]:
    """The stand-in as the module `cupy`, and its backend; counts begin at zero."""
    before = {name: module for name, module in sys.modules.items() if _ours(name)}
    for name in before:
        del sys.modules[name]
    sys.modules.update(_module())
    counts.update(to_host=0, to_device=0)
    BACKEND.__dict__.pop("xp", None)
    try:
        yield BACKEND
    finally:
        for name in [name for name in sys.modules if _ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        BACKEND.__dict__.pop("xp", None)


def _ours(name: str) -> bool:
    return name.partition(".")[0] == "cupy" or name.startswith("array_api_compat.cupy")
