"""Exit codes of the command line, and the exception of an interrupted run.

Nothing else is imported here, since signals are handled before all libraries.
"""

DONE, MISTAKE, FAILED, INTERRUPTED = 0, 2, 3, 130
REMEDY = "interrupted. Run the command again to resume data and training; `subgrid resume` continues a comparison"


class Interrupted(Exception):
    """The user interrupted the run, and a checkpoint was written."""
