"""The command line, runs, training, comparisons and reports."""
