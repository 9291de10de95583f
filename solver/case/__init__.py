"""Case files: the tables, and reading them."""

from .reading import CaseError, read
from .tables import Case

__all__ = ["Case", "CaseError", "read"]
