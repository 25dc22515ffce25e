"""Drawing ahead while a server verifies, and stopping where the budget ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npcorrect.diffusion.base import Cancelled, Glance, Watch
from npcorrect.diffusion.fake import FakeImageModel, looking
from npcorrect.errors import BudgetError, ModelError, VLMError
from npcorrect.loop import Correction, Event, correct
from npcorrect.mini.embedded import embedded
from npcorrect.ranking import SourceRanker
from npcorrect.records import Attempt, Caption, Checklist, Cost, Drawing, Request, Usage, Verdict
from npcorrect.result import select
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.usage import charge
from tests.fakes import HeldModel
from tests.test_loop import REQUEST, UNSCORED, FakeRoles, scored

WAIT = 30


NUMBERS = {None: 0, "bad one": 1, "bad two": 2, "bad three": 3}


def numbered(drawing: Drawing) -> Image.Image:
    """A picture whose first pixel is the number of the attempt that it belongs to."""
    return Image.new("RGB", (8, 8), (NUMBERS[drawing.negative_prompt], 0, 0))


def numbering(on_draw: Callable[[Drawing], object] = lambda drawing: None) -> FakeImageModel:
    return FakeImageModel(paint=numbered, on_draw=on_draw)


class Verifier:
    """Gives each picture the verdict of its attempt, whenever it is asked."""

    def __init__(self, verdicts: Sequence[Verdict | Exception], wait: Callable[[], object]) -> None:
        self.verdicts, self.wait = verdicts, wait

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        self.wait()
        charge(Usage(calls=2, input_tokens=10, output_tokens=1, retries=1, money=0.5))
        number: int = image.getpixel((0, 0))[0]  # type: ignore[index]
        verdict = self.verdicts[number]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


def run(
    verdicts: Sequence[Verdict | Exception],
    overlap: bool = True,
    batch: int = 1,
    pause: Callable[[], object] = lambda: None,
    wait: Callable[[], object] = lambda: None,
) -> tuple[list[Attempt], FakeImageModel]:
    model, others = numbering(lambda drawing: pause()), FakeRoles(())
    roles = Roles(others, Verifier(verdicts, wait), others, others, overlap)
    request = replace(REQUEST, batch=batch, candidates=3)
    return list(correct(request, model, roles, SourceRanker())), model


def untimed(attempts: Sequence[Attempt]) -> list[Attempt]:
    return [replace(a, cost=replace(a.cost, seconds=0.0)) for a in attempts]


VERDICTS = st.one_of(
    st.just(UNSCORED), st.integers(0, 4).map(scored), st.just(VLMError("busy", "raw"))
)


@settings(max_examples=25)
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
    begun = threading.Event()
    seen: list[str | None] = []

    def on_draw(drawing: Drawing) -> None:
        seen.append(drawing.negative_prompt)
        if len(seen) == 3:
            begun.set()

    def wait() -> None:
        if "bad one" in seen:
            assert begun.wait(WAIT)

    others = FakeRoles(())
    verifier = Verifier([scored(1), scored(2), scored(3), scored(4)], wait)
    roles = Roles(others, verifier, others, others, overlap=True)
    request = replace(REQUEST, candidates=3)
    attempts = list(correct(request, numbering(on_draw), roles, SourceRanker()))
    assert len(attempts) == 4


def overlapping(
    model: FakeImageModel, verdicts: Sequence[Verdict | Exception]
) -> tuple[Correction, Verifier]:
    others = FakeRoles(())
    verifier = Verifier(verdicts, lambda: None)
    roles = Roles(others, verifier, others, others, overlap=True)
    return correct(REQUEST, model, roles, SourceRanker()), verifier


def test_a_drawing_that_is_not_needed_any_more_is_dropped() -> None:
    model = HeldModel(lambda one, step: one.negative_prompt == "bad two", paint=numbered)
    correction, _ = overlapping(model, [scored(1), scored(4)])
    attempts = list(correction)
    assert attempts[1].verdict.accepted
    assert model.begun == [None, "bad one", "bad two"]
    assert model.drawn == [(7, None), (7, "bad one")]
    assert correction.ended == "accepted"
    assert correction.result.cost.images == 2
    assert correction.result.cost.evaluations == 4 + 5


def test_closing_the_loop_draws_nothing_more() -> None:
    model = numbering()
    correction, _ = overlapping(model, [scored(1)] * 4)
    kept = [next(correction), next(correction)]
    correction.close()
    assert [attempt.index for attempt in kept] == [0, 1]
    assert "bad three" not in model.begun


def test_a_failed_drawing_ahead_is_an_error_only_where_it_is_needed() -> None:
    def fail(drawing: Drawing) -> None:
        if drawing.negative_prompt == "bad two":
            raise ModelError("the card is full")

    accepted, _ = overlapping(numbering(fail), [scored(1), scored(4)])
    assert len(list(accepted)) == 2
    rejected, _ = overlapping(numbering(fail), [scored(1), scored(2)])
    kept = [next(rejected), next(rejected)]
    assert len(kept) == 2
    with pytest.raises(ModelError, match="the card is full"):
        next(rejected)
    assert len(rejected.result.attempts) == 2


def test_nothing_is_drawn_ahead_where_looks_would_be_asked_in_vain() -> None:
    model = FakeImageModel(looking(), paint=numbered)
    correction, _ = overlapping(model, [scored(1), scored(4)])
    assert len(list(correction)) == 2
    assert model.begun == [None, "bad one"]


def test_costs_hold_what_roles_say_that_they_took() -> None:
    attempts, _ = run([scored(1), scored(4)], overlap=False)
    verified = Usage(calls=2, input_tokens=10, output_tokens=1, retries=1, money=0.5)
    original, redrawn = untimed(attempts)
    assert original.cost == Cost(1, 4, 0.0, verified + Usage(readings=2))
    assert redrawn.cost == Cost(1, 5, 0.0, verified + Usage(readings=1))


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

    model, roles = FakeImageModel(), Broke((scored(1),))
    events: list[Event] = []
    attempts = list(correct(REQUEST, model, roles.roles(), SourceRanker(), events.append))
    assert len(attempts) == len(model.drawn) == 1
    assert any(e.stage == "caption" and e.detail == "used up" for e in events)


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
    assert select(attempts) == 1


def test_negatives_that_are_too_long_for_the_model_are_passed_over() -> None:
    events: list[Event] = []
    model = FakeImageModel(looking(), longest=40)
    roles = FakeRoles((scored(1), scored(1), scored(4)))
    roles.negatives = ("a very bad one" * 4, "bad one")
    roles.caption = lambda image: Caption("too many words " * 4)  # type: ignore[method-assign]
    list(correct(REQUEST, model, roles.roles(), SourceRanker(), events.append))
    assert model.drawn == [(7, None), (7, "bad one")]
    assert model.glances == [[Glance("bad one", wrong=True)]]
    assert sum("passed over: " in event.detail for event in events) == 2


def test_a_dropped_drawing_leaves_the_real_model_as_it_was() -> None:
    model = embedded()
    plan = model.plan(Request("two red bananas", steps=4, looks=0))
    drawing = plan.drawing(1, "two yellow bananas")
    (before,) = model.draw([drawing])
    steps: list[int] = []
    watch = Watch(lambda step, total: steps.append(step), cancelled=lambda: len(steps) == 1)
    with pytest.raises(Cancelled):
        model.draw([drawing], watch)
    assert steps == [1]
    (after,) = model.draw([drawing])
    assert before.image.tobytes() == after.image.tobytes()
    assert before.evaluations == after.evaluations
