"""The one way to the terminal: text is never taken for markup, and steers nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from npcorrect.text import plain


class PlainConsole(Console):
    """A rich console that reads no markup and drops control characters from whatever it shows.

    All renderables pass through :meth:`render`, before colours are made into control sequences.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable; control segments are the console's own, and stay."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain(text), style, control)


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
