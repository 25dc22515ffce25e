"""What was wrong is said as what was asked and what was seen."""

from __future__ import annotations

import pytest

from npcorrect.faults import abridged, fault, faults
from npcorrect.records import Check, Verdict
from tests.fakes import COUNT, EXISTS


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (Check(COUNT, False, "four circles"), "asked exactly three circles, saw four circles"),
        (Check(COUNT, False), "asked exactly three circles, not seen"),
        (Check(COUNT, None), "could not tell: exactly three circles"),
        (Check(COUNT, True, "three circles"), ""),
    ],
)
def test_a_check_says_what_was_asked_and_seen(check: Check, says: str) -> None:
    assert fault(check) == says


def test_a_claim_that_another_makes_moot_is_not_said_twice() -> None:
    verdict = Verdict((Check(EXISTS, False), Check(COUNT, False)))
    assert faults(verdict) == ("asked at least one circle is visible, not seen",)


@pytest.mark.parametrize(
    ("negatives", "says"), [((), ""), (("a",), "a"), (("a", "b", "c"), "a (+2 more)")]
)
def test_the_first_negative_stands_for_all(negatives: tuple[str, ...], says: str) -> None:
    assert abridged(negatives) == says
