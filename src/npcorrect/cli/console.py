"""The one way to the terminal: text is never taken for markup, and steers nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress, ProgressColumn
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


def progress_bar(*columns: ProgressColumn, quiet: bool = False) -> Progress:
    """Progress on standard error, gone at the end; nothing where no terminal shows it."""
    console = PlainConsole(stderr=True)
    console.quiet = quiet or not console.is_interactive  # else rich ends with an empty line
    return Progress(*columns, console=console, transient=True)


def table_value(value: Any) -> str:
    """A value as a table shows it: a list with commas, "yes" or "no", "none" for what is empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], {}):
        return "none"
    return ", ".join(value) if isinstance(value, list) else str(value)
