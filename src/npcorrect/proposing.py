"""Negative prompts from what went wrong, by rule: pure text, no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from npcorrect.english import in_words
from npcorrect.meaning import (
    asks_for,
    bare,
    is_about,
    is_absence,
    is_near,
    nouns_asked,
    parts,
    says_nothing,
    states_only_what_is_asked,
)
from npcorrect.phrases import words
from npcorrect.records import Candidate, Caption, Check, Checklist, Source, Verdict

MAX_WORDS = 6
"""Longest targeted or untargeted phrase; see :func:`whole_caption` for the one exception."""
FALLBACK = ("wrong number of objects", "mismatched colors", "extra unrelated objects", "clutter")
"""Tried only where neither the verdict nor the caption gives anything to name."""


def clean(phrase: str, checklist: Checklist) -> str | None:
    """The phrase as a negative prompt, or None where it must not be one; see :func:`refusal`.

    It is in lower case, numerals up to ten spelled out. Cleaning twice changes nothing.
    """
    return None if refusal(phrase, checklist) else _tidied(phrase)


def refusal(phrase: str, checklist: Checklist) -> str:
    """Why a phrase must not be a negative prompt; empty where it may be one.

    A negative is 1 to :data:`MAX_WORDS` words that name what a picture shows: no absence, no
    statement. It never has a part (parts are joined by "and") that the prompt itself asks for;
    :mod:`npcorrect.meaning` says what that means.
    """
    count = len(words(phrase))
    if not 1 <= count <= MAX_WORDS:
        return f"it has {count} words; use 1 to {MAX_WORDS}"
    if empty := says_nothing(phrase) or says_nothing(_tidied(phrase)):
        return empty
    asked = asks_for(_tidied(phrase), checklist)
    return f"the prompt asks for {asked.strip()!r}" if asked else ""


def targeted(checklist: Checklist, verdict: Verdict, caption: Caption) -> tuple[Candidate, ...]:
    """Negatives that name the faults: what failed checks saw, and the caption's word for it."""
    failed = [check for check in verdict.checks if check.passed is False]
    faults = [
        Candidate(text, "targeted", f"fails: {check.requirement.text}")
        for check in failed
        for text in _faults(check, checklist)
    ]
    for phrase in caption.phrases:
        text = clean(phrase, checklist)
        if text and (check := _about(text, failed)):
            reason = f"drawn where this fails: {check.requirement.text}"
            faults.append(Candidate(text, "targeted", reason))
    return distinct(faults)


def untargeted(checklist: Checklist, caption: Caption) -> tuple[Candidate, ...]:
    """Negatives that name things in the picture which the prompt says nothing of."""
    asked = nouns_asked(checklist)
    texts = (clean(phrase, checklist) for phrase in caption.phrases)
    return distinct(
        Candidate(text, "untargeted", "in the picture, but never asked for")
        for text in texts
        if text and not is_about(text, asked)
    )


def source_of(negative: str, checklist: Checklist) -> Source:
    """What a negative is by its words alone: targeted where it names what the prompt asks for.

    Untargeted where it does not, combined where its parts (joined by "and") are of both kinds.
    """
    asked = nouns_asked(checklist)
    kinds = {is_about(part, asked) for part in parts(negative)}
    if len(kinds) > 1:
        return "combined"
    return "targeted" if kinds == {True} else "untargeted"


