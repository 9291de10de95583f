"""Finite volumes in one dimension: reconstruction, fluxes and their balance."""
