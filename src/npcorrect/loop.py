"""The correction loop: draw, verify, and while that fails, redraw with a negative prompt.

It knows protocols only; it prints and writes nothing, and loads no model by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle, islice
from threading import Event as Flag
from time import perf_counter

from PIL.Image import Image

from npcorrect.diffusion.base import Cancelled, Glance, ImageModel, Look, Watch
from npcorrect.errors import PromptError
from npcorrect.provenance import Provenance
from npcorrect.ranking import Ranker
from npcorrect.records import (
    Attempt,
    Caption,
    Checklist,
    Cost,
    Drawing,
    Generation,
    Origin,
    Ranked,
    Request,
    Usage,
    Verdict,
)
from npcorrect.result import Ended, Result
from npcorrect.role_calls import Event as Event
from npcorrect.role_calls import OnEvent as OnEvent
from npcorrect.role_calls import RoleCalls, ignore
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.usage import Account

POOL = 3
"""Candidates proposed for each one that may be drawn; the ranking chooses among them."""


def correct(
    request: Request,
    model: ImageModel,
    roles: Roles,
    ranker: Ranker,
    on_event: OnEvent | None = None,
    *,
    checklist: Checklist | None = None,
    original: Image | Generation | None = None,
    begun: Result | None = None,
    made_with: Provenance | None = None,
) -> Correction:
    """Draw a prompt, and redraw it until the verifier accepts a picture.

    The first attempt is the original. Where it is rejected, it carries its caption, and up to
    ``candidates`` attempts follow, best ranked first, until one is accepted. Where the request
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

    Drawing happens on the caller's thread. Where the roles allow it and there are no looks,
    pictures are verified in others, while the next batch is drawn. What was begun in vain is
    dropped: it is no attempt and in no attempt's cost, so that neither depends on the timing.

    ``checklist`` saves asking for it again where the caller has it already. ``original`` is a
    picture to correct in place of a first drawing. ``begun`` is an interrupted correction of
    the same request, with attempts up to the end of a batch, all of them scored: they come first,
    and nothing of them is asked again. ``made_with`` is kept in the result. The request is refused
    at once where it cannot work, all else happens as attempts are asked for. Role failures end up
    in the attempts; a proposer's failure is announced as an event, and rules propose instead.

    Raises:
        InputError: the request cannot work; see :func:`npcorrect.plan.plan`.
    """
    tell = on_event or ignore
    return Correction(request, model, roles, ranker, tell, checklist, original, begun, made_with)


@dataclass(frozen=True)
class _Verified:
    """The verdict on one picture, and what it took."""

    verdict: Verdict
    account: Account
    seconds: float


@dataclass(frozen=True)
class _Drawn:
    """Attempts drawn together, from ``first`` on, with what the looks at each of them asked."""

    first: int
    ranking: Sequence[Ranked]
    generations: Sequence[Generation]
    looks: Sequence[Account]
    seconds: float


class Correction(Iterator[Attempt]):
    """A correction under way: iterate its attempts; an attempt is final when it is yielded.

    ``result`` may be read at any time, also after a break, and :meth:`stop` called from any thread.
    """

    def __init__(
        self,
        request: Request,
        model: ImageModel,
        roles: Roles,
        ranker: Ranker,
        tell: OnEvent,
        checklist: Checklist | None,
        original: Image | Generation | None,
        begun: Result | None,
        made_with: Provenance | None,
    ) -> None:
        self._given = original if isinstance(original, Generation) else None
        if isinstance(original, Image):
            request = sized(request, original)
        self.plan = model.plan(request)
        if isinstance(original, Image):
            self._given = Generation(
                image=original, drawing=self.plan.template, evaluations=0, seconds=0.0
            )
        self._model, self._ranker, self._made_with = model, ranker, made_with
        self._begun = begun.attempts if begun else ()
        self._checklist = begun.checklist if begun and begun.attempts else checklist
        self._calls = RoleCalls(roles, tell, self.plan.request.candidates)
        self._stopped = Flag()
        self._attempts: list[Attempt] = []
        self._ended: Ended | None = None
        self._stream = self._run()

    def __next__(self) -> Attempt:
        """The next attempt, drawn and verified."""
        return next(self._stream)

    @property
    def checklist(self) -> Checklist:
        """What the prompt asks for; without requirements as long as nobody has said."""
        return self._checklist or Checklist(self.plan.request.prompt, ())

    @property
    def result(self) -> Result:
        """The attempts so far, and which of them to keep."""
        request, attempts = self.plan.request, tuple(self._attempts)
        return Result(request, self.checklist, attempts, self._ended, self._made_with)

    @property
    def ended(self) -> Ended | None:
        """Why no attempt follows; None while one may, or where an error ended it."""
        return self._ended

    @property
    def spent(self) -> bool:
        """Whether a role was refused a question because the budget is used up."""
        return self._calls.spent.is_set()

    def stop(self) -> None:
        """End after the present step or question; what was yielded stays. From any thread."""
        self._stopped.set()

    def close(self) -> None:
        """End now, and let go of what is under way."""
        self._stream.close()

    def _run(self) -> Generator[Attempt]:
        try:
            for attempt in self._all():
                self._attempts.append(attempt)
                yield attempt
            self._ended = self._reason()
        except Cancelled:
            self._ended = "stopped"
        except GeneratorExit:
            self._ended = "stopped"
            raise

    def _reason(self) -> Ended:
        verdicts = [attempt.verdict.accepted for attempt in self._attempts]
        if True in verdicts:
            return "accepted"
        if self._stopped.is_set():
            return "stopped"
        if self._calls.spent.is_set():
            return "budget"
        return "unscored" if verdicts[0] is None else "exhausted"

    def _over(self) -> bool:
        """Whether nothing more is to be drawn or asked."""
        return self._stopped.is_set() or self._calls.spent.is_set()

    def _all(self) -> Generator[Attempt]:
        if self._begun:
            yield from self._continued(self._begun)
            return
        start, account, error = perf_counter(), Account(), ""
        if self._checklist is None:
            self._checklist, error = self._calls.checklist(self.plan.request.prompt, account)
        generation = self._original()
        verdict = self._verify(0, generation.image, account, error)
        caption = None
        hopeless = verdict.accepted is not False or not self.plan.request.candidates
        if not (hopeless or self._over()):
            caption = self._calls.caption(0, generation.image, account)
        cost = _cost(generation, account, perf_counter() - start)
        if generation is self._given:
            cost = replace(cost, images=0)
        yield Attempt(index=0, generation=generation, verdict=verdict, caption=caption, cost=cost)
        if not (hopeless or self._over()):
            yield from self._redraw(generation, verdict, caption or Caption(""))

    def _continued(self, begun: Sequence[Attempt]) -> Generator[Attempt]:
        """The attempts that were made before, then those that are missing.

        Redrawings may begin with the latents of the original, which no file keeps: it is drawn
        again for them.
        """
        yield from begun
        first = begun[0]
        over = self._over() or _accepted(begun) or len(begun) > self.plan.request.candidates
        if over or first.verdict.accepted is not False:
            return
        drawn = self._original() if self.plan.template.restart_step else first.generation
        yield from self._redraw(drawn, first.verdict, first.caption or Caption(""), len(begun) - 1)

    def _original(self) -> Generation:
        """The first picture, drawn or given."""
        if self._given is None:
            (generation,) = self._draw([None], 0)
            return generation
        if self.plan.template.restart_step and not _begins_alike(self._given, self.plan.template):
            origin = self._model.origin(self._given.image, self.plan.template)
            self._given = replace(self._given, origin=origin)
            if origin is None:
                self._calls.say(
                    "draw", 0, "cannot begin with this picture; redrawings begin with noise"
                )
        return self._given

    def _redraw(
        self, origin: Generation, verdict: Verdict, caption: Caption, done: int = 0
    ) -> Generator[Attempt]:
        """The attempts after the original, which has this verdict and caption.

        The first ``done`` of them are made already.
        """
        start, account = perf_counter(), Account()
        limit = POOL * self.plan.request.candidates
        candidates = self._calls.propose(self.checklist, verdict, caption, limit, account)
        if self._over():
            return
        candidates = tuple(c for c in candidates if self._takes(c.negative_prompt))
        self._calls.say("rank", 1, total=len(candidates))
        ranking = self._in_order(self._ranker.rank(self.checklist, candidates))
        size = self.plan.request.batch
        batches = [
            (first + 1, ranking[first : first + size]) for first in range(done, len(ranking), size)
        ]
        proposing = perf_counter() - start
        for drawn, verified in self._verified_batches(batches, origin.origin):
            share = drawn.seconds / len(drawn.ranking)
            rows = zip(drawn.ranking, drawn.generations, drawn.looks, verified, strict=True)
            for index, (ranked, generation, looks, answer) in enumerate(rows, drawn.first):
                asked = answer.account.joined(looks, account)
                cost = _cost(generation, asked, proposing + share + answer.seconds)
                account, proposing = Account(), 0.0
                yield Attempt(
                    index=index,
                    generation=generation,
                    verdict=answer.verdict,
                    ranked=ranked,
                    cost=cost,
                )

    def _verified_batches(
        self, batches: Sequence[tuple[int, Sequence[Ranked]]], origin: Origin | None
    ) -> Generator[tuple[_Drawn, Iterable[_Verified]]]:
        """Batches drawn and verified, until a picture is accepted or nothing more is wanted."""
        if self._calls.roles.overlap and not self.plan.looks:
            yield from self._overlapping(batches, origin)
            return
        for first, ranking in batches:
            drawn = self._draw_batch(first, ranking, origin)
            verified: list[_Verified] = []
            yield drawn, _kept(self._verify_all(drawn), verified)
            if _accepted(verified) or self._over():
                return

    def _overlapping(
        self, batches: Sequence[tuple[int, Sequence[Ranked]]], origin: Origin | None
    ) -> Generator[tuple[_Drawn, Iterable[_Verified]]]:
        """The next batch is drawn while the one before is verified in other threads.

        Not where redrawings are looked at: what a needless look asks could not be taken back.
        """
        pool = ThreadPoolExecutor(self.plan.request.batch, "npcorrect-verify")
        pending: tuple[_Drawn, list[Future[_Verified]]] | None = None

        def needless() -> bool:
            done = [f.result() for f in pending[1] if f.done()] if pending else []
            return self._over() or _accepted(done)

        try:
            for first, ranking in batches:
                failure: Exception | None = None
                drawn: _Drawn | None = None
                try:
                    drawn = self._draw_batch(first, ranking, origin, needless)
                except Cancelled:
                    pass
                except Exception as error:
                    failure = error  # no loss where a picture before it is accepted
                if pending is not None:
                    verified = [future.result() for future in pending[1]]
                    yield pending[0], verified
                    if _accepted(verified) or self._over():
                        return
                if failure is not None:
                    raise failure
                if drawn is None:
                    raise Cancelled
                numbered = enumerate(drawn.generations, drawn.first)
                pending = drawn, [pool.submit(self._verified, k, one) for k, one in numbered]
            if pending is not None:
                yield pending[0], [future.result() for future in pending[1]]
        finally:
            # After Ctrl-C nobody waits for a server; closing the roles ends what still asks it.
            pool.shutdown(wait=False, cancel_futures=True)

    def _verify_all(self, drawn: _Drawn) -> Iterator[_Verified]:
        """The pictures of a batch verified, together where the roles allow it."""
        numbers = range(drawn.first, drawn.first + len(drawn.generations))
        if not self._calls.roles.overlap or len(drawn.generations) == 1:
            yield from map(self._verified, numbers, drawn.generations)
            return
        pool = ThreadPoolExecutor(len(drawn.generations), "npcorrect-verify")
        try:
            yield from pool.map(self._verified, numbers, drawn.generations)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _verified(self, attempt: int, generation: Generation) -> _Verified:
        start, account = perf_counter(), Account()
        verdict = self._verify(attempt, generation.image, account)
        return _Verified(verdict, account, perf_counter() - start)

    def _verify(self, attempt: int, image: Image, account: Account, unscored: str = "") -> Verdict:
        """The verdict on a picture; none where ``unscored`` says why there can be none."""
        if unscored:
            return Verdict((), unscored)
        return self._calls.verify(attempt, image, self.checklist, account)

    def _in_order(self, ranking: Sequence[Ranked]) -> Sequence[Ranked]:
        """What the redrawings try, one each: the best first, and all again under new seeds."""
        most = self.plan.request.candidates
        if ranking and self.plan.reseeds:
            return tuple(islice(cycle(ranking), most))
        return ranking[:most]

    def _takes(self, negative: str) -> bool:
        """Whether the model reads a negative; a captioner's words may be too many for it."""
        try:
            self._model.check_text(negative)
        except PromptError as error:
            self._calls.say("rank", 1, f"passed over: {error}")
            return False
        return True

    def _draw_batch(
        self,
        first: int,
        ranking: Sequence[Ranked],
        origin: Origin | None,
        needless: Callable[[], bool] | None = None,
    ) -> _Drawn:
        start, accounts = perf_counter(), [Account() for _ in ranking]
        negatives = [ranked.candidate.negative_prompt for ranked in ranking]
        generations = self._draw(
            negatives, first, self._looking(first, accounts), origin, needless or self._over
        )
        return _Drawn(first, ranking, generations, accounts, perf_counter() - start)

    def _draw(
        self,
        negatives: Sequence[str | None],
        first: int,
        look: Look | None = None,
        origin: Origin | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Generation]:
        """Draw the attempts from ``first`` on."""
        detail = "; ".join(filter(None, negatives))
        drawings = [
            self.plan.drawing(attempt, negative, origin)
            for attempt, negative in enumerate(negatives, first)
        ]
        self._calls.say("draw", first, detail)

        def on_step(step: int, total: int) -> None:
            self._calls.say("draw", first, detail, step=step, total=total)

        watch = Watch(on_step, look, cancelled or self._over)
        return self._model.draw(drawings, watch)

    def _looking(self, attempt: int, accounts: Sequence[Account]) -> Look:
        """Looks at a batch from ``attempt`` on; ``accounts`` pay for each picture's."""

        def look(
            first: int, images: Sequence[Image], negatives: Sequence[str | None]
        ) -> list[Glance]:
            pictures = enumerate(zip(images, negatives, strict=True), first)
            return [
                self._look(attempt + place, image, negative, accounts[place])
                for place, (image, negative) in pictures
            ]

        return look

    def _look(self, attempt: int, image: Image, negative: str | None, account: Account) -> Glance:
        """Whether an emerging picture is wrong, and the negative to act on it from now on.

        The picture's caption where it fails; the negative as it was where roles do not answer.
        """
        self._calls.say("look", attempt, negative or "", preview=image)
        verdict = self._verify(attempt, image, account)
        if verdict.accepted is not False:
            return Glance(None if verdict.accepted else negative)
        caption = self._calls.caption(attempt, image, account)
        usable = caption is not None and caption.text and self._takes(caption.text)
        return Glance(caption.text if caption and usable else negative, wrong=True)


def _begins_alike(given: Generation, template: Drawing) -> bool:
    """Whether redrawings can begin with a given picture's own latents."""
    names = ("num_inference_steps", "height", "width")
    same = all(getattr(given.drawing, name) == getattr(template, name) for name in names)
    return given.origin is not None and same


def sized(request: Request, original: Image) -> Request:
    """The request at the size of a picture that exists, where it asks for none."""
    if any(side is not None for side in (request.size, request.height, request.width)):
        return request
    return replace(request, height=original.height, width=original.width)


def _kept(verified: Iterable[_Verified], into: list[_Verified]) -> Iterator[_Verified]:
    """The same, each kept as it passes."""
    for one in verified:
        into.append(one)
        yield one


def _accepted(verified: Iterable[_Verified | Attempt]) -> bool:
    return any(one.verdict.accepted for one in verified)


def _cost(generation: Generation, account: Account, seconds: float) -> Cost:
    return Cost(1, generation.evaluations, seconds, account.usage or Usage())
