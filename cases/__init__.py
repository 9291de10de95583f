"""The cases that ship: case files, and the data that they name. `solver/case/shipped.py` finds them by name."""
