"""The paper's loop in its benchmark setting: the verifier sees the benchmark's own checklist."""

from __future__ import annotations

from collections.abc import Generator

from npcorrect.evaluation.methods import npc_paper
from npcorrect.evaluation.methods.base import Task
from npcorrect.records import Attempt


def attempts(task: Task) -> Generator[Attempt]:
    """As ``npc-paper``, told what the judge will look for."""
    yield from npc_paper.attempts(task, task.checklist() if task.checklist else None)
