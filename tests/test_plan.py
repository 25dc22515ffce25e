"""Everything that can be refused is refused by the plan; drawings follow from it alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeFamily, looking
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.rules import RULES
from npcorrect.errors import InputError, PromptError, SettingsError
from npcorrect.mini.family import DEFAULTS, FAMILY
from npcorrect.plan import Plan, batches, look_steps, plan, start_step, window_steps
from npcorrect.records import Drawing, Origin, Request

STEPS = replace(looking(looks=2, rewinds=1), num_inference_steps=12, strength=0.5)


def planned(defaults: Any = FAKE_DEFAULTS, family: Any = None, **settings: Any) -> Plan:
    return plan(Request("a cat", **settings), family or FakeFamily(), defaults)


def test_silence_takes_the_models_defaults() -> None:
    made = planned(STEPS)
    assert made.template.restart_step == 6
    assert made.template.look_steps == (7, 8)
    assert made.template.max_rewinds == 1
    assert made.template.window == (0, 12)
    assert not made.fresh_from
    assert made.looks


def test_the_papers_rule_keeps_the_seed_and_begins_with_noise() -> None:
    made = planned(replace(STEPS, fresh_from=1), rule="paper", steps=50)
    assert made.template.window == (0, 3)
    assert (made.template.restart_step, made.template.look_steps) == (0, ())
    assert not made.fresh_from


@pytest.mark.parametrize(
    ("first", "asked", "seeds"),
    [
        (0, None, [7, 7, 7, 7]),
        (1, None, [7, 8, 9, 10]),
        (2, None, [7, 7, 9, 10]),
        (2, True, [7, 8, 9, 10]),
        (2, False, [7, 7, 7, 7]),
    ],
)
def test_redrawings_keep_the_seed_up_to_the_first_that_is_fresh(
    first: int, asked: bool | None, seeds: list[int]
) -> None:
    made = planned(replace(STEPS, fresh_from=first), seed=7, fresh=asked)
    assert [made.drawing(attempt, "a dog").seed for attempt in range(4)] == seeds


def test_a_models_own_rule_takes_its_seeds_strength_and_window() -> None:
    own = replace(STEPS, rule="paper", fresh_from=2, paper_window=0.75)
    made = planned(own)
    assert (made.fresh_from, made.template.restart_step, made.template.window) == (2, 6, (0, 9))
    other = planned(own, rule="nag")
    assert (other.fresh_from, other.template.restart_step) == (0, 0)


def test_drawings_differ_in_seed_negative_and_origin_alone() -> None:
    made = planned(STEPS, seed=7, fresh=True)
    origin = Origin("fake", *([None] * 2))  # type: ignore[arg-type]
    drawing = made.drawing(3, "a dog", origin)
    assert (drawing.seed, drawing.negative_prompt, drawing.origin) == (10, "a dog", origin)
    assert replace(drawing, seed=7, negative_prompt=None, origin=None) == made.template
    assert made.drawing(3, "a dog", origin) == drawing
    assert planned(STEPS, strength=1.0).drawing(1, "a dog", origin).origin is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "paper", "scale": 1.0}, "scale of 1 a negative prompt has no effect"),
        ({"rule": "extra", "scale": 0.5}, "scale of 0.5 a negative prompt has no effect"),
        ({"negative": 0.25}, r"begins at step 7; .* \('negative'\), or give a strength of 1"),
        (
            {"negative": "0..1", "rule": "turns", "strength": 1.0, "looks": 0, "rewinds": 0},
            r"acts from its next step on; let it act longer \('negative'\)\.$",
        ),
        ({"negative": 6}, "begins at step 7"),
        ({"negative": "0..0.5"}, "begins at step 7"),
        ({"negative": "0..7", "rule": "turns"}, "begins at step 7, and by rule 'turns' acts from"),
        ({"negative": "sigma:0.4..0.9"}, "'sigma:0.4..0.9'; give steps"),
        ({"negative": 0}, "'?0'?; give steps"),
        ({"negative": 13}, "'13'; give steps"),
        ({"negative": -1}, "-1; give steps"),
        ({"negative": 1.5}, "1.5; give steps"),
        ({"negative": float("nan")}, "nan; give steps"),
        ({"negative": "0.7..0.2"}, "give steps"),
        ({"negative": "0..1..2"}, "give steps"),
        ({"negative": "most"}, "'most'; give steps"),
        ({"negative": True}, "True; give"),
        ({"looks": 3}, "number of looks is 3; give 0 to 2"),
        ({"rule": "paper", "looks": 1}, "keeps one negative and 1 looks would renew it"),
        ({"looks": 0, "rewinds": 1}, "only a look can send a picture back"),
        ({"size": 17}, "17 cannot be drawn by the fake model"),
        ({"height": 16, "width": 20}, "20 cannot be drawn"),
        ({"rule": "magic"}, "'rule' is 'magic'"),
        ({"steps": 2.5}, "'steps' is 2.5"),
        ({"seed": None}, "'seed' is None"),
        ({"seed": 2**63 - 1, "fresh": True}, "leaves no seeds for 5 redrawings"),
    ],
)
def test_what_would_have_no_effect_is_refused(settings: dict[str, Any], said: str) -> None:
    for seed in (0, 1, 2):
        with pytest.raises(SettingsError, match=said):
            planned(STEPS, **({"seed": seed} | settings))


@pytest.mark.parametrize("candidates", [0, 5])
@pytest.mark.parametrize("rule", ["paper", "extra", "turns"])
def test_a_standing_negative_needs_guidance(rule: str, candidates: int) -> None:
    with pytest.raises(SettingsError, match="scale of 1 a negative prompt has no effect"):
        planned(rule=rule, scale=1.0, candidates=candidates, negative_prompt="lowres")


@pytest.mark.parametrize(
    ("family", "rule", "scale", "read"),
    [
        ("flux-dev", "paper", 3.0, "lowres, a dog"),
        ("flux-dev", "extra", 3.0, "a dog"),
        ("flux-dev", "nag", 3.0, "lowres, a dog"),
        ("flux-schnell", "nag", 1.0, "lowres, a dog"),
        ("sdxl", "paper", 3.0, "lowres, a dog"),
        ("sdxl", "turns", 3.0, "a dog"),
        ("sdxl", "nag", 3.0, "a dog"),
        ("sdxl", "nag", 1.0, "lowres, a dog"),
    ],
)
def test_a_standing_negative_shares_the_branch_where_there_is_no_other(
    family: str, rule: str, scale: float, read: str
) -> None:
    request = Request("a cat", rule=rule, scale=scale, negative_prompt="lowres")
    made = plan(request, *_row(family))
    assert made.template.standing_negative == "lowres"
    assert made.template.branch_text is None
    redrawn = made.drawing(1, "a dog")
    assert (redrawn.branch_text, redrawn.negative_prompt) == (read, "a dog")


@pytest.mark.parametrize("standing", ["", " ", None])
def test_an_empty_negative_is_one_that_says_nothing(standing: str | None) -> None:
    made = planned(negative_prompt=standing)
    assert made.template.standing_negative == standing
    assert made.drawing(1, "a dog").branch_text == "a dog"


def test_brackets_that_are_meant_are_read_without_their_backslashes() -> None:
    made = plan(
        Request(r"a cat \(happy\)", negative_prompt=r"a \[dog\]"), FakeFamily(), FAKE_DEFAULTS
    )
    assert made.template.prompt == "a cat (happy)"
    assert made.template.standing_negative == "a [dog]"


@pytest.mark.parametrize(
    ("negative", "said"),
    [
        ("(lowres:1.4)", "negative prompt has '.lowres:1.4.'.*weight"),
        ("a \ud800 cat", "'negative-prompt' is .*give a text"),
        ("red apples, lowres, watermark, lowres", "does not know 'lowres', 'watermark' of"),
    ],
)
def test_negatives_that_cannot_act_are_refused(negative: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(Request("two red bananas", negative_prompt=negative), FAMILY, DEFAULTS)


def test_the_miniature_knows_its_own_words_as_negatives() -> None:
    request = Request(
        "two red bananas", negative_prompt="green apples, two cats on the left, extra objects"
    )
    assert plan(request, FAMILY, DEFAULTS).template.standing_negative == request.negative_prompt


@pytest.mark.parametrize(("steps", "start"), [(2, 0), (3, 1), (4, 2), (12, 6)])
def test_the_default_strength_leaves_a_step_in_which_the_negative_can_act(
    steps: int, start: int
) -> None:
    made = planned(STEPS, rule="turns", steps=steps, looks=0)
    assert made.template.restart_step == start
    with pytest.raises(SettingsError, match="acts from its next step on"):
        planned(STEPS, rule="turns", steps=steps, looks=0, strength=1 / steps)


@pytest.mark.parametrize("steps", range(1, 25))
def test_the_rules_own_window_is_reached_whatever_the_number_of_steps(steps: int) -> None:
    own = replace(STEPS, rule="paper", paper_window=1 / 3, strength=10 / 12)
    template = planned(own, steps=steps).template
    assert template.restart_step < template.window[1] == max(round(steps / 3), 1)


def test_the_scale_of_rule_paper_goes_with_its_own_window() -> None:
    own = replace(STEPS, rule="paper", paper_scale=8.0)
    scales = [
        planned(own, **settings).template.true_cfg_scale
        for settings in (
            {},
            {"negative": "0..1.0"},
            {"negative_prompt": "lowres"},
            {"rule": "extra"},
            {"scale": 4.0},
        )
    ]
    assert scales == [8.0, *[own.true_cfg_scale] * 3, 4.0], "elsewhere it was not measured"
    assert planned(rule="paper").template.true_cfg_scale == FAKE_DEFAULTS.true_cfg_scale


def test_noise_levels_are_asked_of_the_model_where_they_are_wanted() -> None:
    asked: list[Drawing] = []

    def sigmas(drawing: Drawing) -> list[float]:
        asked.append(drawing)
        return [1 - step / 12 for step in range(12)]

    def window(negative: str) -> tuple[int, int]:
        request = Request("a cat", negative=negative)
        return plan(request, FakeFamily(), STEPS, sigmas).template.window

    assert window("0.25..1") == (3, 12)
    assert asked == []
    assert window("sigma:0.5..0.25") == (6, 9)
    assert [drawing.num_inference_steps for drawing in asked] == [12]
    with pytest.raises(SettingsError, match="at least 1 of the 12 steps"):
        window("sigma:30..20")
    with pytest.raises(SettingsError, match="begins at step 7"):
        window("sigma:1..0.5")
    assert planned(STEPS, negative="sigma:30..20").template.window == (0, 12)


def test_a_picture_alone_needs_no_negative_that_acts() -> None:
    assert planned(rule="paper", scale=1.0, candidates=0).template.true_cfg_scale == 1.0


def test_a_family_that_cannot_restart_is_not_asked_to() -> None:
    fixed = FakeFamily(restarts=False)
    assert planned(STEPS, fixed).template.restart_step == 0
    with pytest.raises(SettingsError, match="cannot begin with a noised picture"):
        planned(STEPS, fixed, strength=0.5)
    with pytest.raises(SettingsError, match="cannot begin with a noised picture"):
        planned(STEPS, fixed, rewinds=1)


def test_a_distilled_family_says_why_and_what_else() -> None:
    with pytest.raises(SettingsError, match=r"distilled.*use rule 'nag'"):
        plan(Request("a cat", rule="paper"), *_row("flux-schnell"))
    assert plan(Request("a cat"), *_row("flux-schnell")).template.rule == "nag"
    with pytest.raises(SettingsError, match=r"^Rule 'vsf' is not written for SDXL-Turbo.*'nag'"):
        plan(Request("a cat", rule="vsf"), *_row("sdxl-turbo"))
    with pytest.raises(SettingsError, match=r"'nag' is not written for Qwen-Image.*'paper'"):
        plan(Request("a cat", rule="nag"), *_row("qwen-image"))


def _row(name: str) -> tuple[Any, Any]:
    return FAMILIES[name], FAMILIES[name].defaults


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_defaults_work(family: str) -> None:
    row, defaults = _row(family)
    made = plan(Request("a cat"), row, defaults)
    assert made.template.rule in RULES
    assert made.template.window[0] < made.template.window[1]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        (None, "empty"),
        ("x" * 10_001, "10001 characters"),
        ("a \ud800 cat", "no text"),
    ],
)
def test_prompts_that_are_none_are_refused(prompt: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        plan(Request(prompt), FakeFamily(), FAKE_DEFAULTS)


@pytest.mark.parametrize(
    "prompt", ["five apples and five bananas", "nine clocks and a kite", "a purple unicorn"]
)
def test_the_miniature_refuses_what_it_cannot_hold(prompt: str) -> None:
    with pytest.raises(PromptError):
        plan(Request(prompt), FAMILY, DEFAULTS)


def test_the_miniature_holds_nine() -> None:
    assert plan(Request("five apples and four bananas"), FAMILY, DEFAULTS).template


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_windows_in_steps_and_shares_agree(first: int, length: int, rest: int) -> None:
    steps = first + length + rest
    stop = first + length
    assert window_steps(f"{first}..{stop}", steps) == (first, stop)
    assert window_steps(f"{first / steps:.6f}..{stop / steps:.6f}", steps) == (first, stop)
    assert window_steps(stop, steps) == window_steps(str(stop), steps) == (0, stop)
    assert window_steps(stop / steps, steps) == (0, stop)


@given(st.integers(1, 100), st.floats(0.001, 1))
def test_redrawings_take_at_least_a_step(steps: int, strength: float) -> None:
    assert 0 <= start_step(strength, steps) < steps


@given(st.integers(3, 100), st.integers(0, 100), st.integers(0, 20))
def test_looks_are_spread_between_the_start_and_two_thirds(
    steps: int, start: int, looks: int
) -> None:
    room = max(round(2 / 3 * steps) - start, 0)
    if looks > room:
        with pytest.raises(SettingsError):
            look_steps(looks, steps, start)
        return
    chosen = look_steps(looks, steps, start)
    assert len(set(chosen)) == looks
    assert all(start < step <= start + room for step in chosen)


ENDS = st.integers(0, 13) | st.floats(0, 1)
INTERVALS = st.tuples(st.sampled_from(["", "sigma:"]), ENDS, ENDS).map(
    "{0[0]}{0[1]}..{0[2]}".format
)
NUMBERS = st.none() | st.integers(-3, 40) | st.floats() | st.text(max_size=4) | INTERVALS


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(
    ("steps", "scale", "looks", "strength", "rewinds", "negative", "size", "rule", "batch",
     "negative_prompt"), NUMBERS
)))  # fmt: skip
def test_any_settings_make_a_plan_or_one_sentence(settings: dict[str, Any]) -> None:
    try:
        made = planned(STEPS, **settings)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 (both outcomes are right)
        return
    drawing = made.template
    first = max(drawing.window[0], drawing.restart_step + RULES[drawing.rule].delay)
    assert first < drawing.window[1] <= drawing.num_inference_steps
    assert all(drawing.restart_step < step for step in drawing.look_steps)


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys; from npcorrect import Request; from npcorrect.session import *\n"
        "check(SessionSettings(), Request('two red bananas')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_weight_that_the_rule_does_not_take_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"negative scale 2 has no effect.*rule 'extra'"):
        plan(Request("x", rule="paper", negative_scale=2.0), FakeFamily(), FAKE_DEFAULTS)
    assert plan(Request("x", rule="extra", negative_scale=2.0), FakeFamily(), FAKE_DEFAULTS)


@given(st.lists(st.sampled_from([None, "four apples", "fog"]), max_size=12), st.integers(1, 5))
def test_batches_are_alike_full_and_in_order(negatives: list[str | None], size: int) -> None:
    made, acts = batches(negatives, size), [negative is not None for negative in negatives]
    assert [place for batch in made for place in batch] == [*range(len(acts))]
    for batch in made:
        assert 1 <= len(batch) <= size
        assert len({acts[place] for place in batch}) == 1
    for batch, following in pairwise(made):
        assert len(batch) == size or acts[batch.start] != acts[following.start]


def test_a_size_beside_both_sides_is_refused() -> None:
    request = Request("a cat", size=16, height=16, width=32)
    with pytest.raises(SettingsError, match="size 16 has no effect beside a height of 16"):
        plan(request, FakeFamily(), FAKE_DEFAULTS)
    made = plan(replace(request, height=None), FakeFamily(), FAKE_DEFAULTS)
    assert (made.template.height, made.template.width) == (16, 32)
