"""Equations, steppers, closures' contract, case files and the simulation loop. Imports no learned model."""
