"""The correction loop with the settings of the run."""

from __future__ import annotations

from collections.abc import Generator

from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.records import Attempt


def attempts(task: Task) -> Generator[Attempt]:
    """The attempts of ``npc correct``, begun anew while the run's budget lasts."""
    yield from restarted(task, task.correct)
