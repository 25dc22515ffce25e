"""Progress of a run: how much is left, and how good each method has been so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.runner import OnRecord

PLAIN_LINES = 20
"""Lines of progress over a run where nobody watches a terminal."""


@contextmanager
def following(methods: Sequence[str], samples: int, images: int) -> Iterator[OnRecord]:
    """A bar with the time left and each method's mean score at ``images``, on standard error.

    Records of other methods, which a run may have from before, are passed over. Those without a
    score or a verdict are counted.
    """
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.description}"),
    )
    total = len(methods) * samples
    scores: dict[str, list[float]] = {name: [] for name in methods}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading", total=total)
        every = max(1, total // PLAIN_LINES)
        seen = left_open = 0

        def on_record(record: Record) -> None:
            nonlocal seen, left_open
            if record.key.method not in scores:
                return
            seen += 1
            left_open += bool(record.unverified or record.open_pictures)
            value = record.score(record.after(images)).value
            if value is not None:
                scores[record.key.method].append(value)
            live = _live(scores, left_open)
            progress.update(task, completed=seen, description=live)
            if not console.is_terminal and (seen % every == 0 or seen == total):
                console.print(f"{seen} of {total}: {live}", soft_wrap=True)

        yield on_record


def _live(scores: dict[str, list[float]], left_open: int) -> str:
    means = ((name, sum(s) / len(s)) for name, s in scores.items() if s)
    parts = [f"{name} {mean:.3g}" for name, mean in means]
    return ", ".join([*parts, f"{left_open} open"] if left_open else parts)
