"""What was wrong is said as what was asked and what was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from npcorrect.faults import abridged, fault, faults, said
from npcorrect.records import Attempt, Check, Requirement, Verdict
from tests.fakes import COUNT, EXISTS
from tests.test_files import GENERATION

NO_CAT = Requirement("r3", "count", "there is no cat", "cat", "0")


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (Check(COUNT, False, "four apples"), "asked exactly three apples, saw four apples"),
        (Check(COUNT, False), "asked exactly three apples, not seen"),
        (Check(COUNT, None), "could not tell: exactly three apples"),
        (Check(NO_CAT, False), "asked there is no cat, saw cat"),
        (Check(NO_CAT, False, "a black cat"), "asked there is no cat, saw a black cat"),
        (Check(COUNT, None, skipped=True), ""),
        (Check(COUNT, True, "three apples"), ""),
    ],
)
def test_a_check_says_what_was_asked_and_seen(check: Check, says: str) -> None:
    assert fault(check) == says


def test_a_claim_that_another_makes_moot_is_not_said_twice() -> None:
    verdict = Verdict((Check(EXISTS, False), Check(COUNT, False)))
    assert faults(verdict) == ("asked at least one apple is visible, not seen",)


def test_claims_that_were_not_asked_are_named_and_are_no_part_of_the_share() -> None:
    verdict = Verdict((Check(EXISTS, None, skipped=True), Check(COUNT, False, "four apples")))
    assert faults(verdict) == (
        "asked exactly three apples, saw four apples",
        "not asked: at least one apple is visible",
    )
    attempt = Attempt(index=1, generation=GENERATION, verdict=verdict)
    assert said(attempt) == "not accepted (0% of 1 asked)"
    whole = replace(attempt, verdict=Verdict((Check(EXISTS, True), Check(COUNT, False))))
    assert said(whole) == "not accepted (50%)"


@pytest.mark.parametrize(
    ("negatives", "says"), [((), ""), (("a",), "a"), (("a", "b", "c"), "a (+2 more)")]
)
def test_the_first_negative_stands_for_all(negatives: tuple[str, ...], says: str) -> None:
    assert abridged(negatives) == says
