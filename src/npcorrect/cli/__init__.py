"""The command ``npc``: thin, and quick to start. Heavy imports wait until they are needed.

Importing a module of this package registers its command.
"""

from __future__ import annotations

import os
import sys

from npcorrect.cli import attend, bench, correct, doctor, models, rank, serve
from npcorrect.cli.app import EXIT_INTERRUPTED, app

__all__ = ["app", "attend", "bench", "correct", "doctor", "main", "models", "rank", "serve"]


def main() -> None:
    """Entry point of the ``npc`` command."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
