"""What a correction asks its roles: each question announced, paid for, and never an exception.

A role that gives no usable answer, or cannot be asked any more, leaves its part empty: an unscored
verdict, no caption, negatives by rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Event as Flag
from typing import Any, Literal, TypeVar

from PIL.Image import Image

from npcorrect.asked import with_absences
from npcorrect.errors import BudgetError, ModelError, NpcError, VLMError
from npcorrect.proposing import RuleProposer
from npcorrect.records import Candidate, Caption, Checklist, Verdict
from npcorrect.vlm.roles import Roles, is_brief
from npcorrect.vlm.usage import Account

T = TypeVar("T")
Stage = Literal["checklist", "draw", "look", "verify", "caption", "propose", "rank"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Progress: a stage of attempt ``attempt`` begins, moves to ``step`` of ``total``, or fails.

    Attempts count from 0, the original, up to ``attempts``. ``detail`` is the negative prompt of a
    drawing, or why a stage got no usable answer. ``preview`` is the emerging picture of a look.
    """

    stage: Stage
    detail: str = ""
    attempt: int = 0
    attempts: int = 0
    step: int = 0
    total: int = 0
    preview: Image | None = None


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does nothing with an event; the default where nobody listens."""


_NO_ANSWER = (VLMError, ModelError)
"""A role gives no usable answer, or its model cannot be asked at all (any more)."""


@dataclass(frozen=True)
class RoleCalls:
    """The roles of one correction of ``attempts`` redrawings at most.

    Every call is charged to the account that it is given. ``spent`` is set once a question was not
    asked because the budget is used up.
    """

    roles: Roles
    tell: OnEvent
    attempts: int
    spent: Flag = field(default_factory=Flag)

    def checklist(self, prompt: str, account: Account) -> tuple[Checklist | None, str]:
        """The prompt taken apart, or None and why there is no checklist."""
        self.say("checklist", 0)
        try:
            read = account.role(lambda: self.roles.checklister.checklist(prompt))
            return with_absences(_expected(read, Checklist, "checklister")), ""
        except _NO_ANSWER as failure:
            return None, self._failed("checklist", 0, failure) or "no checklist"

    def verify(self, attempt: int, image: Image, checklist: Checklist, account: Account) -> Verdict:
        """The verdict on a picture; unscored, with the reason, where the verifier gives none."""
        return self._verdict(attempt, lambda: self.roles.verifier.verify(image, checklist), account)

    def verify_again(
        self,
        attempt: int,
        image: Image,
        checklist: Checklist,
        account: Account,
        before: Verdict | None,
        look: bool = False,
    ) -> Verdict:
        """As :meth:`verify`, with no more questions than it takes to refuse a picture.

        Where the verifier is paid by the question, what failed ``before`` is asked first, and
        nothing more once a claim has failed; of ``look``s not even what is seen instead.
        """
        verifier = self.roles.verifier
        if not is_brief(verifier):
            return self.verify(attempt, image, checklist, account)
        first = [check.requirement.id for check in before.failed] if before else []
        brief = partial(verifier.verify_briefly, image, checklist, first=first, observe=not look)
        return self._verdict(attempt, brief, account)

    def _verdict(self, attempt: int, ask: Callable[[], Verdict], account: Account) -> Verdict:
        self.say("verify", attempt)
        try:
            return _expected(account.role(ask), Verdict, "verifier")
        except _NO_ANSWER as failure:
            raw = getattr(failure, "raw", "")
            return Verdict((), self._failed("verify", attempt, failure) or "no usable answer", raw)

    def caption(self, attempt: int, image: Image, account: Account) -> Caption | None:
        """What a picture shows, or None where the captioner gives nothing."""
        self.say("caption", attempt)
        try:
            said = account.role(lambda: self.roles.captioner.caption(image))
            return _expected(said, Caption, "captioner")
        except _NO_ANSWER as failure:
            self._failed("caption", attempt, failure)
            return None

    def propose(
        self,
        checklist: Checklist,
        verdict: Verdict,
        caption: Caption,
        limit: int,
        account: Account,
    ) -> tuple[Candidate, ...]:
        """At most ``limit`` candidates, by rules where the proposer gives none."""
        self.say("propose", 1)
        asked = checklist, verdict, caption, limit
        try:
            proposed = account.role(lambda: self.roles.proposer.propose(*asked))
            rows = _expected(proposed, (tuple, list), "proposer")
            return tuple(_expected(row, Candidate, "proposer") for row in rows)
        except _NO_ANSWER as failure:
            self._failed("propose", 1, failure, "rules propose instead: ")
            return RuleProposer().propose(*asked)

    def say(
        self,
        stage: Stage,
        attempt: int,
        detail: str = "",
        *,
        step: int = 0,
        total: int = 0,
        preview: Image | None = None,
    ) -> None:
        """Tell the listener an event of attempt ``attempt``: its stage, step and preview."""
        self.tell(
            Event(
                stage=stage,
                detail=detail,
                attempt=attempt,
                attempts=self.attempts,
                step=step,
                total=total,
                preview=preview,
            )
        )

    def _failed(self, stage: Stage, attempt: int, failure: NpcError, remedy: str = "") -> str:
        """Announce why a role gave nothing, and note the end of the budget."""
        if isinstance(failure, BudgetError):
            self.spent.set()
        self.say(stage, attempt, f"{remedy}{failure}")
        return str(failure)


def _expected(answer: T, kind: Any, role: str) -> T:
    """What a role answered, where that is what it is to answer; a role may be somebody's own.

    Raises:
        VLMError: it is something else.
    """
    if isinstance(answer, kind):
        return answer
    raise VLMError(f"The {role} gave a {type(answer).__name__!r}, which is no answer of its role.")
