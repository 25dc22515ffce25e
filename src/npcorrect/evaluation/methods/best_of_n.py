"""New seeds until the verifier accepts a picture."""

from __future__ import annotations

from collections.abc import Iterator

from npcorrect.evaluation.method import Task, seeds
from npcorrect.types import Attempt


def attempts(task: Task) -> Iterator[Attempt]:
    """A picture from each seed in turn."""
    yield from seeds(task)
