"""What a correction asks its image model: pictures drawn in batches, looked at, and verified."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

from PIL.Image import Image

from npcorrect.asked import unwanted
from npcorrect.diffusion.base import Cancelled, Glance, ImageModel, Look, Watch
from npcorrect.errors import ModelError, PromptError
from npcorrect.plan import Plan
from npcorrect.records import (
    Attempt,
    Checklist,
    Generation,
    Origin,
    Ranked,
    Verdict,
    joined,
)
from npcorrect.role_calls import RoleCalls
from npcorrect.vlm.usage import Account


@dataclass(frozen=True)
class Verified:
    """The verdict on one picture, and what it took."""

    verdict: Verdict
    account: Account
    seconds: float


@dataclass(frozen=True)
class Drawn:
    """Attempts drawn together, from ``first`` on, with what the looks at each of them asked."""

    first: int
    ranking: Sequence[Ranked | None]
    generations: Sequence[Generation]
    looks: Sequence[Account]
    seconds: float


@dataclass(frozen=True)
class ModelCalls:
    """What one correction asks its image model, and who verifies what comes of it.

    ``over`` says whether nothing more is to be drawn or asked; ``before`` is the original's
    verdict, once there is one.
    """

    plan: Plan
    model: ImageModel
    calls: RoleCalls
    checklist: Checklist
    over: Callable[[], bool]
    before: Verdict | None = None

    def _draw_batch(
        self,
        first: int,
        ranking: Sequence[Ranked | None],
        origin: Origin | None,
        needless: Callable[[], bool] | None = None,
    ) -> Drawn:
        start, accounts = perf_counter(), [Account() for _ in ranking]
        negatives = [self.acting(one) for one in ranking]
        look, cancelled = self._looking(first, accounts), needless or self.over
        generations = accounts[0].charged(
            lambda: self.draw(negatives, first, look, origin, cancelled)
        )
        return Drawn(first, ranking, generations, accounts, perf_counter() - start)

    def draw(
        self,
        negatives: Sequence[str | None],
        first: int,
        look: Look | None = None,
        origin: Origin | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Generation]:
        """Draw the attempts from ``first`` on with the negatives that act on them."""
        detail = "; ".join(filter(None, negatives))
        drawings = [
            self.plan.drawing(attempt, negative, origin)
            for attempt, negative in enumerate(negatives, first)
        ]
        begun = first
        self.calls.say("draw", begun, detail)

        def on_begin(place: int) -> None:
            nonlocal begun
            if place:
                begun = first + place
                self.calls.say("draw", begun, detail)

        def on_step(step: int, total: int) -> None:
            self.calls.say("draw", begun, detail, step=step, total=total)

        watch = Watch(on_step, look, cancelled or self.over, on_begin)
        drawn = [*(self.model.draw(drawings, watch) or ())]
        self._check_drawn(drawn, len(drawings))
        return drawn

    def _check_drawn(self, drawn: Sequence[object], asked: int) -> None:
        """Refuse what a model of somebody's own gave in place of a picture for each drawing.

        Raises:
            ModelError: they are too few or too many, or something else.
        """
        good = [d for d in drawn if isinstance(d, Generation) and isinstance(d.image, Image)]
        if not len(good) == len(drawn) == asked:
            raise ModelError(
                f"The model {self.model.name!r} gave {len(drawn)} answers for {asked} drawings, "
                f"{len(good)} of them generations with a picture; give one for each."
            )

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
        self.calls.say("look", attempt, negative or "", preview=image)
        asked = image, self.checklist, account, self.before
        verdict = self.calls.verify_again(attempt, *asked, look=True)
        if verdict.accepted is not False:
            return Glance(self._denying(None) if verdict.accepted else negative)
        caption = self.calls.caption(attempt, image, account)
        usable = caption is not None and caption.text and self.takes(caption.text)
        return Glance(self._denying(caption.text) if caption and usable else negative, wrong=True)

    def acting(self, ranked: Ranked | None) -> str | None:
        """The negative that acts on an attempt which tries a candidate, or none."""
        return self._denying(ranked.candidate.negative_prompt if ranked else None)

    def _denying(self, negative: str | None) -> str | None:
        """A negative with what the prompt denies before it; None where there is neither."""
        return joined(self._denied, negative)

    @cached_property
    def _denied(self) -> str | None:
        """What the prompt denies, as one negative; None where the model cannot read it."""
        denied = joined(*unwanted(self.checklist)) if self.plan.denies else None
        return denied if self._reads(denied) else None

    def takes(self, negative: str) -> bool:
        """Whether the model reads a negative; a captioner's words may be too many for it."""
        return self._reads(self._denying(negative))

    def _reads(self, negative: str | None) -> bool:
        try:
            self.model.check_text(self.plan.drawing(1, negative).branch_text or "")
        except PromptError as error:
            self.calls.say("rank", 1, f"passed over: {error}")
            return False
        return True

    def verified_batches(
        self, batches: Sequence[tuple[int, Sequence[Ranked | None]]], origin: Origin | None
    ) -> Generator[tuple[Drawn, Iterable[Verified]]]:
        """Batches drawn and verified, until a picture is accepted or nothing more is wanted."""
        if self.calls.roles.overlap and not self.plan.looks:
            yield from self._overlapping(batches, origin)
            return
        if self.calls.roles.turns:
            yield from self._drawn_first(batches, origin)
            return
        for first, ranking in batches:
            drawn = self._draw_batch(first, ranking, origin)
            verified: list[Verified] = []
            yield drawn, _kept(self._verify_all(drawn), verified)
            if accepted(verified) or self.over():
                return

    def _drawn_first(
        self, batches: Sequence[tuple[int, Sequence[Ranked | None]]], origin: Origin | None
    ) -> Generator[tuple[Drawn, Iterable[Verified]]]:
        """All batches drawn, then all verified; one that fails does not take those before it."""
        made: list[Drawn] = []
        verified: list[Verified] = []
        failure: Exception | None = None
        try:
            made.extend(self._draw_batch(*batch, origin) for batch in batches)
        except Cancelled:
            raise
        except Exception as error:
            failure = error
        for drawn in made:
            yield drawn, _kept(self._verify_all(drawn), verified)
        if failure is not None and not accepted(verified):
            raise failure

    def _overlapping(
        self, batches: Sequence[tuple[int, Sequence[Ranked | None]]], origin: Origin | None
    ) -> Generator[tuple[Drawn, Iterable[Verified]]]:
        """The next batch is drawn while the one before is verified in other threads.

        Not where redrawings are looked at: what a needless look asks could not be taken back.
        """
        pool = ThreadPoolExecutor(self.plan.request.batch, "npcorrect-verify")
        pending: tuple[Drawn, list[Future[Verified]]] | None = None

        def needless() -> bool:
            done = [f.result() for f in pending[1] if f.done()] if pending else []
            return self.over() or accepted(done)

        try:
            for first, ranking in batches:
                failure: Exception | None = None
                drawn: Drawn | None = None
                try:
                    drawn = self._draw_batch(first, ranking, origin, needless)
                except Cancelled:
                    pass
                except Exception as error:
                    failure = error  # no loss where a picture before it is accepted
                if pending is not None:
                    verified = [future.result() for future in pending[1]]
                    yield pending[0], verified
                    if accepted(verified) or self.over():
                        return
                if failure is not None:
                    raise failure
                if drawn is None:
                    raise Cancelled
                numbered = enumerate(drawn.generations, drawn.first)
                pending = drawn, [self._submitted(pool, k, one) for k, one in numbered]
            if pending is not None:
                yield pending[0], [future.result() for future in pending[1]]
        finally:
            # After Ctrl-C nobody waits for a server; closing the roles ends what still asks it.
            pool.shutdown(wait=False, cancel_futures=True)

    def _verify_all(self, drawn: Drawn) -> Iterator[Verified]:
        """The pictures of a batch verified, together where the roles allow it."""
        numbers = range(drawn.first, drawn.first + len(drawn.generations))
        if not self.calls.roles.overlap or len(drawn.generations) == 1:
            yield from map(self._verified, numbers, drawn.generations)
            return
        pool = ThreadPoolExecutor(len(drawn.generations), "npcorrect-verify")
        try:
            pairs = zip(numbers, drawn.generations, strict=True)
            futures = [self._submitted(pool, number, one) for number, one in pairs]
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submitted(
        self, pool: ThreadPoolExecutor, attempt: int, generation: Generation
    ) -> Future[Verified]:
        """A picture to be verified in another thread, on behalf of whoever this one works for."""
        return pool.submit(copy_context().run, self._verified, attempt, generation)

    def _verified(self, attempt: int, generation: Generation) -> Verified:
        start, account = perf_counter(), Account()
        asked = generation.image, self.checklist, account, self.before
        verdict = self.calls.verify_again(attempt, *asked)
        return Verified(verdict, account, perf_counter() - start)


def _kept(verified: Iterable[Verified], into: list[Verified]) -> Iterator[Verified]:
    """The same, each kept as it passes."""
    for one in verified:
        into.append(one)
        yield one


def accepted(verified: Iterable[Verified | Attempt]) -> bool:
    """Whether the verdict of any of them accepts its picture."""
    return any(one.verdict.accepted for one in verified)
