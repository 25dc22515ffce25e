"""The first picture, whatever it shows."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice

from npcorrect.evaluation.method import Task, seeds
from npcorrect.types import Attempt


def attempts(task: Task) -> Generator[Attempt]:
    """One picture."""
    yield from islice(seeds(task), 1)
