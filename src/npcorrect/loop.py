"""The correction loop: draw, verify, and while that fails, redraw with a negative prompt.

It knows protocols only; it prints and writes nothing, and loads no model by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from threading import Event as Flag
from time import perf_counter
from typing import Literal

from PIL.Image import Image

from npcorrect.diffusion.base import Drawing, Glance, ImageModel, Look
from npcorrect.errors import BudgetError, ModelError, NpcError, PromptError, SettingsError, VLMError
from npcorrect.proposing import RuleProposer
from npcorrect.ranking import Ranker
from npcorrect.records import (
    Attempt,
    Candidate,
    Caption,
    Checklist,
    Cost,
    Generation,
    Ranked,
    Request,
    Result,
    Verdict,
)
from npcorrect.vlm.base import Usage
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.usage import Account

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
    own caption becomes the negative; once it is right, none acts; where the last look finds it
    wrong, it may go back and begin again. Redrawings of a strength below 1 begin with the original.
    With seeds of their own, redrawings go on with the first candidate after the last.
    Where it is accepted or unscored nothing follows: without a verdict there is no known fault.
    Candidates are drawn ``batch`` at a time, and a batch that was drawn is verified to its end.
    Negatives that are too long for the model are passed over.
    A redrawn picture that is unscored does not end the loop, unless the budget is used up. The
    original's cost includes the checklist and the caption, the first redrawn one's includes the
    proposing.

    Where the roles allow it and there are no looks, the next batch is drawn while one is verified.
    What was begun in vain is dropped: it is no attempt and in no attempt's cost, so that neither
    depends on the timing.

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

    An accepted one, else the best score with the original among the contestants. Ties go to the
    likeliest, where the verifier gives probabilities, then to the earliest; an unscored picture
    never wins over a scored one.
    """
    if not attempts:
        raise ValueError("there is no attempt to select from")

    def merit(place: int) -> tuple[bool, bool, float, float]:
        verdict = attempts[place].verdict
        accepted, score = verdict.accepted, verdict.score
        score = -1.0 if score is None else score
        return accepted is True, accepted is not None, score, verdict.probability or 0.0

    return max(range(len(attempts)), key=merit)


def finish(request: Request, checklist: Checklist, attempts: Sequence[Attempt]) -> Result:
    """The result of the attempts made, however many they are (at least one)."""
    return Result(request, checklist, tuple(attempts), select(attempts))


def _ignore(event: Event) -> None:
    """Nobody listens."""


_NO_ANSWER = (VLMError, ModelError)
"""A role gives no usable answer, or its model cannot be asked at all (any more)."""


class _NeedlessError(Exception):
    """Ends a drawing that nobody waits for any more."""


@dataclass(frozen=True)
class _Drawn:
    """Attempts drawn together, from ``first`` on, with what the looks at each of them asked."""

    first: int
    ranking: Sequence[Ranked]
    generations: Sequence[Generation]
    looks: Sequence[Account]
    seconds: float


