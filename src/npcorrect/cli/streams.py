"""Standard output and error that take whatever is written to them, or say that they cannot."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn, TextIO


def tolerant_streams() -> None:
    """Have characters that standard output and error cannot encode replaced.

    Streams that were closed, as ``>&-`` does, are opened to nowhere: otherwise the first files that
    are opened would take their places.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(name))
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _nowhere(name: str) -> TextIO:
    """The null device, in the place of a standard stream."""
    place = ("stdin", "stdout", "stderr").index(name)
    null = os.open(os.devnull, os.O_RDWR)
    if null != place:
        os.dup2(null, place)
        os.close(null)
    return open(place, "w" if place else "r", encoding="utf-8", closefd=False)


def give_up_output(error: OSError) -> NoReturn:
    """Say that standard output cannot be written, and leave; not where its reader has gone."""
    # Python would try to write what is left again at its end, and fail with a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"npc: Standard output cannot be written ({error.strerror}).\n")
    sys.exit(1)
