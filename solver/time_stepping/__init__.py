"""Time integrators: schemes as tables, and their compiled and array-code implementations."""