@dataclass(frozen=True)
class _Run:
    """One correction and everyone who takes part in it.

    ``halted`` is set once the budget is used up, ``needless`` once no drawing is waited for.
    """

    request: Request
    model: ImageModel
    roles: Roles
    ranker: Ranker
    tell: OnEvent
    halted: Flag = field(default_factory=Flag)
    needless: Flag = field(default_factory=Flag)

    def attempts(self, given: Checklist | None) -> Generator[Attempt, None, None]:
        start, account = perf_counter(), Account()
        checklist, error = (given, "") if given is not None else self._checklist(account)
        (generation,) = self._draw([None], 0)
        verdict = Verdict((), error)
        if not error:
            verdict = self._verify(generation.image, checklist, account)
        caption = None
        hopeless = verdict.accepted is not False or not self.request.max_candidates
        if not hopeless:
            caption = self._caption(generation.image, account)
        cost = _cost(generation, account, perf_counter() - start)
        yield Attempt(0, generation, verdict, caption=caption, cost=cost)
        if not (hopeless or self.halted.is_set()):
            yield from self._redraw(checklist, generation, verdict, caption or Caption(""))

    def _redraw(
        self, checklist: Checklist, origin: Generation, verdict: Verdict, caption: Caption
    ) -> Generator[Attempt, None, None]:
        """The attempts after the original, which has this verdict and caption."""
        start, account = perf_counter(), Account()
        candidates = self._propose(checklist, verdict, caption, account)
        if self.halted.is_set():
            return
        candidates = tuple(c for c in candidates if self._takes(c.negative_prompt))
        self.tell(Event("rank", total=len(candidates)))
        ranking = self._in_order(self.ranker.rank(checklist, candidates))
        proposing = perf_counter() - start
        with closing(self._drawings(checklist, origin, ranking)) as drawings:
            for drawn in drawings:
                accepted = False
                share = drawn.seconds / len(drawn.ranking)
                verified = self._verify_all(drawn, checklist)
                rows = zip(drawn.ranking, drawn.generations, drawn.looks, verified, strict=True)
                for index, (ranked, generation, looks, found) in enumerate(rows, drawn.first):
                    verdict, own, seconds = found
                    own = own.joined(looks, account)
                    cost = _cost(generation, own, proposing + share + seconds)
                    yield Attempt(index, generation, verdict, ranked, cost=cost)
                    accepted, account, proposing = (
                        accepted or verdict.accepted is True, Account(), 0.0,
                    )  # fmt: skip
                if accepted or self.halted.is_set():
                    return

    def _in_order(self, ranking: Sequence[Ranked]) -> Sequence[Ranked]:
        """What the redrawings try, one each: the best first, and all again under new seeds."""
        most = self.request.max_candidates
        if not ranking:
            return ()
        reseeded = self._first_redrawing(ranking).seed != self.request.seed
        return tuple(islice(cycle(ranking), most)) if reseeded else ranking[:most]

    def _takes(self, negative: str) -> bool:
        """Whether the model reads a negative; a captioner's words may be too many for it."""
        try:
            self.model.resolve(self.request, negative, 1)
        except PromptError as error:
            self.tell(Event("rank", f"passed over: {error}"))
            return False
        return True

    def _drawings(
        self, checklist: Checklist, origin: Generation, ranking: Sequence[Ranked]
    ) -> Generator[_Drawn, None, None]:
        """The candidates drawn batch by batch, each ahead of time where the roles allow it.

        Not where redrawings are looked at: what a needless look asks could not be taken back.
        """
        size = self.request.batch
        batches = [
            (first + 1, ranking[first : first + size]) for first in range(0, len(ranking), size)
        ]
        if not (batches and self.roles.overlap) or self._first_redrawing(ranking).look_steps:
            for first, batch in batches:
                yield self._draw_batch(checklist, origin, first, batch)
            return
        with ThreadPoolExecutor(1, "npcorrect-draw") as pool:
            try:
                pending = pool.submit(self._draw_batch, checklist, origin, *batches[0])
                for following in batches[1:]:
                    drawn = pending.result()
                    pending = pool.submit(self._draw_batch, checklist, origin, *following)
                    yield drawn
                yield pending.result()
            finally:
                self.needless.set()

    def _first_redrawing(self, ranking: Sequence[Ranked]) -> Drawing:
        """The first attempt after the original, with the model's choices made."""
        return self.model.resolve(self.request, ranking[0].candidate.negative_prompt, 1)

    def _draw_batch(
        self, checklist: Checklist, origin: Generation, first: int, ranking: Sequence[Ranked]
    ) -> _Drawn:
        start = perf_counter()
        looking = _Looking(self, checklist, len(ranking))
        negatives = [ranked.candidate.negative_prompt for ranked in ranking]
        generations = self._draw(negatives, first, looking, origin)
        return _Drawn(first, ranking, generations, looking.accounts, perf_counter() - start)

    def _verify_all(
        self, drawn: _Drawn, checklist: Checklist
    ) -> Iterator[tuple[Verdict, Account, float]]:
        """The verdict on each picture, what it asked, and its seconds."""

        def verify(generation: Generation) -> tuple[Verdict, Account, float]:
            start, account = perf_counter(), Account()
            verdict = self._verify(generation.image, checklist, account)
            return verdict, account, perf_counter() - start

        if not self.roles.overlap or len(drawn.generations) == 1:
            yield from map(verify, drawn.generations)
            return
        pool = ThreadPoolExecutor(len(drawn.generations), "npcorrect-verify")
        try:
            yield from pool.map(verify, drawn.generations)
        finally:
            # After Ctrl-C nobody waits for a server; closing the roles ends what still asks it.
            pool.shutdown(wait=False, cancel_futures=True)

    def _checklist(self, account: Account) -> tuple[Checklist, str]:
        self.tell(Event("checklist"))
        prompt = self.request.prompt
        try:
            return account.role(lambda: self.roles.checklister.checklist(prompt)), ""
        except _NO_ANSWER as failure:
            return Checklist(prompt, ()), self._failed("checklist", failure) or "no checklist"

    def _draw(
        self,
        negatives: Sequence[str | None],
        index: int,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        """Draw the attempts from ``index`` on."""
        detail = "; ".join(filter(None, negatives))
        drawings = [
            self.model.resolve(self.request, negative, attempt)
            for attempt, negative in enumerate(negatives, index)
        ]
        self.tell(Event("draw", detail))

        def on_step(step: int, total: int) -> None:
            if self.needless.is_set():
                raise _NeedlessError
            self.tell(Event("draw", detail, step, total))

        return self.model.draw(drawings, on_step, look, origin)

    def look(
        self, image: Image, negative: str | None, checklist: Checklist, account: Account
    ) -> Glance:
        """Whether an emerging picture is wrong, and the negative to act on it from now on.

        The picture's caption where it fails; the negative as it was where roles do not answer.
        """
        self.tell(Event("look", negative or ""))
        verdict = self._verify(image, checklist, account)
        if verdict.accepted is not False:
            return Glance(None if verdict.accepted else negative)
        caption = self._caption(image, account)
        usable = caption is not None and caption.text and self._takes(caption.text)
        return Glance(caption.text if caption and usable else negative, wrong=True)

    def _verify(self, image: Image, checklist: Checklist, account: Account) -> Verdict:
        self.tell(Event("verify"))
        try:
            return account.role(lambda: self.roles.verifier.verify(image, checklist))
        except _NO_ANSWER as failure:
            raw = getattr(failure, "raw", "")
            return Verdict((), self._failed("verify", failure) or "no usable answer", raw)

    def _caption(self, image: Image, account: Account) -> Caption | None:
        self.tell(Event("caption"))
        try:
            return account.role(lambda: self.roles.captioner.caption(image))
        except _NO_ANSWER as failure:
            self._failed("caption", failure)
            return None

    def _propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, account: Account
    ) -> tuple[Candidate, ...]:
        """The candidates; rules, which ask nobody, take no call."""
        self.tell(Event("propose"))
        limit = POOL * self.request.max_candidates
        proposer = self.roles.proposer
        if not isinstance(proposer, RuleProposer):
            try:
                return account.role(lambda: proposer.propose(checklist, verdict, caption, limit))
            except _NO_ANSWER as failure:
                self._failed("propose", failure, "rules propose instead: ")
                proposer = RuleProposer()
        return proposer.propose(checklist, verdict, caption, limit)

    def _failed(self, stage: Stage, failure: NpcError, remedy: str = "") -> str:
        """Announce why a role gave nothing; where the budget ends, so does the run."""
        if isinstance(failure, BudgetError):
            self.halted.set()
        self.tell(Event(stage, f"{remedy}{failure}"))
        return str(failure)


class _Looking:
    """The :data:`Look` of one batch; ``accounts`` are charged with what each picture's asked."""

    def __init__(self, run: _Run, checklist: Checklist, batch: int) -> None:
        self._run, self._checklist = run, checklist
        self.accounts = [Account() for _ in range(batch)]

    def __call__(
        self, first: int, images: Sequence[Image], negatives: Sequence[str | None]
    ) -> list[Glance]:
        accounts = self.accounts[first : first + len(images)]
        pictures = zip(images, negatives, accounts, strict=True)
        return [self._run.look(i, negative, self._checklist, own) for i, negative, own in pictures]


def _cost(generation: Generation, account: Account, seconds: float) -> Cost:
    used = account.usage or Usage()
    tokens = used.input_tokens + used.output_tokens
    return Cost(1, generation.evaluations, used.calls, tokens, seconds, used.retries, used.money)
