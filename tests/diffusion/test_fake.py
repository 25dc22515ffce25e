"""The fake draws as a real model does: the same drawings are asked of both where they can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from npcorrect.diffusion.base import Cancelled, Glance, Watch
from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeFamily, FakeImageModel, looking
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.rules import RULES
from npcorrect.errors import ModelError, PromptError, SettingsError
from npcorrect.records import Drawing, Generation, Request
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT

Models = Callable[[str], PipelineModel]
REQUEST = Request(PROMPT, seed=3, steps=6, rule="extra", scale=3.0, looks=2)


@pytest.fixture(params=["fake", "flux-dev"])
def model(request: pytest.FixtureRequest, models: Models) -> FakeImageModel | PipelineModel:
    return FakeImageModel() if request.param == "fake" else models(request.param)


def told(drawn: Generation) -> dict[str, Any]:
    """What a generation tells, but for what costs time."""
    kept = ("steering", "start_step", "rewinds", "looks")
    return {name: getattr(drawn, name) for name in kept}


def test_each_look_is_shown_the_pictures_and_the_negatives_that_act(
    model: FakeImageModel | PipelineModel,
) -> None:
    seen: list[tuple[int, list[tuple[int, int]], list[str | None]]] = []

    def look(first: int, images: Sequence[Any], negatives: Sequence[str | None]) -> list[Glance]:
        seen.append((first, [image.size for image in images], list(negatives)))
        return [Glance(OTHER), Glance(None)] if len(seen) == 1 else [Glance(OTHER), Glance(OTHER)]

    drawings = [resolved(model, REQUEST, text) for text in (NEGATIVE, "one cat")]
    assert drawings[0].look_steps == (2, 4)
    drawn = model.draw(drawings, Watch(look=look))
    size = (drawings[0].width, drawings[0].height)
    assert seen == [
        (0, [size, size], [NEGATIVE, "one cat"]),
        (0, [size, size], [OTHER, None]),
    ]
    nothing = {"start_step": 0, "rewinds": 0, "looks": 2}
    assert [told(each) for each in drawn] == [
        {"steering": ((2, OTHER),)} | nothing,
        {"steering": ((2, None), (4, OTHER))} | nothing,
    ]


def test_the_last_look_sends_a_wrong_picture_back(model: FakeImageModel | PipelineModel) -> None:
    asked = replace(REQUEST, strength=2 / 3, looks=1, rewinds=2)
    original = draw_one(model, resolved(model, asked))
    drawing = resolved(model, asked, NEGATIVE, origin=original.origin)
    assert (drawing.restart_step, drawing.look_steps) == (2, (4,))
    steps: list[tuple[int, int]] = []
    glances = iter([Glance(OTHER, wrong=True), Glance(OTHER, wrong=False)])
    watch = Watch(lambda *step: steps.append(step), lambda *_: [next(glances)])
    expected = {"steering": ((2, OTHER),), "start_step": 2, "rewinds": 1, "looks": 2}
    assert told(draw_one(model, drawing, watch)) == expected
    assert steps == [(step, 6) for step in (3, 4, 3, 4, 5, 6)]


def test_no_picture_goes_back_more_often_than_it_may(model: FakeImageModel | PipelineModel) -> None:
    drawing = resolved(model, replace(REQUEST, looks=1, rewinds=2), NEGATIVE)
    watch = Watch(look=lambda *_: [Glance(NEGATIVE, wrong=True)])
    back = (0, NEGATIVE)
    expected = {"steering": (back, back), "start_step": 0, "rewinds": 2, "looks": 3}
    assert told(draw_one(model, drawing, watch)) == expected


def test_pictures_that_may_go_back_are_drawn_one_by_one(
    model: FakeImageModel | PipelineModel,
) -> None:
    asked = replace(REQUEST, looks=1, rewinds=1)
    drawings = [resolved(model, asked, text) for text in (NEGATIVE, OTHER)]
    places: list[int] = []

    def look(first: int, images: Sequence[Any], negatives: Sequence[str | None]) -> list[Glance]:
        places.append(first)
        return [Glance(negatives[0], wrong=first == 0)]

    drawn = model.draw(drawings, Watch(look=look))
    assert places == [0, 0, 1]
    assert [each.rewinds for each in drawn] == [1, 0]


def test_nothing_is_looked_at_without_a_negative_that_acts(
    model: FakeImageModel | PipelineModel,
) -> None:
    def look(*_: Any) -> list[Glance]:
        raise AssertionError("looked")

    draw_one(model, resolved(model, REQUEST), Watch(look=look))
    drawn = draw_one(model, resolved(model, REQUEST, NEGATIVE, first_steps=0), Watch(look=look))
    assert drawn.looks == 0


@pytest.mark.parametrize("done", [0, 2])
def test_a_drawing_ends_before_the_step_after_its_cancelling(
    model: FakeImageModel | PipelineModel, done: int
) -> None:
    steps: list[int] = []
    watch = Watch(lambda step, _: steps.append(step), cancelled=lambda: len(steps) >= done)
    with pytest.raises(Cancelled):
        model.draw([resolved(model, REQUEST, NEGATIVE)], watch)
    assert steps == list(range(1, done + 1))
    assert draw_one(model, resolved(model, REQUEST, NEGATIVE)).looks == 0


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_another_models_origin_is_an_error(
    model: FakeImageModel | PipelineModel, strength: float
) -> None:
    asked = replace(REQUEST, strength=strength, looks=0)
    origin = FakeImageModel(name="another").origin(
        Image.new("RGB", (16, 16)), resolved(model, asked)
    )
    drawing = replace(resolved(model, asked, NEGATIVE), origin=origin)
    with pytest.raises(ModelError, match="'another'"):
        model.draw([drawing])


def test_a_batch_that_differs_in_more_is_refused_and_none_is_nothing(
    model: FakeImageModel | PipelineModel,
) -> None:
    mixed = [resolved(model, REQUEST), resolved(model, REQUEST, NEGATIVE)]
    with pytest.raises(ValueError, match="differ in more"):
        model.draw(mixed)
    assert model.draw([]) == []


def test_what_cannot_work_is_refused_as_a_plan_does() -> None:
    model = FakeImageModel(longest=30)
    with pytest.raises(PromptError, match="31 characters"):
        model.plan(Request("x" * 31))
    with pytest.raises(PromptError, match="31 characters"):
        model.check_text("x" * 31)
    with pytest.raises(SettingsError, match="keeps one negative"):
        model.plan(Request(PROMPT[:30], rule="paper", looks=1))
    with pytest.raises(SettingsError, match="cannot begin with a noised picture"):
        FakeImageModel(family=FakeFamily(restarts=False)).plan(
            Request(PROMPT, rule="extra", strength=0.5)
        )


def test_it_remembers_what_it_was_asked() -> None:
    begun: list[Drawing] = []
    model = FakeImageModel(looking(looks=3), on_draw=begun.append)
    plan = model.plan(Request(PROMPT, seed=5, fresh=True))
    assert plan.template.look_steps
    drawings = [plan.drawing(attempt, text) for attempt, text in enumerate((NEGATIVE, OTHER), 1)]
    model.draw([plan.drawing(0, None)])
    model.draw(drawings, Watch(look=lambda *_: [Glance(NEGATIVE), Glance(None)]))
    assert model.drawn == [(5, None), (6, NEGATIVE), (7, OTHER)]
    assert begun == [plan.drawing(0, None), *drawings]
    assert model.begun == [None, NEGATIVE, OTHER]
    assert len(model.glances) == 3
    with pytest.raises(Cancelled):
        model.draw([plan.drawing(3, NEGATIVE)], Watch(cancelled=lambda: True))
    assert model.begun[-1] == NEGATIVE
    assert len(model.drawn) == 3


def test_pictures_origins_and_costs() -> None:
    def paint(drawing: Drawing) -> Image.Image:
        return Image.new("RGB", (drawing.width, drawing.height), (drawing.seed, 0, 0))

    model = FakeImageModel(paint=paint)
    drawn = draw_one(model, resolved(model, Request(PROMPT, seed=7, negative=3), NEGATIVE))
    assert drawn.image.getpixel((0, 0)) == (7, 0, 0)
    assert drawn.evaluations == 4 + 3
    assert drawn.origin is not None
    assert drawn.origin.latents[0, 0, 0].tolist() == [7, 0, 0]
    assert drawn.origin.sigmas.shape == (FAKE_DEFAULTS.num_inference_steps + 1,)
    still = FakeImageModel(family=FakeFamily(restarts=False))
    assert draw_one(still, resolved(still, Request(PROMPT))).origin is None


def test_texts_that_differ_have_different_states() -> None:
    one, other, empty = FakeImageModel().encode(["ab", "ba", ""])
    assert one.states.shape == (2, 2)
    assert one.states.tolist() != other.states.tolist()
    assert len(empty.states) == len(empty.special) == 1


def costs(drawn: Sequence[Generation]) -> list[dict[str, Any]]:
    """All that pictures tell of what was computed for them."""
    return [
        told(each)
        | {"evaluations": each.evaluations, "answers": each.answers}
        | {"receipt": each.receipt and replace(each.receipt, moved=None)}
        for each in drawn
    ]


SCRIPTS: list[Callable[[int, int], Glance]] = [
    lambda look, place: Glance(f"{OTHER} {look}", wrong=True),
    lambda look, place: Glance(None),
    lambda look, place: Glance(None if look % 2 else OTHER, wrong=True),
    lambda look, place: Glance(None if place else OTHER, wrong=not place),
]
"""What looks say: another text each time, that all is right, either in turn, or one of each."""


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["extra", "turns"]),
    st.sampled_from([None, "blurry"]),
    st.tuples(st.integers(0, 5), st.integers(1, 6)),
    st.integers(1, 4),
    st.integers(0, 1),
    st.sampled_from(SCRIPTS),
)
def test_what_looks_change_costs_as_much_as_on_a_real_model(
    models: Models,
    rule: str,
    standing: str | None,
    window: tuple[int, int],
    looks: int,
    rewinds: int,
    script: Callable[[int, int], Glance],
) -> None:
    assume(max(window[0], RULES[rule].delay) < window[1])
    asked = Request(
        PROMPT, seed=3, steps=6, rule=rule, scale=3.0, negative="{}..{}".format(*window),
        negative_prompt=standing, looks=looks, rewinds=rewinds, strength=1.0,
    )  # fmt: skip

    def outcome(model: FakeImageModel | PipelineModel) -> object:
        asking = count(1)

        def look(first: int, images: Sequence[Any], _: Sequence[str | None]) -> list[Glance]:
            number = next(asking)
            return [script(number, first + row) for row in range(len(images))]

        drawings = [resolved(model, asked, text) for text in (NEGATIVE, "one cat")]
        return costs(model.draw(drawings, Watch(look=look)))

    assert outcome(FakeImageModel()) == outcome(models("flux-dev"))


@pytest.mark.parametrize("negative", [NEGATIVE, None])
@pytest.mark.parametrize("standing", ["blurry", "", None])
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_costs_as_much_as_on_a_real_model(
    models: Models, rule: str, standing: str | None, negative: str | None
) -> None:
    real = models("flux-schnell" if rule == "vsf" else "flux-dev")
    asked = Request(
        PROMPT, steps=3, rule=rule, negative="1..2", negative_prompt=standing, looks=0
    )  # fmt: skip
    drawn = [draw_one(m, resolved(m, asked, negative)) for m in (FakeImageModel(), real)]
    assert costs(drawn[:1]) == costs(drawn[1:])


@pytest.mark.parametrize(
    ("rule", "evaluations"),
    [("paper", 7), ("extra", 11), ("turns", 8), ("dynamic", 11), ("nag", 7), ("vsf", 4)],
)
def test_evaluations_are_those_of_the_rule_in_three_of_four_steps(
    rule: str, evaluations: int
) -> None:
    drawing = resolved(FakeImageModel(), Request(PROMPT, rule=rule, negative=3), NEGATIVE)
    assert draw_one(FakeImageModel(), drawing).evaluations == evaluations
