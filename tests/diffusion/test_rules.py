"""Each rule's branches, and its combination as the pipeline makes a guided prediction of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.fake import FAKE_DEFAULTS
from npcorrect.diffusion.rules import RULES, Dynamic, Extra, Nag, Paper, Rule, Turns, Vsf
from npcorrect.plan import Defaults
from npcorrect.settings import RULES as NAMES
from npcorrect.settings import WITHIN_ATTENTION

SCALE, WEIGHT = 3.5, 0.7
SCALES = st.floats(1.1, 12)
WEIGHTS = st.floats(0.1, 5)


def predictions(seed: int, *branches: Branch) -> dict[Branch, Tensor]:
    """Random predictions in double precision, ``(2, 4, 3)``."""
    generator = torch.Generator().manual_seed(seed)
    return {
        branch: torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
        for branch in branches
    }


def guided(rule: Rule, values: dict[Branch, Tensor], acting: bool = True) -> Tensor:
    """What the pipeline makes of the prompt's prediction and the rule's second branch."""
    second = rule.second(values, acting)
    return second + rule.scale * (values["positive"] - second)


def test_every_name_of_the_settings_has_a_rule() -> None:
    assert tuple(RULES) == NAMES
    assert tuple(name for name, rule in RULES.items() if rule.attends) == WITHIN_ATTENTION


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("paper", {"guided", "replaces"}),
        ("extra", {"guided", "renewable", "beside"}),
        ("turns", {"guided", "renewable"}),
        ("dynamic", {"guided", "beside", "learns"}),
        ("nag", {"attends"}),
        ("vsf", {"attends"}),
    ],
)
def test_traits(name: str, traits: set[str]) -> None:
    known = ("guided", "replaces", "renewable", "beside", "attends", "learns")
    assert {trait for trait in known if getattr(RULES[name], trait)} == traits


@pytest.mark.parametrize(
    ("rule", "window", "scale"),
    [
        (Paper, 3 / 50, 0.5),
        (Extra, 0.25, 0.5),
        (Turns, 0.25, 0.5),
        (Dynamic, 1.0, 0.5),
        (Nag, 1.0, 4.0),
        (Vsf, 1.0, 6.0),
    ],
)
def test_defaults_where_the_request_is_silent(
    rule: type[Rule], window: float, scale: float
) -> None:
    defaults = Defaults(
        **(
            vars(FAKE_DEFAULTS)
            | {"window": 0.25, "negative_scale": 0.5, "nag_scale": 4.0, "vsf_scale": 6.0}
        )
    )
    assert (rule.default_window(defaults), rule.default_scale(defaults)) == (window, scale)


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("paper", "negative"),
        ("extra", "empty"),
        ("dynamic", "empty"),
        ("nag", "empty"),
        ("vsf", "empty"),
    ],
)
def test_branches_beside_the_prompts(name: str, branch: str) -> None:
    assert RULES[name](SCALE, WEIGHT).first(True) == branch
    assert RULES[name](SCALE, WEIGHT).first(False) == "empty"


@pytest.mark.parametrize("name", RULES)
def test_where_no_negative_acts_the_branch_is_the_plain_one(name: str) -> None:
    rule = RULES[name](SCALE, WEIGHT)
    values = predictions(0, "positive", rule.first(False))
    assert rule.second(values, acting=False) is rule.plain(values)


def test_without_its_negative_each_rule_is_plain_guidance() -> None:
    values = predictions(0, "positive", "empty", "negative")
    assert Extra(SCALE, WEIGHT).plain(values) is values["empty"]
    assert (
        Paper(SCALE, WEIGHT).plain(predictions(0, "positive", "negative")).equal(values["positive"])
    )


@given(SCALES, st.integers(0, 99))
def test_paper_guides_against_the_negative(scale: float, seed: int) -> None:
    values = predictions(seed, "positive", "negative")
    v_pos, v_neg = values["positive"], values["negative"]
    torch.testing.assert_close(
        guided(Paper(scale, WEIGHT), values), v_neg + scale * (v_pos - v_neg)
    )


@given(SCALES, WEIGHTS, st.integers(0, 99))
def test_extra_adds_a_direction_to_plain_guidance(scale: float, mu: float, seed: int) -> None:
    values = predictions(seed, "positive", "empty", "negative")
    v_pos, v_empty, v_neg = values.values()
    expected = v_empty + scale * (v_pos - v_empty) + mu * (v_pos - v_neg)
    torch.testing.assert_close(guided(Extra(scale, mu), values), expected)


@pytest.mark.parametrize("name", ["extra", "turns", "dynamic", "nag", "vsf"])
def test_without_a_negative_guidance_is_plain(name: str) -> None:
    values = predictions(0, "positive", "empty")
    assert RULES[name](SCALE, WEIGHT).second(values, acting=False) is values["empty"]


LOG_RATIOS = st.lists(st.floats(-1, 1), min_size=1, max_size=8)


@given(SCALES, WEIGHTS, st.integers(0, 99), LOG_RATIOS)
def test_dynamic_takes_the_negative_away_by_the_odds_of_it(
    scale: float, mu: float, seed: int, ratios: list[float]
) -> None:
    rule, odds = Dynamic(scale, mu), Dynamic.PRIOR / (1 - Dynamic.PRIOR)
    for ratio in ratios:
        rule.learn(torch.full((2,), ratio / Dynamic.TEMPERATURE))
        p = min(max(odds / (1 + odds) * math.exp(ratio), Dynamic.LEAST), Dynamic.MOST)
        odds = p / (1 - p)
    values = predictions(seed, "positive", "empty", "negative")
    v_pos, v_empty, v_neg = values.values()
    expected = v_empty + scale * (v_pos - v_empty) - mu * odds * (v_neg - v_empty)
    torch.testing.assert_close(guided(rule, values), expected, rtol=1e-4, atol=1e-4)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_dynamic_is_bounded(ratios: list[float]) -> None:
    rule = Dynamic(SCALE, WEIGHT)
    for ratio in ratios:
        rule.learn(torch.tensor([ratio]))
        (p,) = rule.posterior(torch.zeros(1))
        assert Dynamic.LEAST * 0.999 <= p <= Dynamic.MOST * 1.001


def test_dynamic_begins_with_the_prior_and_pictures_are_independent() -> None:
    rule = Dynamic(SCALE, WEIGHT)
    torch.testing.assert_close(rule.posterior(torch.zeros(2, 3)), torch.full((2,), Dynamic.PRIOR))
    for _ in range(40):
        rule.learn(torch.tensor([1e-3, -1e-3]))
    related, unrelated = rule.posterior(torch.zeros(2)).tolist()
    assert related == pytest.approx(Dynamic.MOST)
    assert unrelated == pytest.approx(Dynamic.LEAST)
    alone = Dynamic(SCALE, WEIGHT)
    for _ in range(40):
        alone.learn(torch.tensor([-1e-3]))
    assert alone.posterior(torch.zeros(1)).item() == pytest.approx(unrelated)


def test_nag_leaves_guidance_as_it_is() -> None:
    values = predictions(0, "positive", "empty")
    assert Nag(SCALE, WEIGHT).second(values, acting=True) is values["empty"]


def test_turns_computes_the_branches_in_turn_and_knows_the_plain_one_always() -> None:
    rule = Turns(SCALE, WEIGHT)
    order: list[Branch] = []
    for step in range(5):
        branch = rule.first(True)
        order.append(branch)
        values = predictions(step, "positive", branch)
        if branch == "empty":
            assert rule.plain(values) is values["empty"]
            difference = values["positive"] - values["empty"]
        else:
            torch.testing.assert_close(rule.plain(values), values["positive"] - difference)
        rule.second(values, acting=True)
    assert order == ["empty", "negative", "empty", "negative", "empty"]


def test_after_steps_without_it_the_negative_has_the_first_turn() -> None:
    rule = Turns(SCALE, WEIGHT)
    rule.second(predictions(0, "positive", "empty"), acting=False)
    assert rule.first(True) == "negative"


def test_turns_computes_the_empty_branch_alone_while_no_negative_acts() -> None:
    rule = Turns(SCALE, WEIGHT)
    for step in range(3):
        assert rule.first(False) == "empty"
        rule.second(predictions(step, "positive", "empty"), acting=False)


@given(SCALES, WEIGHTS)
def test_turns_keeps_the_difference_that_it_does_not_compute(scale: float, mu: float) -> None:
    rule = Turns(scale, mu)
    turns: list[Branch] = ["empty", "negative", "empty", "negative"]
    steps = [predictions(seed, "positive", branch) for seed, branch in enumerate(turns)]
    v_pos, v_empty = steps[0].values()
    torch.testing.assert_close(guided(rule, steps[0]), v_empty + scale * (v_pos - v_empty))
    from_empty = v_pos - v_empty
    for values in steps[1:]:
        v_pos = values["positive"]
        if "negative" in values:
            from_negative = v_pos - values["negative"]
        else:
            from_empty = v_pos - values["empty"]
        expected = v_pos + (scale - 1) * from_empty + mu * from_negative
        torch.testing.assert_close(guided(rule, values), expected)


def test_turns_forgets_a_negative_that_acts_no_more() -> None:
    rule = Turns(SCALE, WEIGHT)
    rule.second(predictions(0, "positive", "empty"), acting=True)
    rule.second(predictions(1, "positive", "negative"), acting=True)
    values = predictions(2, "positive", "empty")
    assert rule.second(values, acting=False) is values["empty"]
    values = predictions(3, "positive", "empty")
    assert rule.second(values, acting=True) is values["empty"]


def test_a_draw_begins_with_no_memory_of_another() -> None:
    used = Turns(SCALE, WEIGHT)
    used.second(predictions(0, "positive", "empty"), acting=True)
    assert used.first(True) == "negative"
    assert Turns(SCALE, WEIGHT).first(True) == "empty"
