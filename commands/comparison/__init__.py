"""Comparisons: runs, scores, the finer grid of equal cost, and their results."""
