"""The command ``npc``: thin, and quick to start. Heavy imports wait until they are needed.

Importing a module of this package registers its command.
"""

from __future__ import annotations

import os
import sys

from npcorrect.cli import (
    attend,
    bench,
    bench_results,
    correct,
    doctor,
    mcp,
    models,
    rank,
    redraw,
    serve,
)
from npcorrect.cli.app import EXIT_INTERRUPTED, app
from npcorrect.cli.streams import give_up_output, tolerant_streams

__all__ = [
    "app",
    "attend",
    "bench",
    "bench_results",
    "correct",
    "doctor",
    "main",
    "mcp",
    "models",
    "rank",
    "redraw",
    "serve",
]


def main() -> None:
    """Run the ``npc`` command; the package's entry point. It ends by SystemExit with a code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    tolerant_streams()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        give_up_output(error)
