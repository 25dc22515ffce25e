"""Negative prompts from what went wrong, by rule: pure text, no model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from npcorrect.english import ARTICLES, NEGATIONS, forms, in_words
from npcorrect.records import Candidate, Caption, Check, Checklist, Requirement, Source, Verdict

MAX_WORDS = 6
"""Longest targeted or untargeted phrase; see :func:`whole_caption` for the one exception."""
FALLBACK = ("wrong number of objects", "mismatched colors", "extra unrelated objects", "clutter")
"""Tried only where neither the verdict nor the caption gives anything to name."""


def clean(phrase: str, checklist: Checklist) -> str | None:
    """The phrase as a negative prompt, or None where it must not be one.

    A negative is 1 to :data:`MAX_WORDS` words in lower case, numerals up to ten spelled out. It
    says what is there, so it has no negation. It never has a part (parts are joined by "and")
    that states nothing but what the prompt requires of one subject, in any inflection. Words that
    the prompt requires of *different* subjects may meet in it: "blue circles" is a fault where
    red circles and blue squares were asked for. Cleaning twice changes nothing.
    """
    words = [in_words(word) for word in _words(phrase)]
    if not 1 <= len(words) <= MAX_WORDS or _negates(phrase):
        return None
    text = " ".join(words)
    if any(_is_required(part.split(), checklist) for part in _parts(text)):
        return None
    return text


def targeted(checklist: Checklist, verdict: Verdict, caption: Caption) -> tuple[Candidate, ...]:
    """Negatives that name the faults: what failed checks saw, and the caption's word for it."""
    failed = [check for check in verdict.checks if check.passed is False]
    found = [
        Candidate(text, "targeted", f"fails: {check.requirement.text}")
        for check in failed
        for text in _faults(check, checklist)
    ]
    for phrase in caption.phrases:
        text = clean(phrase, checklist)
        if text and (check := _about(text, failed)):
            reason = f"drawn where this fails: {check.requirement.text}"
            found.append(Candidate(text, "targeted", reason))
    return _unique(found)


def untargeted(checklist: Checklist, caption: Caption) -> tuple[Candidate, ...]:
    """Negatives that name things in the picture which the prompt says nothing of."""
    asked = _forms(word for claim in _bound(checklist) for word in _words(claim.subject))
    texts = (clean(phrase, checklist) for phrase in caption.phrases)
    return _unique(
        Candidate(text, "untargeted", "in the picture, but never asked for")
        for text in texts
        if text and not asked & _forms(text.split())
    )


def source_of(negative: str, checklist: Checklist) -> Source:
    """What a negative is by its words alone: targeted where it names what the prompt asks for.

    Untargeted where it does not, combined where its parts (joined by "and") are of both kinds.
    """
    asked = _forms(word for claim in _bound(checklist) for word in _words(claim.subject))
    kinds = {bool(asked & _forms(_words(part))) for part in _parts(negative)}
    if len(kinds) > 1:
        return "combined"
    return "targeted" if kinds.pop() else "untargeted"


def combined(faults: Sequence[Candidate], others: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Every fault joined with every unasked thing that it does not name already."""
    return tuple(
        Candidate(
            f"{fault.negative_prompt} and {other.negative_prompt}",
            "combined",
            f"{fault.reason}; {other.reason}",
        )
        for fault in faults
        for other in others
        if other.negative_prompt not in _parts(fault.negative_prompt)
    )


def whole_caption(checklist: Checklist, caption: Caption) -> tuple[Candidate, ...]:
    """The caption itself as one negative: the fault and all that surrounds it.

    It is exempt from :data:`MAX_WORDS` and may contain what the prompt requires, because in our
    experiments the full description of the wrong picture was the best negative. Sentences with a
    negation are left out, and a caption that says only what is required gives no candidate.
    """
    sentences = re.split(r"(?<=[.;!?])\s+", " ".join(caption.text.lower().split()))
    text = " ".join(s for s in sentences if not _negates(s)).rstrip(".;")
    if not _words(text) or all(
        _is_required(_words(part), checklist) for part in re.split(r", (?:and )?| and | on ", text)
    ):
        return ()
    return (Candidate(text, "combined", "everything that the rejected picture shows"),)


def arrange(
    checklist: Checklist,
    caption: Caption,
    faults: Sequence[Candidate],
    others: Sequence[Candidate],
) -> tuple[Candidate, ...]:
    """The whole caption, then targeted, combined and untargeted candidates in turn.

    So a short limit keeps some of each. Texts that are among the faults are not repeated.
    """
    named = {fault.negative_prompt for fault in faults}
    new = [other for other in others if other.negative_prompt not in named]
    seen = _in_turn(faults, combined(faults, new), new)
    return _unique((*whole_caption(checklist, caption), *seen))


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
    whole = clean(check.observed, checklist)
    if whole:
        return [whole]
    pieces = (clean(part, checklist) for part in _parts(check.observed))
    return [piece for piece in pieces if piece]


def _about(text: str, failed: Iterable[Check]) -> Check | None:
    """The first failed check that has a noun in common with the text."""
    mine = _forms(text.split())
    for check in failed:
        claim = check.requirement
        if mine & _forms((*_words(claim.subject), *_words(claim.object))):
            return check
    return None


def _is_required(words: Sequence[str], checklist: Checklist) -> bool:
    """Whether words state nothing but what is required of one subject, or one required relation."""
    words = [word for word in words if word not in ARTICLES]
    if not words:
        return True
    known = _known(checklist)
    if any(_within(words, mine) for mine in known.values()):
        return True
    for claim in _bound(checklist):
        if claim.kind == "relation":
            left, found, right = f" {' '.join(words)} ".partition(f" {_relation(claim)} ")
            sides = ((left, claim.subject), (right, claim.object))
            if found and all(_within(side.split(), known.get(of, set())) for side, of in sides):
                return True
    return False


def _relation(claim: Requirement) -> str:
    return " ".join(word for word in _words(claim.value) if word not in ARTICLES)


def _within(words: Iterable[str], known: set[str]) -> bool:
    return all(forms(word) & known for word in words)


def _known(checklist: Checklist) -> dict[str, set[str]]:
    """For each subject the forms of all words that the prompt says of it."""
    known: dict[str, set[str]] = {}
    for claim in _bound(checklist):
        mine = known.setdefault(claim.subject, set())
        mine |= _forms(_words(claim.subject))
        if claim.kind == "count":
            mine.add(in_words(claim.value))
        elif claim.kind != "relation":
            mine |= _forms(_words(claim.value))
    return known


def _bound(checklist: Checklist) -> list[Requirement]:
    """The claims that say something of a subject that must be there."""
    absent = {c.subject for c in checklist.requirements if c.kind == "count" and c.value == "0"}
    return [c for c in checklist.requirements if c.subject and c.subject not in absent]


def _forms(words: Iterable[str]) -> set[str]:
    return {form for word in words for form in forms(word)}


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", text.lower())


def _negates(text: str) -> bool:
    words = re.split(r"[\W_]+", text.lower())
    return not NEGATIONS.isdisjoint(words) or "n't" in text.lower().replace("\u2019", "'")


def _parts(text: str) -> list[str]:
    return re.split(r"\s+and\s+", text)


def _in_turn(*rows: Sequence[Candidate]) -> Iterator[Candidate]:
    for column in zip_longest(*rows):
        yield from (candidate for candidate in column if candidate is not None)


def _unique(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The candidates without those whose text came before."""
    unique: dict[str, Candidate] = {}
    for candidate in candidates:
        unique.setdefault(candidate.negative_prompt, candidate)
    return tuple(unique.values())
