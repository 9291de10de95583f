"""Two-dimensional incompressible flow in vorticity form."""
