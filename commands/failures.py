"""Exit codes, and the one place that gives each failure its code and its message."""

from __future__ import annotations

import errno
import sys
import threading

from .exit_codes import FAILED, INTERRUPTED, MISTAKE, Interrupted

underway = threading.Event()  # set once a command computes: a failure of the machine is then one of the run
LONGEST = 300  # characters of a path or a command in a message

SYSTEM = {
    errno.ENOSPC: ("the disk is full", "free some space, or choose another folder"),
    errno.EDQUOT: ("the quota of the disk is used up", "free some space, or choose another folder"),
    errno.EFBIG: ("the file would be larger than the system allows", "raise the limit (ulimit -f), or store less"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.EACCES: ("permission denied", "change the permissions, or choose another path"),
    errno.EPERM: ("permission denied", "change the permissions, or choose another path"),
    errno.EISDIR: ("is a folder, expected a file", "name a file"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another path"),
    errno.EEXIST: ("exists already", "choose another path"),
    errno.ENOENT: ("there is no such file or folder", "check the path"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "choose a shorter name"),
    errno.ELOOP: ("the path leads through symbolic links in a circle, or to one where none is allowed", "remove it"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.ENOMEM: ("the memory is full", "a smaller grid or fewer members"),
    errno.EIO: ("the device failed to read or write", "choose another disk"),
}
MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "alloc_cpu")  # of torch, in a RuntimeError


def explain(error: BaseException, command: str) -> tuple[int, str] | None:
    """(exit code, message) of a failure; None for a defect of the package, which keeps its traceback.

    2 is for what the user can put right before anything has run: the case, the options, paths and the machine. 3 is for
    a run that failed. A failure of the machine (a full disk or memory) is of the second kind once the command is
    `underway`. command: the command line; it is named where the system names no file.
    """
    error = _of_plugin(error)
    command = _shortened(command)
    of_machine = FAILED if underway.is_set() else MISTAKE
    if isinstance(error, OSError) and not isinstance(error, ValueError):  # first: it may be that no file can be opened
        return of_machine, _system(error, command)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _names(error, MEMORY)):
        return of_machine, f"the memory is full ({_line(error)}). Remedy: a smaller grid or fewer members"
    if isinstance(error, RuntimeError) and _names(error, ("start new thread",)):
        return of_machine, "the system allows no more threads. Remedy: set SUBGRID_THREADS=1, or raise ulimit -u"
    if isinstance(error, RecursionError):
        return MISTAKE, f"the input of `{command}` is nested too deeply. Remedy: nest fewer tables or lists"
    if isinstance(error, SystemExit):
        return FAILED, f"a library ended the program with SystemExit({error.code!r}). Remedy: report what you ran"

    from pydantic import ValidationError

    from subgrid.ingest.cluster import WorkersLost
    from subgrid.solver.equations.plugin_errors import PluginError
    from subgrid.solver.simulation import BlowUp

    if isinstance(error, (BlowUp, PluginError, WorkersLost)):
        return FAILED, str(error)
    if isinstance(error, Interrupted):
        return INTERRUPTED, str(error)
    if isinstance(error, UnicodeError):
        return MISTAKE, f"a path or a text of `{command}` is not UTF-8 ({error}). Remedy: rename the file or folder"
    if isinstance(error, ValueError) and not isinstance(error, ValidationError):
        return MISTAKE, str(error)
    return None


def _of_plugin(error: BaseException) -> BaseException:
    """The failure as a PluginError, with the name of the plug-in, if its code raised it."""
    if "subgrid.solver.equations.plugin_errors" not in sys.modules:  # no plug-in has been imported
        return error
    from subgrid.solver.equations.plugin_errors import plugin_errors

    try:
        with plugin_errors():
            raise error
    except BaseException as found:
        return found


def _system(error: OSError, command: str) -> str:
    """The message of an error of the operating system: the file, what is wrong, and the remedy."""
    what, remedy = SYSTEM.get(error.errno or 0, (error.strerror or _line(error), "see the operating system's manual"))
    paths = [str(p) for p in (error.filename, error.filename2) if isinstance(p, (str, bytes)) or hasattr(p, "parts")]
    place = " and ".join(_shortened(path) for path in paths) or f"`{command}`"
    return f"{place}: {what}. Remedy: {remedy}"


def _shortened(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _names(error: BaseException, texts: tuple[str, ...]) -> bool:
    return any(text in str(error) for text in texts)
