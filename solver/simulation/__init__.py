"""Running an equation in time.

Plug-ins and scripts import from here: `from subgrid.solver.simulation import Simulation`.
"""

from .ensemble import BlowUp
from .loop import Simulation

__all__ = ["BlowUp", "Simulation"]
