"""Standard output and error that take whatever is written to them, or say that they cannot."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn


def tolerant_streams() -> None:
    """Have characters that standard output and error cannot encode replaced."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def give_up_output(error: OSError) -> NoReturn:
    """Say that standard output cannot be written, and leave; not where its reader has gone."""
    # Python would try to write what is left again at its end, and fail with a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"npc: Standard output cannot be written ({error.strerror}).\n")
    sys.exit(1)
