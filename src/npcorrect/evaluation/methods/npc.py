"""The correction loop with this program's defaults."""

from __future__ import annotations

from collections.abc import Generator

from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.loop import correct
from npcorrect.ranking import DEFAULT_RANKER
from npcorrect.records import Attempt


def attempts(task: Task) -> Generator[Attempt]:
    """What ``npc correct`` draws."""
    tools = task.tools
    ranker = tools.rankers[DEFAULT_RANKER]
    yield from restarted(task, lambda request: correct(request, tools.model, tools.roles, ranker))
