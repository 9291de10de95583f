"""Case files: the models of their tables, and reading and checking them."""

from .reading import CaseError, read, read_case
from .tables import Case

__all__ = ["Case", "CaseError", "read", "read_case"]