def combined(faults: Sequence[Candidate], others: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Every fault joined with every unasked thing, where both fit in :data:`MAX_WORDS`."""
    pairs = ((fault, other, _joined(fault, other)) for fault in faults for other in others)
    return tuple(
        Candidate(text, "combined", f"{fault.reason}; {other.reason}")
        for fault, other, text in pairs
        if len(words(text)) <= MAX_WORDS
        and other.negative_prompt not in parts(fault.negative_prompt)
    )


def whole_caption(checklist: Checklist, caption: Caption) -> tuple[Candidate, ...]:
    """The caption itself as one negative: the fault and all that surrounds it.

    It is exempt from :data:`MAX_WORDS` and may contain what the prompt requires, because in our
    experiments the full description of the wrong picture was the best negative. Sentences that
    state only what is asked, or that something is absent, are left out.
    """
    sentences = re.split(r"(?<=[.;!?])\s+", " ".join(caption.text.lower().split()))
    things = map(bare, sentences)
    kept = (s for s in things if words(s) and not _adds_nothing(s, checklist))
    text = " ".join(kept).rstrip(".;")
    return (Candidate(text, "combined", "everything that the rejected picture shows"),) * bool(text)


def arrange(
    checklist: Checklist,
    caption: Caption,
    faults: Sequence[Candidate],
    others: Sequence[Candidate],
) -> tuple[Candidate, ...]:
    """The whole caption, then targeted, combined and untargeted candidates in turn.

    So a short limit keeps some of each. Texts that are among the faults are not repeated.
    """
    named = [fault.negative_prompt for fault in faults]
    new = [o for o in others if not any(is_near(o.negative_prompt, text) for text in named)]
    seen = _in_turn(faults, combined(faults, new), new)
    return _unique((*whole_caption(checklist, caption), *seen))


def distinct(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The candidates without those that name nearly the same as one before."""
    kept: list[Candidate] = []
    for candidate in candidates:
        if not any(is_near(candidate.negative_prompt, one.negative_prompt) for one in kept):
            kept.append(candidate)
    return tuple(kept)


@dataclass(frozen=True)
class RuleProposer:
    """Proposes by the rules above, in the order of :func:`arrange`.

    ``fallback`` is used only where nothing was seen: a ranking compares all candidates, and a
    made-up fault must never outrank one that was seen.
    """

    fallback: tuple[str, ...] = FALLBACK

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """At most ``limit`` different candidates, best guess first."""
        faults, others = targeted(checklist, verdict, caption), untargeted(checklist, caption)
        seen = arrange(checklist, caption, faults, others)
        return (seen or _unique(self._last_resort(checklist)))[: max(limit, 0)]

    def _last_resort(self, checklist: Checklist) -> tuple[Candidate, ...]:
        texts = (clean(phrase, checklist) for phrase in self.fallback)
        return tuple(Candidate(t, "fallback", "nothing seen could be named") for t in texts if t)


def _faults(check: Check, checklist: Checklist) -> list[str]:
    """What a failed check saw: as one phrase, or piece by piece where the whole will not do."""
    observed = bare(check.observed)
    whole = clean(observed, checklist)
    if whole:
        return [whole]
    pieces = (clean(part, checklist) for part in parts(observed))
    return [piece for piece in pieces if piece]


def _about(text: str, failed: Iterable[Check]) -> Check | None:
    """The first failed check that is about a thing that the text names."""
    claims = ((check, check.requirement) for check in failed)
    return next((c for c, claim in claims if is_about(text, (claim.subject, claim.object))), None)


def _adds_nothing(sentence: str, checklist: Checklist) -> bool:
    return is_absence(sentence) or states_only_what_is_asked(sentence, checklist)


def _joined(fault: Candidate, other: Candidate) -> str:
    """Both, without the articles that a list of things needs not."""
    texts = (fault.negative_prompt, other.negative_prompt)
    return " and ".join(re.sub(r"^(?:an?|the) ", "", text) for text in texts)


def _tidied(phrase: str) -> str:
    return " ".join(in_words(word) for word in words(phrase))


def _in_turn(*rows: Sequence[Candidate]) -> Iterator[Candidate]:
    for column in zip_longest(*rows):
        yield from (candidate for candidate in column if candidate is not None)


def _unique(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The candidates without those whose text came before."""
    unique: dict[str, Candidate] = {}
    for candidate in candidates:
        unique.setdefault(candidate.negative_prompt, candidate)
    return tuple(unique.values())
