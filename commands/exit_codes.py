"""Exit codes of the command line, the number of its process, and the exception of an interrupted run.

No library is imported here, since signals are handled before all of them.
"""

import os
import threading

DONE, MISTAKE, FAILED, INTERRUPTED = 0, 2, 3, 130
REMEDY = "interrupted. Run the command again to resume data and training; `subgrid resume` continues a comparison"
_STARTED = os.environ if "TORCHELASTIC_RUN_ID" in os.environ else {}
PROCESS, PROCESSES = int(_STARTED.get("RANK", 0)), int(_STARTED.get("WORLD_SIZE", 1))  # of torchrun
stopping = threading.Event()  # set by a run or a comparison that ends after its step because of a signal


class Interrupted(Exception):
    """The user interrupted the run, and a checkpoint was written."""
