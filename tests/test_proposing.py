"""Negatives are clean, come from what was seen, and never name what the prompt asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.mini.checklist import requirements
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

PROMPT = "three red apples and one blue cup"


def asked(prompt: str) -> Checklist:
    return Checklist(prompt, requirements(parse(prompt)))


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
        ("Four apples", "four apples"),
        ("  4 apples. ", "four apples"),
        ("blue apples", "blue apples"),
        ("a striped gray background", "a striped gray background"),
        ("one apple", "one apple"),
        ("apples", None),
        ("red apple", None),
        ("the three red apples", None),
        ("3 apples", None),
        ("a blue cup", None),
        ("three red apples and one blue cup", None),
        ("four apples and blue cups", None),
        ("no apples", None),
        ("apples without colour", None),
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
    checklist = asked("one apple to the left of one cup")
    assert clean("apple to the left of cup", checklist) is None
    assert clean("apples left of cups", checklist) is None
    assert clean("cup to the left of apple", checklist) is not None


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
    verdict = judged(checklist, count="four apples", attribute="green apples")
    caption = Caption("", ("four red apples", "one blue cup", "one pink banana"))
    found = targeted(checklist, verdict, caption)
    assert [c.negative_prompt for c in found] == ["four apples", "green apples"]
    assert {c.source for c in found} == {"targeted"}
    assert found[0].reason == "fails: exactly three apples"


def test_a_long_or_partly_required_observation_is_taken_apart() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, attribute="red apples and green apples and blue apples")
    found = targeted(checklist, verdict, Caption(""))
    assert [c.negative_prompt for c in found] == ["green apples", "blue apples"]


def test_unasked_content_gives_untargeted_candidates() -> None:
    caption = Caption("", ("four red apples", "one banana", "a plain white background"))
    found = untargeted(asked(PROMPT), caption)
    assert [c.negative_prompt for c in found] == ["one banana", "a plain white background"]
    assert {c.source for c in found} == {"untargeted"}


def test_combinations_join_a_fault_with_unasked_content() -> None:
    checklist = asked(PROMPT)
    faults = targeted(checklist, judged(checklist, count="two apples"), Caption(""))
    others = untargeted(checklist, Caption("", ("one banana",)))
    (both,) = combined(faults, others)
    assert (both.negative_prompt, both.source) == ("two apples and one banana", "combined")
    assert combined(others, others) == ()


def test_the_whole_caption_is_a_candidate_of_any_length_without_its_negations() -> None:
    text = "Four red apples and one blue cup on a plain white background. There is no banana."
    (whole,) = whole_caption(asked(PROMPT), Caption(text))
    assert whole.negative_prompt == ("four red apples and one blue cup on a plain white background")
    assert whole.source == "combined"
    assert whole_caption(asked(PROMPT), Caption("Three red apples and one blue cup.")) == ()
    assert whole_caption(asked(PROMPT), Caption("")) == ()


def test_sentences_that_state_only_what_is_asked_are_left_out_of_the_caption() -> None:
    text = "The picture shows one blue cup. There are four red apples. A red apple is small."
    (whole,) = whole_caption(asked(PROMPT), Caption(text))
    assert whole.negative_prompt == "four red apples"


def test_two_candidates_that_name_nearly_the_same_are_one() -> None:
    caption = Caption("", ("white bed", "a white bed", "white beds", "large white bed", "lamp"))
    found = untargeted(Checklist("four teddy bears", ()), caption)
    assert [c.negative_prompt for c in found] == ["white bed", "lamp"]


def test_a_combination_has_six_words_at_most_and_no_articles() -> None:
    checklist = asked(PROMPT)
    faults = targeted(checklist, judged(checklist, count="four apples"), Caption(""))
    short = untargeted(checklist, Caption("", ("a plain white background",)))
    (both,) = combined(faults, short)
    assert both.negative_prompt == "four apples and plain white background"
    long = untargeted(checklist, Caption("", ("a plain dark white background",)))
    assert combined(faults, long) == ()


def test_a_verifiers_sentence_is_made_a_thing() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, count="The image shows four apples.")
    assert [c.negative_prompt for c in targeted(checklist, verdict, Caption(""))] == ["four apples"]


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("no apples", "absent"),
        ("the image shows a banana", "statement"),
        ("background", "nothing in particular"),
        ("one two three four five six seven", "7 words"),
        ("crimson apples", "the prompt asks for 'crimson apples'"),
        ("green apples", ""),
    ],
)
def test_a_refusal_says_why(phrase: str, reason: str) -> None:
    found = refusal(phrase, asked(PROMPT))
    assert reason in found
    assert bool(found) is bool(reason)


def test_the_rules_propose_some_of_each_with_the_caption_first() -> None:
    checklist = asked(PROMPT)
    verdict = judged(checklist, count="four apples", attribute="green apples")
    caption = Caption("four apples on a plain background", ("four apples", "a plain background"))
    found = RuleProposer().propose(checklist, verdict, caption, 10)
    assert [c.source for c in found[:4]] == ["combined", "targeted", "combined", "untargeted"]
    texts = [c.negative_prompt for c in found]
    assert texts[:3] == [caption.text, "four apples", "four apples and plain background"]
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
    assert RuleProposer(("red apples",)).propose(checklist, failed, Caption(""), 9) == ()


@pytest.mark.parametrize(
    ("negative", "source"),
    [
        ("four apples", "targeted"),
        ("a blue apple", "targeted"),
        ("wooden table", "untargeted"),
        ("wooden table and one banana", "untargeted"),
        ("four apples and one banana", "combined"),
    ],
)
def test_a_negatives_source_shows_in_its_words(negative: str, source: str) -> None:
    claims = (
        Requirement("r1", "object", "an apple", "apple", "apple"),
        Requirement("r2", "count", "no banana", "banana", "0"),
    )
    assert source_of(negative, Checklist("apples and no banana", claims)) == source
