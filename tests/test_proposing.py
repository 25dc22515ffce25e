"""Negatives are clean, come from what was seen, and never name what the prompt asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.mini.grammar import parse
from npcorrect.proposing import (
    FALLBACK,
    MAX_WORDS,
    RuleProposer,
    clean,
    combined,
    refusal,
    source_of,
    targeted,
    untargeted,
    whole_caption,
)
from npcorrect.records import Caption, Check, Checklist, Requirement, Verdict

PROMPT = "three red circles and one blue square"


def asked(prompt: str) -> Checklist:
    return Checklist(prompt, parse(prompt).requirements())


def judged(checklist: Checklist, **observed: str) -> Verdict:
    """Everything passes but the checks of these kinds, given what they saw."""
    first: set[str] = set()
    checks = []
    for claim in checklist.requirements:
        fails = claim.kind in observed and claim.kind not in first
        if fails:
            first.add(claim.kind)
        checks.append(Check(claim, not fails, observed[claim.kind] if fails else ""))
    return Verdict(tuple(checks))


@pytest.mark.parametrize(
    ("phrase", "negative"),
    [
        ("Four circles", "four circles"),
        ("  4 circles. ", "four circles"),
        ("blue circles", "blue circles"),
        ("a striped gray background", "a striped gray background"),
        ("one circle", "one circle"),
        ("circles", None),
        ("red circle", None),
        ("the three red circles", None),
        ("3 circles", None),
        ("a blue square", None),
        ("three red circles and one blue square", None),
        ("four circles and blue squares", None),
        ("no circles", None),
        ("circles without colour", None),
        ("isn't round", None),
        ("a no-go sign", None),
        ("one two six seven eight nine ten", None),
        ("?!", None),
        ("the", None),
        ("", None),
    ],
)
def test_clean(phrase: str, negative: str | None) -> None:
    assert clean(phrase, asked(PROMPT)) == negative


def test_a_required_relation_is_never_a_negative_but_its_reverse_is() -> None:
    checklist = asked("one circle to the left of one square")
    assert clean("circle to the left of square", checklist) is None
    assert clean("circles left of squares", checklist) is None
    assert clean("square to the left of circle", checklist) is not None


def test_what_must_be_absent_may_be_named() -> None:
    gone = Requirement("r1", "count", "there are no elephants", "elephant", "0")
    assert clean("one elephant", Checklist("a room without elephants", (gone,))) == "one elephant"


@given(st.text(max_size=60))
def test_a_clean_phrase_is_short_lower_case_and_stays_as_it_is(phrase: str) -> None:
    checklist = asked(PROMPT)
    text = clean(phrase, checklist)
    if text is not None:
        assert 1 <= len(text.split()) <= MAX_WORDS
        assert text == text.lower()
        assert clean(text, checklist) == text


def test_failed_checks_and_captions_give_targeted_candidates() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, count="four circles", only="one star")
    caption = Caption("", ("four red circles", "one blue square", "one pink star"))
    found = targeted(checklist, verdict, caption)
    assert [c.negative_prompt for c in found] == ["four circles", "one star"]
    assert {c.source for c in found} == {"targeted"}
    assert found[0].reason == "fails: exactly three circles"


def test_a_long_or_partly_required_observation_is_taken_apart() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, attribute="red circles and green circles and blue circles")
    found = targeted(checklist, verdict, Caption(""))
    assert [c.negative_prompt for c in found] == ["green circles", "blue circles"]


def test_unasked_content_gives_untargeted_candidates() -> None:
    caption = Caption("", ("four red circles", "one star", "a plain white background"))
    found = untargeted(asked(PROMPT), caption)
    assert [c.negative_prompt for c in found] == ["one star", "a plain white background"]
    assert {c.source for c in found} == {"untargeted"}


def test_combinations_join_a_fault_with_unasked_content() -> None:
    checklist = asked(PROMPT)
    faults = targeted(checklist, judged(checklist, count="two circles"), Caption(""))
    others = untargeted(checklist, Caption("", ("one star",)))
    (both,) = combined(faults, others)
    assert (both.negative_prompt, both.source) == ("two circles and one star", "combined")
    assert combined(others, others) == ()


def test_the_whole_caption_is_a_candidate_of_any_length_without_its_negations() -> None:
    text = "Four red circles and one blue square on a plain white background. There is no star."
    (whole,) = whole_caption(asked(PROMPT), Caption(text))
    assert whole.negative_prompt == (
        "four red circles and one blue square on a plain white background"
    )
    assert whole.source == "combined"
    assert whole_caption(asked(PROMPT), Caption("Three red circles and one blue square.")) == ()
    assert whole_caption(asked(PROMPT), Caption("")) == ()


def test_sentences_that_state_only_what_is_asked_are_left_out_of_the_caption() -> None:
    text = "The picture shows one blue square. There are four red circles. A red circle is small."
    (whole,) = whole_caption(asked(PROMPT), Caption(text))
    assert whole.negative_prompt == "four red circles"


def test_two_candidates_that_name_nearly_the_same_are_one() -> None:
    caption = Caption("", ("white bed", "a white bed", "white beds", "large white bed", "lamp"))
    found = untargeted(Checklist("four teddy bears", ()), caption)
    assert [c.negative_prompt for c in found] == ["white bed", "lamp"]


def test_a_combination_has_six_words_at_most_and_no_articles() -> None:
    checklist = asked(PROMPT)
    faults = targeted(checklist, judged(checklist, count="four circles"), Caption(""))
    short = untargeted(checklist, Caption("", ("a plain white background",)))
    (both,) = combined(faults, short)
    assert both.negative_prompt == "four circles and plain white background"
    long = untargeted(checklist, Caption("", ("a plain dark white background",)))
    assert combined(faults, long) == ()


def test_a_verifiers_sentence_is_made_a_thing() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, count="The image shows four circles.")
    assert [c.negative_prompt for c in targeted(checklist, verdict, Caption(""))] == [
        "four circles"
    ]


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("no circles", "absent"),
        ("the image shows a star", "statement"),
        ("background", "nothing in particular"),
        ("one two three four five six seven", "7 words"),
        ("crimson circles", "the prompt asks for 'crimson circles'"),
        ("green circles", ""),
    ],
)
def test_a_refusal_says_why(phrase: str, reason: str) -> None:
    found = refusal(phrase, asked(PROMPT))
    assert reason in found
    assert bool(found) is bool(reason)


def test_the_rules_propose_some_of_each_with_the_caption_first() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, count="four circles", attribute="green circles")
    caption = Caption("four circles on a plain background", ("four circles", "a plain background"))
    found = RuleProposer().propose(checklist, verdict, caption, 10)
    assert [c.source for c in found[:4]] == ["combined", "targeted", "combined", "untargeted"]
    texts = [c.negative_prompt for c in found]
    assert texts[:3] == [caption.text, "four circles", "four circles and plain background"]
    assert len(set(texts)) == len(texts)
    assert not {c.source for c in found} & {"fallback"}
    assert RuleProposer().propose(checklist, verdict, caption, 2) == found[:2]
    assert RuleProposer().propose(checklist, verdict, caption, 0) == ()


def test_the_fallback_is_the_last_resort_and_is_cleaned_too() -> None:
    checklist = asked(PROMPT)
    failed = judged(checklist, object="")
    found = RuleProposer().propose(checklist, failed, Caption(""), 9)
    assert [c.negative_prompt for c in found] == list(FALLBACK)
    assert {c.source for c in found} == {"fallback"}
    assert RuleProposer(("red circles",)).propose(checklist, failed, Caption(""), 9) == ()


@pytest.mark.parametrize(
    ("negative", "source"),
    [
        ("four circles", "targeted"),
        ("a blue circle", "targeted"),
        ("wooden table", "untargeted"),
        ("wooden table and one star", "untargeted"),
        ("four circles and one star", "combined"),
    ],
)
def test_a_negatives_source_shows_in_its_words(negative: str, source: str) -> None:
    claims = (
        Requirement("r1", "object", "a circle", "circle", "circle"),
        Requirement("r2", "count", "no star", "star", "0"),
    )
    assert source_of(negative, Checklist("circles and no star", claims)) == source
