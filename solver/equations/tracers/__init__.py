"""Tracers that a flow carries."""
