"""`subgrid sweep`: a case for many values of its keys."""
