"""New seeds until the verifier accepts a picture."""

from __future__ import annotations

from collections.abc import Generator

from npcorrect.evaluation.methods.base import Task, seeds
from npcorrect.records import Attempt


def attempts(task: Task) -> Generator[Attempt]:
    """A picture from each seed in turn."""
    yield from seeds(task)
