"""What commands show of a correction: its progress, its attempts, what it took."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from npcorrect.cli.console import PlainConsole, progress_bar
from npcorrect.faults import abridged, faults, said
from npcorrect.text import one_line

if TYPE_CHECKING:
    from npcorrect.loop import Event, OnEvent
    from npcorrect.records import Attempt, Cost, Ranked
    from npcorrect.result import Result


@contextmanager
def progress(quiet: bool, total: int | None = None) -> Generator[Steps]:
    """A line of progress on standard error, gone at the end; with a bar where there is a total."""
    text = TextColumn("{task.description}", markup=False)
    bar = (BarColumn(bar_width=20), MofNCompleteColumn()) if total else ()
    columns: tuple[ProgressColumn, ...] = (SpinnerColumn(), *bar, text, TimeElapsedColumn())
    with progress_bar(*columns, quiet=quiet) as shown:
        yield Steps(shown, total)


class Steps:
    """Shows what is happening on the progress line."""

    def __init__(self, shown: Progress, total: int | None) -> None:
        self._shown, self._before = shown, ""
        self._task = shown.add_task("loading the model", total=total)

    @property
    def on_event(self) -> OnEvent:
        """A listener for a correction's events that shows each on the progress line."""
        return lambda event: self._describe(self._before + progress_line(event))

    def done(self, count: int, before: str) -> None:
        """So many of all are done; ``before`` stands before what follows."""
        self._before = before
        self._shown.update(self._task, completed=count)
        self._describe(before)

    def _describe(self, text: str) -> None:
        self._shown.update(self._task, description=one_line(text, 120))


def progress_line(event: Event) -> str:
    """What is happening: attempt k of K, the stage, step n of N, and its detail."""
    place = f"attempt {event.attempt} of {event.attempts}" if event.attempt else "original"
    step = f", step {event.step} of {event.total}" if event.step else ""
    detail = f": {event.detail}" if event.detail else ""
    return f"{place}: {event.stage}{step}{detail}"


def show_result(result: Result, folder: Path) -> None:
    """A table of the attempts, and where to find them."""
    console = PlainConsole()
    table = Table(title=Text(one_line(result.request.prompt)), box=SIMPLE_HEAD)
    for name in ("attempt", "verdict", "what was wrong", "negatives", "evaluations"):
        table.add_column(name, overflow="fold")
    for attempt in result.attempts:
        table.add_row(*_row(attempt, attempt.index == result.best_index))
    console.print(table)
    for error in dict.fromkeys(a.verdict.error for a in result.attempts if a.verdict.error):
        console.print(f"without an answer: {one_line(error)}", style="yellow")
    files = f"* is {folder / 'best.png'}, side by side in {folder / 'sheet.png'}"
    console.print(f"{cost_line(result.cost)}; {files}", soft_wrap=True)


def _row(attempt: Attempt, chosen: bool) -> tuple[Text, ...]:
    acted = one_line(abridged(attempt.generation.negatives), 300) + _ranking(attempt.ranked)
    cells = (
        f"{attempt.index or 'original'}{' *' if chosen else ''}",
        said(attempt),
        "\n".join(one_line(text, 200) for text in faults(attempt.verdict)),
        acted or ("none, a new seed" if attempt.index else ""),
        _evaluations(attempt.cost),
    )
    return tuple(map(Text, cells))


def _ranking(ranked: Ranked | None) -> str:
    """What kind of negative it is, with its score where a ranker gave it one."""
    if ranked is None:
        return ""
    score = "" if "order" in dict(ranked.parts) else f", {ranked.score:+.3f}"
    return f" ({ranked.candidate.source}{score})"


def _evaluations(cost: Cost) -> str:
    """How many evaluations something took; pictures of a server are drawn in unknown ones."""
    return "unknown" if cost.images and not cost.evaluations else str(cost.evaluations)


def cost_line(cost: Cost) -> str:
    """The cost as a phrase: images, evaluations, calls, tokens and money where any, and seconds."""
    usage = cost.usage
    parts = [
        _counted(cost.images, "image"),
        f"{_evaluations(cost)} denoiser evaluations",
    ]
    if usage.calls:
        retries = f" ({usage.retries} of them retries)" if usage.retries else ""
        calls, tokens = _counted(usage.calls, "call"), _counted(usage.tokens, "token")
        parts.append(f"{calls}{retries} and {tokens} of models")
    if usage.swaps:
        parts.append(f"{_counted(usage.swaps, 'swap')} of models on the card")
    if usage.money is not None:
        parts.append(f"{usage.money:.4f} by your prices")
    return ", ".join((*parts, f"{cost.seconds:.1f} s"))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
