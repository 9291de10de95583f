"""Comparisons: runs, scores, the cost-error frontier, and their results."""
