"""Particles with pairwise forces."""
