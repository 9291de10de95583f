"""Burgers' equation in one and two dimensions."""
