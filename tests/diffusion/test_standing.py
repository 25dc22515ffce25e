"""The user's own negative acts in every step of every picture, whatever the family and the rule."""

from __future__ import annotations

from typing import Any

import pytest

from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import PromptError
from npcorrect.records import Generation, Request
from tests.diffusion.conftest import STEPS
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.test_families import (
    GUIDED,
    TOLERANCE,
    WITH_NAG,
    Models,
    counting,
    pixels,
    same,
    steps_of,
    stock,
    watched,
)
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT

UNGUIDED_NAG = [name for name in WITH_NAG if FAMILIES[name].after == "alone"]
BOTH = f"{OTHER}, {NEGATIVE}"


def draw(
    model: PipelineModel, text: str | None, standing: str | None, **changes: Any
) -> Generation:
    request = Request(PROMPT, seed=3, negative_prompt=standing, **changes)
    return draw_one(model, resolved(model, request, text))


@pytest.mark.parametrize("family", GUIDED)
def test_the_original_is_the_stock_pipelines_with_that_negative(
    models: Models, family: str
) -> None:
    model = models(family)
    with counting(model) as rows:
        drawn = draw(model, None, OTHER, rule="paper", scale=3.0)
    assert same(drawn.image, stock(model, OTHER, 3.0))
    assert drawn.evaluations == sum(rows) == 2 * steps_of(model)


@pytest.mark.parametrize("family", GUIDED)
def test_by_rule_paper_both_act_in_the_window_and_it_alone_afterwards(
    models: Models, family: str
) -> None:
    model = models(family)
    with watched(model) as ours:
        drawn = draw(model, NEGATIVE, OTHER, rule="paper", negative=1, scale=3.0)
    assert drawn.evaluations == 2 * steps_of(model)
    with watched(model) as joined:
        stock(model, BOTH, 3.0)
    last = steps_of(model, 1) - 1  # The window's last evaluation.
    with watched(model, replaced=ours[last][1], call=last) as alone:
        stock(model, OTHER, 3.0)
    assert ours[0][0].equal(joined[0][0])
    assert ours[last + 1][0].equal(alone[last + 1][0])


@pytest.mark.parametrize("family", GUIDED)
def test_beside_the_rules_that_need_it_it_is_the_unconditional_branch(
    models: Models, family: str
) -> None:
    model = models(family)
    drawn = draw(model, OTHER, OTHER, rule="extra", negative=STEPS, scale=2.0, negative_scale=1.0)
    assert abs(pixels(drawn.image) - pixels(stock(model, OTHER, 3.0))).max() <= TOLERANCE
    assert drawn.evaluations == 3 * steps_of(model)


@pytest.mark.parametrize("family", UNGUIDED_NAG)
def test_without_guidance_it_acts_within_attention(models: Models, family: str) -> None:
    model = models(family)
    original = draw(model, None, NEGATIVE, rule="nag")
    assert same(original.image, draw(model, NEGATIVE, None, rule="nag").image)
    assert not same(original.image, draw(model, None, None, rule="nag").image)
    assert original.evaluations == 2 * steps_of(model)
    both = draw(model, NEGATIVE, OTHER, rule="nag")
    assert same(both.image, draw(model, BOTH, None, rule="nag").image)
    first = draw(model, NEGATIVE, OTHER, rule="nag", negative=1)
    assert first.evaluations == 2 * steps_of(model)
    assert not same(first.image, both.image)
    assert not same(first.image, draw(model, NEGATIVE, None, rule="nag", negative=1).image)


@pytest.mark.parametrize("family", [name for name in WITH_NAG if name not in UNGUIDED_NAG])
def test_beside_nag_it_is_the_unconditional_branch_where_there_is_one(
    models: Models, family: str
) -> None:
    model = models(family)
    original = draw(model, None, OTHER, rule="nag", scale=3.0)
    assert same(original.image, stock(model, OTHER, 3.0))
    redrawn = draw(model, NEGATIVE, OTHER, rule="nag", scale=3.0)
    assert redrawn.evaluations == 3 * steps_of(model)
    assert not same(redrawn.image, draw(model, NEGATIVE, None, rule="nag", scale=3.0).image)


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux-dev"])
def test_one_that_is_longer_than_the_model_reads_is_refused(models: Models, family: str) -> None:
    with pytest.raises(PromptError, match=r"20[12] tokens.*shorten it"):
        models(family).plan(Request(PROMPT, negative_prompt="cat " * 200))


@pytest.mark.parametrize("rule", ["nag", "vsf"])
def test_an_empty_text_acts_within_attention_too(models: Models, rule: str) -> None:
    model = models("flux-schnell")
    standing = draw(model, None, "", rule=rule)
    assert same(standing.image, draw(model, "", None, rule=rule).image)
    assert same(standing.image, draw(model, "", "", rule=rule).image)
    assert not same(standing.image, draw(model, None, None, rule=rule).image)
    first = draw(model, NEGATIVE, "", rule=rule, negative=1)
    assert not same(first.image, draw(model, NEGATIVE, None, rule=rule, negative=1).image)


def test_an_empty_text_a_blank_and_none_are_told_apart(models: Models) -> None:
    model = models("sdxl")
    empty, blank, none = (
        draw(model, None, standing, rule="paper", scale=3.0) for standing in ("", " ", None)
    )
    assert same(empty.image, stock(model, "", 3.0))
    assert same(blank.image, stock(model, " ", 3.0))
    assert same(none.image, stock(model, None, 3.0))
    assert not same(empty.image, none.image)
