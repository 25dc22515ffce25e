"""What was wrong with a picture, in words: what was asked, and what was seen instead."""

from __future__ import annotations

from collections.abc import Sequence

from npcorrect.asked import ABSENT
from npcorrect.records import Attempt, Check, Verdict

WORDS = {True: "accepted", False: "not accepted", None: "unscored"}
"""A verdict in a word, by its ``accepted``."""


def fault(check: Check) -> str:
    """``"asked exactly three apples, saw four apples"``; empty where the claim holds."""
    claim = check.requirement
    if check.passed is True or check.skipped:
        return ""
    if check.passed is None:
        return f"could not tell: {claim.text}"
    unwanted = claim.subject if (claim.kind, claim.value) == ("count", ABSENT) else ""
    return asked_and_seen(claim.text, check.observed or unwanted)


def asked_and_seen(claim: str, seen: str) -> str:
    """What was asked, and what was seen in its place, where that is known."""
    return f"asked {claim}, saw {seen}" if seen else f"asked {claim}, not seen"


def faults(verdict: Verdict) -> tuple[str, ...]:
    """What is wrong or could not be told, in the checklist's order, then what was not asked.

    A claim that fails only because one that it depends on does is left out: that one says it.
    """
    failed = {check.requirement.id for check in verdict.checks if check.passed is False}
    told = (
        fault(check)
        for check in verdict.checks
        if check.observed or failed.isdisjoint(check.requirement.depends_on)
    )
    skipped = "; ".join(claim.text for claim in verdict.skipped)
    return (*filter(None, told), *([f"not asked: {skipped}"] if skipped else []))


def said(attempt: Attempt) -> str:
    """The verdict in words: ``"accepted"``, ``"not accepted (67%)"`` or ``"unscored"``.

    The share is of the claims that were asked: ``"not accepted (0% of 2 asked)"``.
    """
    verdict = attempt.verdict
    asked = len(verdict.checks) - len(verdict.skipped)
    of_asked = f" of {asked} asked" if verdict.skipped else ""
    share = f" ({verdict.score:.0%}{of_asked})" if verdict.accepted is False else ""
    return WORDS[verdict.accepted] + share


def abridged(negatives: Sequence[str]) -> str:
    """The negative that acted first, and how many came after it."""
    more = f" (+{len(negatives) - 1} more)" if len(negatives) > 1 else ""
    return negatives[0] + more if negatives else ""
