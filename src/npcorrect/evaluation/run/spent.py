"""Ends a run when the user's budget is spent.

The loop takes a role that may not ask for one that gave no answer, and goes on without. In a
benchmark that would make a sample look unscored which nobody looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from PIL.Image import Image

from npcorrect.errors import BudgetError, NpcError
from npcorrect.proposing import RuleProposer
from npcorrect.records import Candidate, Caption, Checklist, Verdict
from npcorrect.vlm.roles import Roles

T = TypeVar("T")


def ending(roles: Roles) -> Roles:
    """The same roles, for which a spent budget is the end."""
    strict = _Strict(roles)
    by_rule = isinstance(roles.proposer, RuleProposer)
    return replace(
        roles,
        checklister=strict,
        verifier=strict,
        captioner=strict,
        proposer=roles.proposer if by_rule else strict,
    )


@dataclass(frozen=True)
class _Strict:
    roles: Roles

    def checklist(self, prompt: str) -> Checklist:
        return _ask(lambda: self.roles.checklister.checklist(prompt))

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        return _ask(lambda: self.roles.verifier.verify(image, checklist))

    def caption(self, image: Image) -> Caption:
        return _ask(lambda: self.roles.captioner.caption(image))

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        return _ask(lambda: self.roles.proposer.propose(checklist, verdict, caption, limit))


def _ask(role: Callable[[], T]) -> T:
    try:
        return role()
    except BudgetError as error:
        raise NpcError(str(error)) from None
