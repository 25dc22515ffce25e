"""The paper's loop as released: one negative in the first 3 of 50 steps at scale 1.8, same seed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.loop import correct
from npcorrect.records import Attempt, Checklist

SCALE = 1.8


def attempts(task: Task, checklist: Checklist | None = None) -> Generator[Attempt]:
    """The paper's loop; without a checklist, it makes its own from the prompt."""
    tools = task.tools
    ranker = tools.rankers["paper"]
    yield from restarted(
        task,
        lambda request: correct(
            replace(request, rule="paper", true_cfg_scale=SCALE, looks=None),
            tools.model,
            tools.roles,
            ranker,
            checklist=checklist,
        ),
    )
