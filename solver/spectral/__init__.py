"""Fourier transforms and operators. All FFTs of the solver are in this package.

Convention: u(x) = sum_k u_hat_k exp(i k x), that is the forward transform carries 1/N ("forward"
normalisation). Coefficients do not depend on the grid, and mode 0 is the mean. The last axis is real-to-complex.
"""

from .operators import Operators, resample, spectrum
from .transforms import Transforms, empty, library, square

__all__ = ["Operators", "Transforms", "empty", "library", "resample", "spectrum", "square"]
