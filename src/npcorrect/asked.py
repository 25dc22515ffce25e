"""What a prompt asks for: things, what is said of each, and what must not be there.

It is read from the requirements and from the prompt itself, since a checklist may leave words out
that a negative must not name either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from npcorrect import lexicon
from npcorrect.english import word_set
from npcorrect.phrases import (
    Mention,
    Number,
    is_descriptive,
    mentions,
    side,
    without_absences,
    words,
)
from npcorrect.records import Checklist, Requirement

ABSENT = "0"
"""The value of a count claim about a thing that must not be there."""
_NONE = word_set("0 zero no none")
PICTURES = word_set(
    "photo photograph picture image painting drawing illustration render rendering sketch shot "
    "view scene close-up depiction style texture"
)
VAGUE = PICTURES | {"background", "foreground", "object", "thing", "item", "element", "stuff"}
"""Nouns that name nothing in particular."""
POSTURES = {
    word: family
    for family in (
        *("sitting seated perched", "standing", "lying reclining sleeping asleep", "awake"),
        *("jumping leaping", "running sprinting", "walking strolling", "flying", "swimming"),
        *("kneeling", "crouching", "dancing", "parked", "driving"),
    )
    for word in family.split()
}
"""What one can do only one of: words with the family of those that mean the same."""
_MAKING = word_set("made built woven carved crafted constructed composed formed sculpted knitted")


@dataclass(frozen=True)
class Thing:
    """A thing that is asked for, and all that is said of it.

    ``counts`` are numbers of it that a right picture may have; none where any may.
    """

    noun: str
    words: frozenset[str] = frozenset()
    counts: frozenset[int] = frozenset()
    places: frozenset[str] = frozenset()
    materials: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Asked:
    """All that a prompt asks for.

    ``relations`` are a thing, the side of the other thing where it stands, and that thing;
    ``surroundings`` are words of style and scene.
    """

    things: tuple[Thing, ...]
    relations: frozenset[tuple[str, str, str]] = frozenset()
    surroundings: frozenset[str] = frozenset()

    def named(self, mention: Mention) -> list[Thing]:
        """The things of the prompt that a mention can mean; empty where it means none."""
        known = [thing for thing in self.things if can_mean(mention, thing.noun)]
        return [thing for thing in known if thing.noun == mention.noun] or known


@lru_cache(maxsize=256)
def asked(checklist: Checklist) -> Asked:
    """What a prompt asks for, by its requirements and by its words."""
    return _Reading(checklist).asked()


def with_absences(checklist: Checklist) -> Checklist:
    """The checklist with a claim for each thing that its prompt says must not be there.

    Claims of the contrary, that such a thing is there or how it is, are left out.
    """
    phrases = denied_by(checklist.prompt)
    if not phrases:
        return checklist
    denied = {lexicon.singular(phrase): phrase for phrase in phrases}
    claims = checklist.requirements
    known = {lexicon.singular(c.subject) for c in claims if _is_absence(c)}
    kept = [c for c in claims if _is_absence(c) or lexicon.singular(c.subject) not in denied]
    ids = {claim.id for claim in kept}
    linked = (
        replace(claim, depends_on=tuple(d for d in claim.depends_on if d in ids)) for claim in kept
    )
    new = (
        Requirement(f"absent{number}", "count", _none_of(noun, phrase), noun, ABSENT)
        for number, (noun, phrase) in enumerate(denied.items(), 1)
        if noun not in known
    )
    return replace(checklist, requirements=(*linked, *new))


def denied_by(prompt: str) -> tuple[str, ...]:
    """What a prompt says must not be there, in its own words: "no X", "without X", "X-free"."""
    phrases = without_absences(prompt)[0]
    return tuple(phrase for phrase in phrases if not VAGUE.issuperset(phrase.split()))


def _none_of(noun: str, phrase: str) -> str:
    return f"there {'is' if noun == phrase else 'are'} no {phrase}"


def unwanted(checklist: Checklist) -> tuple[str, ...]:
    """What must not be there, as negatives that act from the first picture on."""
    phrases = denied_by(checklist.prompt)
    nouns = {lexicon.singular(phrase) for phrase in phrases}
    claimed = (c.subject for c in checklist.requirements if _is_absence(c))
    return (*phrases, *(noun for noun in claimed if noun not in nouns))


def _is_absence(claim: Requirement) -> bool:
    return claim.kind == "count" and claim.value.strip().lower() in _NONE


class _Reading:
    """Collects what a checklist says of each thing."""

    def __init__(self, checklist: Checklist) -> None:
        self._words: dict[str, set[str]] = defaultdict(set)
        self._counts: dict[str, list[Number | None]] = defaultdict(list)
        self._places: dict[str, set[str]] = defaultdict(set)
        self._materials: dict[str, set[str]] = defaultdict(set)
        self._relations: set[tuple[str, str, str]] = set()
        self._surroundings: set[str] = set()
        denied, rest = without_absences(checklist.prompt)
        claims = checklist.requirements
        gone = (*denied, *(claim.subject for claim in claims if _is_absence(claim)))
        self._absent = {lexicon.singular(noun) for noun in gone}
        for claim in claims:
            if claim.subject and lexicon.singular(claim.subject) not in self._absent:
                self._claim(claim)
        self._text(rest, counted=True)

    def asked(self) -> Asked:
        """What was collected; who is said to do nothing may do what any of them does."""
        postures = POSTURES.keys() & {word for said in self._words.values() for word in said}
        for said in self._words.values():
            said |= postures if said.isdisjoint(postures) else set()
        things = (
            Thing(
                noun,
                frozenset(said),
                _possible(self._counts[noun]),
                frozenset(self._places[noun]),
                frozenset(self._materials[noun] | materials(said - {*noun.split()[-1:]})),
            )
            for noun, said in self._words.items()
        )
        return Asked(tuple(things), frozenset(self._relations), frozenset(self._surroundings))

    def _claim(self, claim: Requirement) -> None:
        subject, value = lexicon.singular(claim.subject), words(claim.value)
        if claim.kind in ("style", "scene"):
            self._scene(claim.kind, subject, set(value) - VAGUE)
            self._text(claim.value)
            return
        self._words[subject] |= set(subject.split())
        if claim.kind == "count":
            self._counts[subject] += [_numeral(claim.value)]
        elif claim.kind == "relation":
            self._relation(subject, value, lexicon.singular(claim.object))
        elif claim.kind != "text":
            self._words[subject] |= set(value)
            if len(value) > 1:
                self._text(claim.value, subject)

    def _scene(self, kind: str, subject: str, said: set[str]) -> None:
        """Words of the whole picture; those of a scene only where they name things."""
        things = {word for word in said if not is_descriptive(word)}
        self._surroundings |= said if kind == "style" else things
        if subject == "background" or subject not in VAGUE:
            self._words[subject] |= said

    def _relation(self, subject: str, value: Sequence[str], other: str) -> None:
        if not other:
            self._places[subject] |= {side(value)} - {""}
            return
        self._words[other] |= set(other.split())
        self._relations.add((subject, side(value), other))
        if not side(value):
            self._surroundings |= set(other.split())

    def _text(self, text: str, before: str = "", counted: bool = False) -> None:
        """Take in the things that a text names, the first of which relates to ``before``."""
        known = tuple(self._words)
        numbers: dict[str, list[Number | None]] = defaultdict(list)
        of_style = False
        for mention in mentions(text):
            if is_picture(mention) or of_style:
                self._surroundings |= set(mention.words) - PICTURES
                of_style = mention.noun == "style"
                continue
            noun = next((n for n in known if _ends_with(mention.words, n)), mention.noun)
            if mention.likeness or noun in self._absent:
                continue
            self._join(before, mention, noun)
            for name in (noun, *_in_apposition(mention)):
                self._words[name] |= {*mention.words}
                if not mention.definite:
                    numbers[name].append(mention.number or (None if mention.plural else 1))
            before = noun
        for name, counts in numbers.items() if counted else ():
            exact = [n for n in counts if isinstance(n, int)]
            self._counts[name] += exact
            if len(exact) == len(counts):
                self._counts[name].append(sum(exact))

    def _join(self, before: str, mention: Mention, noun: str) -> None:
        """Take in what a mention is to the thing named before it."""
        self._places[noun] |= {mention.place} - {""}
        if before and not _MAKING.isdisjoint((*mention.joint, *mention.modifiers)):
            self._materials[before] |= {noun} | materials(mention.words)
        elif before:
            self._relations.add((before, side(mention.joint), noun))
        if mention.joint and mention.joint[-1].endswith("ing"):
            self._surroundings |= set(noun.split())


def _in_apposition(mention: Mention) -> tuple[str, ...]:
    """What someone is besides: a robot chef is a robot too."""
    if not lexicon.is_kind_of(mention.noun, "person"):
        return ()
    return tuple(
        word
        for word in mention.modifiers
        if lexicon.is_noun(word) and not (lexicon.is_adjective(word) or word.endswith("ing"))
    )


def _possible(counts: Sequence[Number | None]) -> frozenset[int]:
    """The numbers that are asked for; none where one of them is open."""
    return frozenset(n for n in counts if isinstance(n, int))


def _numeral(value: str) -> Number | None:
    return next((m.number for m in mentions(f"{value} things")), None)


def _ends_with(said: Sequence[str], noun: str) -> bool:
    size = len(noun.split())
    return lexicon.singular(" ".join(said[-size:])) == noun


def can_mean(mention: Mention, noun: str) -> bool:
    """Whether a mention is of the thing, of a kind of it, or of what it is a kind of."""
    if _ends_with(mention.words, noun):
        return not _is_another(mention, noun)
    if noun.endswith(f" {mention.noun}"):
        return True
    if " " in mention.noun and noun.startswith(f"{mention.noun} "):
        return True
    return (
        lexicon.same(mention.noun, noun)
        or lexicon.is_kind_of(mention.noun, noun)
        or lexicon.is_kind_of(noun, mention.noun)
    )


def is_picture(mention: Mention) -> bool:
    """Whether it is the picture itself that is named: a photo, an oil painting."""
    return mention.noun.split()[-1] in PICTURES


def _is_another(mention: Mention, noun: str) -> bool:
    """Whether a longer noun is no kind of its last word, as a teddy bear is no bear."""
    if not mention.noun.endswith(f" {noun}") or not lexicon.is_phrase(mention.noun):
        return False
    if lexicon.are_alike(mention.noun, noun):
        return False
    return not lexicon.is_kind_of(mention.noun, noun)


def materials(said: Iterable[str]) -> set[str]:
    """The names of the materials among the words ``said``; words that name none are left out."""
    return {name for word in said if (name := lexicon.material(word))}
