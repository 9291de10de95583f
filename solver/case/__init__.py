"""Case files: the tables, and reading them."""

from .reading import CaseError, read, read_case
from .tables import Case

__all__ = ["Case", "CaseError", "read", "read_case"]
