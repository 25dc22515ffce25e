"""The paper's loop as released: one negative in the first 3 of 50 steps at scale 1.8, same seed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.evaluation.methods.wrapper import Wrapper
from npcorrect.loop import Correction
from npcorrect.plan import Plan
from npcorrect.records import Attempt, Checklist, Request

SCALE = 1.8


def attempts(task: Task, checklist: Checklist | None = None) -> Generator[Attempt]:
    """The paper's loop; without a checklist, it makes its own from the prompt."""

    plain = task.around(Undenying(task.session.model))

    def run(request: Request) -> Correction:
        return plain.correct(released(request), checklist)

    yield from restarted(task, run)


class Undenying(Wrapper):
    """Draws what a prompt denies with no negative of its own: the released loop knows none."""

    def plan(self, request: Request) -> Plan:
        """As the other model plans it, but for what the prompt denies."""
        return replace(super().plan(request), denies=False)


def released(request: Request) -> Request:
    """A request with the released schedule, rule, scale and ranking."""
    return replace(
        request,
        rule="paper",
        scale=SCALE,
        ranker="paper",
        window=None,
        looks=None,
        strength=None,
        rewinds=None,
        reseed=None,
    )
