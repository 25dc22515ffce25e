"""Drawing ahead while a server verifies, and stopping where the budget ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npcorrect.diffusion.base import Glance, Look
from npcorrect.errors import BudgetError, ModelError, PromptError, VLMError
from npcorrect.loop import Event, correct, finish
from npcorrect.mini.embedded import embedded
from npcorrect.ranking import SourceRanker
from npcorrect.records import Attempt, Caption, Checklist, Cost, Generation, Request, Verdict
from npcorrect.vlm.base import Usage
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.usage import charge
from tests.test_loop import CHECKLIST, REQUEST, UNSCORED, FakeModel, FakeRoles, scored

WAIT = 30


class Drawing(NamedTuple):
    request: Request
    negative: str | None
    look_steps: tuple[int, ...] = ()

    @property
    def seed(self) -> int:
        return self.request.seed


class Model(FakeModel):
    """Draws in steps; ``pause`` is called before each of a redrawing's."""

    def __init__(self, pause: Callable[[], object] = lambda: None, looks: int = 0) -> None:
        super().__init__(looks)
        self.pause = pause
        self.begun: list[str | None] = []
        self.dropped = 0

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Any:
        return Drawing(request, negative_prompt, (1,) * self.looks)

    def draw(
        self,
        drawings: Sequence[Any],
        on_step: Callable[[int, int], None] | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        self.begun += [drawing.negative for drawing in drawings]
        try:
            for step in range(1, 4):
                if drawings[0].negative:
                    self.pause()
                assert on_step
                on_step(step, 3)
        except Exception:
            self.dropped += 1
            raise
        return super().draw(drawings, on_step, look, origin)


class Verifier:
    """Gives each picture the verdict of its attempt, whenever it is asked."""

    def __init__(self, verdicts: Sequence[Verdict | Exception], wait: Callable[[], object]) -> None:
        self.verdicts, self.wait = verdicts, wait

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        self.wait()
        charge(Usage(calls=2, input_tokens=10, output_tokens=1, retries=1, money=0.5))
        verdict = self.verdicts[image.getpixel((0, 0))[0]]  # type: ignore[index]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class Numbered(Model):
    """Its pictures' first pixel is the number of the attempt that they belong to."""

    def draw(self, *arguments: Any, **named: Any) -> list[Generation]:
        numbers = {None: 0, "bad one": 1, "bad two": 2, "bad three": 3}
        return [
            replace(g, image=Image.new("RGB", (8, 8), (numbers[g.negative_prompt], 0, 0)))
            for g in super().draw(*arguments, **named)
        ]


def run(
    verdicts: Sequence[Verdict | Exception],
    overlap: bool = True,
    batch: int = 1,
    pause: Callable[[], object] = lambda: None,
    wait: Callable[[], object] = lambda: None,
) -> tuple[list[Attempt], Numbered]:
    model, others = Numbered(pause), FakeRoles(())
    roles = Roles(others, Verifier(verdicts, wait), others, others, overlap)
    request = replace(REQUEST, batch=batch, max_candidates=3)
    return list(correct(request, model, roles, SourceRanker())), model


def untimed(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [replace(a, cost=replace(a.cost, seconds=0.0)) for a in attempts]


VERDICTS = st.one_of(
    st.just(UNSCORED), st.integers(0, 4).map(scored), st.just(VLMError("busy", "raw"))
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(VERDICTS, min_size=3, max_size=3), st.integers(1, 3),
    st.lists(st.floats(0, 0.004), min_size=4, max_size=4),
)  # fmt: skip
def test_attempts_and_their_cost_do_not_depend_on_the_timing(
    verdicts: list[Verdict | Exception], batch: int, naps: list[float]
) -> None:
    verdicts = [scored(1), *verdicts]
    plain, _ = run(verdicts, overlap=False, batch=batch)
    ahead, _ = run(
        verdicts, batch=batch, pause=lambda: time.sleep(naps[0]), wait=lambda: time.sleep(naps[1])
    )
    slow, _ = run(verdicts, batch=batch, pause=lambda: time.sleep(naps[2]))
    assert untimed(plain) == untimed(ahead) == untimed(slow)


def test_the_next_picture_is_drawn_while_one_is_verified() -> None:
    begun = threading.Semaphore(0)
    first = iter([None])

    def wait() -> None:
        if next(first, "later"):
            assert begun.acquire(timeout=WAIT)

    model = Numbered()
    others = FakeRoles(())
    verifier = Verifier([scored(1), scored(2), scored(3), scored(4)], wait)
    original_draw = model.draw

    def draw(*arguments: Any, **named: Any) -> list[Generation]:
        if model.begun[1:]:
            begun.release(3)
        return original_draw(*arguments, **named)

    model.draw = draw  # type: ignore[method-assign]
    roles = Roles(others, verifier, others, others, overlap=True)
    attempts = list(correct(replace(REQUEST, max_candidates=3), model, roles, SourceRanker()))
    assert len(attempts) == 4


def test_a_drawing_that_is_not_needed_any_more_is_dropped() -> None:
    ready = threading.Event()
    model = Numbered(lambda: ready.wait(WAIT) if "bad two" in model.begun else None)
    others = FakeRoles(())

    def wait() -> None:
        if "bad one" in model.begun:
            while "bad two" not in model.begun:
                time.sleep(0.001)

    verifier = Verifier([scored(1), scored(4)], wait)
    roles = Roles(others, verifier, others, others, overlap=True)
    loop = correct(REQUEST, model, roles, SourceRanker())
    attempts = [next(loop), next(loop)]
    assert attempts[1].verdict.accepted
    threading.Timer(0.05, ready.set).start()
    assert list(loop) == []
    assert model.begun == [None, "bad one", "bad two"]
    assert model.dropped == 1
    cost = finish(REQUEST, CHECKLIST, attempts).cost
    assert (cost.images, cost.evaluations) == (2, 10)


def test_closing_the_loop_drops_what_is_being_drawn() -> None:
    model, others = Numbered(lambda: time.sleep(0.01)), FakeRoles(())
    roles = Roles(others, Verifier([scored(1)] * 4, lambda: None), others, others, overlap=True)
    loop = correct(REQUEST, model, roles, SourceRanker())
    kept = [next(loop), next(loop)]
    loop.close()
    assert [attempt.index for attempt in kept] == [0, 1]
    assert len(model.drawn) + model.dropped == len(model.begun)
    assert "bad three" not in model.begun


def test_a_failed_drawing_ahead_is_an_error_only_where_it_is_needed() -> None:
    def fail() -> None:
        if "bad two" in model_of["it"].begun:
            raise ModelError("the card is full")

    model_of: dict[str, Numbered] = {}
    for verdict, fails in ((scored(4), False), (scored(2), True)):
        model, others = Numbered(fail), FakeRoles(())
        model_of["it"] = model
        verifier = Verifier([scored(1), verdict], lambda: None)
        roles = Roles(others, verifier, others, others, overlap=True)
        loop = correct(REQUEST, model, roles, SourceRanker())
        kept = [next(loop), next(loop)]
        assert len(kept) == 2
        if fails:
            with pytest.raises(ModelError, match="the card is full"):
                next(loop)
        else:
            assert list(loop) == []


def test_nothing_is_drawn_ahead_where_looks_would_be_asked_in_vain() -> None:
    model, others = Numbered(looks=1), FakeRoles(())
    roles = Roles(others, Verifier([scored(1), scored(4)], lambda: None), others, others, True)
    list(correct(REQUEST, model, roles, SourceRanker()))
    assert model.begun == [None, "bad one"]


def test_costs_hold_what_roles_say_that_they_took() -> None:
    attempts, _ = run([scored(1), scored(4)], overlap=False)
    assert untimed(attempts)[0].cost == Cost(1, 5, 4, 11, 0.0, 1, 0.5)
    assert untimed(attempts)[1].cost == Cost(1, 5, 3, 11, 0.0, 1, 0.5)


@pytest.mark.parametrize("overlap", [False, True])
def test_the_run_ends_where_the_budget_does_and_keeps_what_was_drawn(overlap: bool) -> None:
    broke = BudgetError("The budget is used up.")
    attempts, model = run([scored(1), scored(2), broke, scored(4)], overlap=overlap)
    assert [attempt.verdict.accepted for attempt in attempts] == [False, False, None]
    assert attempts[2].verdict.error == "The budget is used up."
    assert len(model.drawn) <= 3 + overlap


def test_a_budget_that_ends_with_the_caption_ends_the_run() -> None:
    class Broke(FakeRoles):
        def caption(self, image: Image.Image) -> Any:
            raise BudgetError("used up")

    model, roles = FakeModel(), Broke((scored(1),))
    events: list[Event] = []
    attempts = list(correct(REQUEST, model, roles.roles(), SourceRanker(), events.append))
    assert len(attempts) == len(model.drawn) == 1
    assert Event("caption", "used up") in events


def test_a_model_that_cannot_be_asked_any_more_leaves_the_picture_unscored() -> None:
    attempts, _ = run([ModelError("the server refused the key")], overlap=False)
    assert [attempt.verdict.error for attempt in attempts] == ["the server refused the key"]


def test_the_raw_reply_of_an_unscored_picture_is_kept() -> None:
    attempts, _ = run([VLMError("no usable answer", "да")], overlap=False)
    assert attempts[0].verdict == Verdict((), "no usable answer", "да")


def test_equal_scores_are_told_apart_by_probability() -> None:
    def likely(probability: float) -> Verdict:
        first, *others = scored(2).checks
        return Verdict((replace(first, probability=probability), *others))

    attempts, _ = run([likely(0.6), likely(0.9), likely(0.7), likely(0.9)], overlap=False)
    assert finish(REQUEST, CHECKLIST, attempts).best == 1


def test_negatives_that_are_too_long_for_the_model_are_passed_over() -> None:
    class Short(FakeModel):
        def resolve(
            self, request: Request, negative_prompt: str | None = None, attempt: int = 0
        ) -> Any:
            if negative_prompt and len(negative_prompt) > 7:
                raise PromptError("too long")
            return super().resolve(request, negative_prompt, attempt)

    events: list[Event] = []
    model, roles = Short(looks=1), FakeRoles((scored(1), scored(1), scored(4)))
    roles.negatives = ("a very bad one", "bad one")
    roles.caption = lambda image: Caption("too many words")  # type: ignore[method-assign]
    list(correct(REQUEST, model, roles.roles(), SourceRanker(), events.append))
    assert model.drawn == [(7, None), (7, "bad one")]
    assert model.steered == [[Glance("bad one", wrong=True)]]
    assert events.count(Event("rank", "passed over: too long")) == 2


def test_a_dropped_drawing_leaves_the_real_model_as_it_was() -> None:
    model = embedded()
    request = replace(Request("two red stars"), num_inference_steps=4, looks=0)
    drawing = model.resolve(request, "two yellow stars", 1)
    (before,) = model.draw([drawing])

    def stop(step: int, total: int) -> None:
        raise InterruptedError(f"{step} of {total}")

    with pytest.raises(InterruptedError, match="1 of 4"):
        model.draw([drawing], stop)
    (after,) = model.draw([drawing])
    assert before.image.tobytes() == after.image.tobytes()
    assert before.evaluations == after.evaluations
