"""The correction loop: draw, verify, and while that fails, redraw with a negative prompt.

It knows protocols only; it prints and writes nothing, and loads no model by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Literal

from PIL.Image import Image

from npcorrect.diffusion.base import ImageModel, Look
from npcorrect.errors import PromptError, SettingsError, VLMError
from npcorrect.proposing import RuleProposer
from npcorrect.ranking import Ranker
from npcorrect.types import (
    Attempt,
    Candidate,
    Caption,
    Checklist,
    Cost,
    Generation,
    Request,
    Result,
    Verdict,
)
from npcorrect.vlm.roles import Roles

MAX_CANDIDATES = 50
POOL = 3
"""Candidates proposed for each one that may be drawn; the ranking chooses among them."""

Stage = Literal["checklist", "draw", "look", "verify", "caption", "propose", "rank"]


@dataclass(frozen=True)
class Event:
    """Progress within an attempt: a stage begins, moves to ``step`` of ``total``, or fails.

    ``detail`` is the negative prompt of a drawing, or why a stage got no usable answer.
    """

    stage: Stage
    detail: str = ""
    step: int = 0
    total: int = 0


OnEvent = Callable[[Event], None]


def validate(request: Request) -> None:
    """Refuse what no model could correct.

    Raises:
        PromptError: the prompt is empty.
        SettingsError: ``max_candidates`` is not from 0 to :data:`MAX_CANDIDATES`, or ``batch`` not
            at least 1.
    """
    if not request.prompt.strip():
        raise PromptError("The prompt is empty; say what to draw, for example 'two red stars'.")
    if not 0 <= request.max_candidates <= MAX_CANDIDATES:
        raise SettingsError(
            f"max_candidates is {request.max_candidates}; "
            f"choose a number from 0 to {MAX_CANDIDATES}."
        )
    if request.batch < 1:
        raise SettingsError(f"The batch is {request.batch}; draw at least 1 candidate at a time.")


def correct(
    request: Request,
    model: ImageModel,
    roles: Roles,
    ranker: Ranker,
    on_event: OnEvent | None = None,
    checklist: Checklist | None = None,
) -> Generator[Attempt, None, None]:
    """Draw a prompt, and redraw it until the verifier accepts a picture.

    The first attempt is the original. Where it is rejected, it carries its caption, and up to
    ``max_candidates`` attempts follow, best ranked first, until one is accepted. Where the request
    or the model asks for looks, the emerging picture is verified on the way: while it fails, its
    own caption becomes the negative; once it is right, none acts.
    Where it is accepted or unscored nothing follows: without a verdict there is no known fault.
    Candidates are drawn ``batch`` at a time, and a batch that was drawn is verified to its end.
    A redrawn picture that is unscored does not end the loop. The original's cost includes the
    checklist and the caption, the first redrawn one's includes the proposing.

    ``checklist`` saves asking for it again where the caller has it already. The request is checked
    at once, all else happens as attempts are asked for; an attempt is final when it is yielded, so
    a caller may stop at any time. Role failures end up in the attempts; a proposer's failure is
    announced as an event, and rules propose instead.

    Raises:
        PromptError, SettingsError: the request makes no sense, see :func:`validate`.
        ModelError: the model cannot draw it.
    """
    validate(request)
    run = _Run(request, model, roles, ranker, on_event or _ignore)
    return run.attempts(checklist)


def select(attempts: Sequence[Attempt]) -> int:
    """The place of the attempt to keep.

    An accepted one, else the best score with the original among the contestants; ties go to the
    earliest, and an unscored picture never wins over a scored one.
    """
    if not attempts:
        raise ValueError("there is no attempt to select from")

    def merit(place: int) -> tuple[bool, bool, float]:
        verdict = attempts[place].verdict
        accepted, score = verdict.accepted, verdict.score
        return accepted is True, accepted is not None, -1.0 if score is None else score

    return max(range(len(attempts)), key=merit)


def finish(request: Request, checklist: Checklist, attempts: Sequence[Attempt]) -> Result:
    """The result of the attempts made, however many they are (at least one)."""
    return Result(request, checklist, tuple(attempts), select(attempts))


def _ignore(event: Event) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class _Run:
    """One correction and everyone who takes part in it."""

    request: Request
    model: ImageModel
    roles: Roles
    ranker: Ranker
    tell: OnEvent

    def attempts(self, given: Checklist | None) -> Generator[Attempt, None, None]:
        start = perf_counter()
        checklist, error = (given, "") if given is not None else self._checklist()
        calls = int(given is None)
        (generation,) = self._draw([None], 0)
        verdict = Verdict((), error)
        if not error:
            verdict = self._verify(generation.image, checklist)
            calls += 1
        caption = None
        hopeless = verdict.accepted is not False or not self.request.max_candidates
        if not hopeless:
            caption = self._caption(generation.image)
            calls += 1
        cost = _cost(generation, calls, start)
        yield Attempt(0, generation, verdict, caption=caption, cost=cost)
        if hopeless:
            return
        start = perf_counter()
        candidates, calls = self._propose(checklist, verdict, caption or Caption(""))
        self.tell(Event("rank", total=len(candidates)))
        ranking = self.ranker.rank(checklist, candidates)[: self.request.max_candidates]
        for first in range(0, len(ranking), self.request.batch):
            batch = ranking[first : first + self.request.batch]
            accepted = False
            looking = _Looking(self, checklist, len(batch))
            negatives = [ranked.candidate.negative_prompt for ranked in batch]
            generations = self._draw(negatives, first + 1, looking)
            share = (perf_counter() - start) / len(batch)
            drawn = zip(count(first + 1), batch, generations, looking.calls)
            for index, ranked, generation, looks in drawn:
                start = perf_counter()
                verdict = self._verify(generation.image, checklist)
                cost = _cost(generation, calls + looks + 1, start - share)
                yield Attempt(index, generation, verdict, ranked, cost=cost)
                accepted, calls = accepted or verdict.accepted is True, 0
            if accepted:
                return
            start = perf_counter()

    def _checklist(self) -> tuple[Checklist, str]:
        self.tell(Event("checklist"))
        try:
            return self.roles.checklister.checklist(self.request.prompt), ""
        except VLMError as failure:
            self.tell(Event("checklist", str(failure)))
            return Checklist(self.request.prompt, ()), str(failure) or "no checklist"

    def _draw(
        self, negatives: Sequence[str | None], index: int, look: Look | None = None
    ) -> list[Generation]:
        """Draw the attempts from ``index`` on."""
        detail = "; ".join(filter(None, negatives))
        drawings = [
            self.model.resolve(self.request, negative, attempt)
            for attempt, negative in enumerate(negatives, index)
        ]
        self.tell(Event("draw", detail))
        return self.model.draw(
            drawings, lambda step, total: self.tell(Event("draw", detail, step, total)), look
        )

    def look(
        self, image: Image, negative: str | None, checklist: Checklist
    ) -> tuple[str | None, int]:
        """The negative to act from now on against an emerging picture, and the calls it took.

        The picture's caption where it fails; the negative as it was where roles do not answer.
        """
        self.tell(Event("look", negative or ""))
        verdict = self._verify(image, checklist)
        if verdict.accepted is not False:
            return (None if verdict.accepted else negative), 1
        caption = self._caption(image)
        return (caption.text if caption and caption.text else negative), 2

    def _verify(self, image: Image, checklist: Checklist) -> Verdict:
        self.tell(Event("verify"))
        try:
            return self.roles.verifier.verify(image, checklist)
        except VLMError as failure:
            self.tell(Event("verify", str(failure)))
            return Verdict((), str(failure) or "no usable answer")

    def _caption(self, image: Image) -> Caption | None:
        self.tell(Event("caption"))
        try:
            return self.roles.captioner.caption(image)
        except VLMError as failure:
            self.tell(Event("caption", str(failure)))
            return None

    def _propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption
    ) -> tuple[tuple[Candidate, ...], int]:
        """The candidates, and how many calls they took; rules take none."""
        self.tell(Event("propose"))
        limit = POOL * self.request.max_candidates
        proposer = self.roles.proposer
        calls = 0 if isinstance(proposer, RuleProposer) else 1
        try:
            return proposer.propose(checklist, verdict, caption, limit), calls
        except VLMError as failure:
            self.tell(Event("propose", f"rules propose instead: {failure}"))
            return RuleProposer().propose(checklist, verdict, caption, limit), calls


class _Looking:
    """The :data:`Look` of one batch; ``calls`` counts those of the roles for each picture."""

    def __init__(self, run: _Run, checklist: Checklist, batch: int) -> None:
        self._run, self._checklist = run, checklist
        self.calls = [0] * batch

    def __call__(
        self, images: Sequence[Image], negatives: Sequence[str | None]
    ) -> list[str | None]:
        renewed = []
        for place, (image, negative) in enumerate(zip(images, negatives, strict=True)):
            new, calls = self._run.look(image, negative, self._checklist)
            renewed.append(new)
            self.calls[place] += calls
        return renewed


def _cost(generation: Generation, calls: int, start: float) -> Cost:
    return Cost(1, generation.evaluations, calls, seconds=perf_counter() - start)
