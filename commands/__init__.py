"""The user's verbs: the command line, comparisons and reports."""
