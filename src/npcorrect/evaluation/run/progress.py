"""Progress of a run: how much is left, and how good each method has been so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    score or a verdict are counted for each method.
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
        left_open = dict.fromkeys(methods, 0)
        seen = 0

        def on_record(record: Record) -> None:
            nonlocal seen
            if record.key.method not in scores:
                return
            seen += 1
            left_open[record.key.method] += bool(record.unverified or record.open_pictures)
            value = record.score(record.after(images)).value
            if value is not None:
                scores[record.key.method].append(value)
            live = _live(scores, left_open)
            progress.update(task, completed=seen, description=live)
            if not console.is_terminal and (seen % every == 0 or seen == total):
                console.print(f"{seen} of {total}: {live}", soft_wrap=True)

        yield on_record


def _live(scores: Mapping[str, Sequence[float]], left_open: Mapping[str, int]) -> str:
    """``"base 0.62, npc 0.71 (3 open)"``."""
    parts = []
    for name, given in scores.items():
        mean = [f"{sum(given) / len(given):.3g}"] if given else []
        opened = [f"({left_open[name]} open)"] if left_open[name] else []
        parts += [" ".join((name, *mean, *opened))] if mean or opened else []
    return ", ".join(parts)
