"""Whether a negative prompt names what the prompt asks for.

What is asked for is read from the requirements and from the prompt itself, as things
(:class:`Thing`) with what is said of each. A phrase asks for the same where its thing is one of
them, by any word for it or for its kind, and nothing that it says is *incompatible*: another
number, another colour, another material, the opposite of a property, another place. So for "three
red knives" the phrases "knife", "sharp knives" and "three crimson blades" must not be negatives,
and "three silver knives", "four knives" may be.

Pure functions of texts; see :mod:`npcorrect.lexicon` for where the meanings come from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from npcorrect import lexicon
from npcorrect.english import ARTICLES, word_set
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
_PICTURES = word_set(
    "photo photograph picture image painting drawing illustration render rendering sketch shot "
    "view scene close-up depiction style texture"
)
_VAGUE = _PICTURES | {"background", "foreground", "object", "thing", "item", "element", "stuff"}
_ABSENCES = word_set(
    "no not without never none zero nothing nobody nowhere neither nor cannot lack lacks lacking "
    "missing absent absence devoid nil unclear unknown unseen invisible hidden hardly fewer less "
    "except unidentifiable indeterminate unspecified instead"
)
_PREAMBLE = re.compile(
    r"^(?:(?:in )?(?:the|this) (?:photo|photograph|picture|image|scene),? )?"
    r"(?:shows|depicts|contains|features|has|there (?:is|are)|i (?:can )?see|it (?:is|shows)) ",
    re.IGNORECASE,
)
_PATTERNS = word_set("plain striped checkered checked spotted dotted plaid floral zigzag")
_MAKING = word_set("made built woven carved crafted constructed composed formed sculpted knitted")
_POSTURES = word_set(
    "sitting seated standing lying sleeping jumping running walking flying swimming kneeling "
    "crouching"
)


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
        """The things that a mention can mean."""
        return [thing for thing in self.things if _can_mean(mention, thing.noun)]


@lru_cache(maxsize=256)
def asked(checklist: Checklist) -> Asked:
    """What a prompt asks for, by its requirements and by its words."""
    return _Reading(checklist).asked()


def is_absence(text: str) -> bool:
    """Whether a text says that something is not there, or cannot be told."""
    lower = text.lower().replace("\u2019", "'")
    split = re.split(r"[\W_]+", lower)
    return not _ABSENCES.isdisjoint(split) or "n't" in lower or "n/a" in lower or split == ["na"]


def says_nothing(phrase: str) -> str:
    """Why a phrase names nothing that can be seen; empty where it names something."""
    if is_absence(phrase):
        return "it says that something is absent or unclear; name only what is there"
    if bare(phrase) != phrase.strip():
        return "it is a statement; name the thing alone"
    if all(word in ARTICLES or lexicon.singular(word) in _VAGUE for word in words(phrase)):
        return "it names nothing in particular"
    return ""


def bare(sentence: str) -> str:
    """A sentence without the words that only say that a picture shows the rest."""
    return _PREAMBLE.sub("", sentence.strip()).strip()


def asks_for(phrase: str, checklist: Checklist) -> str:
    """What a phrase names although the prompt asks for it; empty where there is nothing such.

    The phrase may have several parts, joined by "and", of which none may.
    """
    wanted = asked(checklist)
    return next((part for part in parts(phrase) if _part_is_asked(part, wanted)), "")


def states_only_what_is_asked(sentence: str, checklist: Checklist) -> bool:
    """Whether everything that a sentence names is asked for, with nothing incompatible."""
    wanted = asked(checklist)
    return all(
        wanted.named(mention) and not _is_incompatible(mention, wanted)
        for mention in mentions(sentence)
        if not _is_picture(mention)
    )


def is_about(phrase: str, nouns: Iterable[str]) -> bool:
    """Whether a phrase names a thing that one of these nouns can mean."""
    known = [lexicon.singular(noun) for noun in nouns if noun]
    return any(_can_mean(mention, noun) for mention in mentions(phrase) for noun in known)


def nouns_asked(checklist: Checklist) -> tuple[str, ...]:
    """The things that the prompt asks for, in the singular."""
    return tuple(thing.noun for thing in asked(checklist).things)


def is_near(phrase: str, other: str) -> bool:
    """Whether two phrases name the same, or one the same and more: "white bed", "a large bed"."""
    if phrase == other:
        return True
    pairs = (mentions(phrase), mentions(other))
    if len(pairs[0]) != 1 or len(pairs[1]) != 1:
        return False
    (one,), (two,) = pairs
    if not lexicon.same(one.noun, two.noun) or _several(one) != _several(two):
        return False
    return _says_all(one.modifiers, two.modifiers) or _says_all(two.modifiers, one.modifiers)


def parts(phrase: str) -> list[str]:
    """The parts of a phrase that "and" or a comma joins."""
    return [part for part in re.split(r"\band\b|[,;&]", phrase) if part.strip()]


class _Reading:
    """Collects what a checklist says of each thing."""

    def __init__(self, checklist: Checklist) -> None:
        self._words: dict[str, set[str]] = defaultdict(set)
        self._counts: dict[str, list[Number | None]] = defaultdict(list)
        self._places: dict[str, set[str]] = defaultdict(set)
        self._materials: dict[str, set[str]] = defaultdict(set)
        self._relations: set[tuple[str, str, str]] = set()
        self._surroundings: set[str] = set()
        unwanted, rest = without_absences(checklist.prompt)
        claims = checklist.requirements
        self._absent = {c.subject for c in claims if _is_absence(c)}
        self._absent |= {lexicon.singular(noun) for noun in unwanted}
        for claim in claims:
            if claim.subject and claim.subject not in self._absent:
                self._claim(claim)
        self._text(rest, counted=True)

    def asked(self) -> Asked:
        """What was collected; who is said to do nothing may do what any of them does."""
        postures = _POSTURES & {word for said in self._words.values() for word in said}
        for said in self._words.values():
            said |= postures if said.isdisjoint(postures) else set()
        things = (
            Thing(
                noun,
                frozenset(said),
                _possible(self._counts[noun]),
                frozenset(self._places[noun]),
                frozenset(self._materials[noun] | _materials(said - {*noun.split()[-1:]})),
            )
            for noun, said in self._words.items()
        )
        return Asked(tuple(things), frozenset(self._relations), frozenset(self._surroundings))

    def _claim(self, claim: Requirement) -> None:
        if claim.kind in ("style", "scene"):
            said = set(words(claim.value)) - _VAGUE
            self._surroundings |= said if claim.kind == "style" else _nouns(said)
            if claim.subject not in _VAGUE - {"background"}:
                self._words[claim.subject] |= set(words(claim.value))
            self._text(claim.value)
            return
        subject = lexicon.singular(claim.subject)
        said = self._words[subject]
        said |= set(subject.split())
        if claim.kind == "count":
            self._counts[subject] += [_numeral(claim.value)]
        elif claim.kind == "relation" and not claim.object:
            self._places[subject] |= {side(words(claim.value))}
        elif claim.kind == "relation":
            if not side(words(claim.value)):
                self._surroundings |= set(words(claim.object))
            other = lexicon.singular(claim.object)
            self._words[other] |= set(other.split())
            self._relations.add((subject, side(words(claim.value)), other))
        elif claim.kind != "text":
            said |= set(words(claim.value))
            if len(words(claim.value)) > 1:
                self._text(claim.value, subject)

    def _text(self, text: str, before: str = "", counted: bool = False) -> None:
        """Take in the things that a text names, the first of which relates to ``before``."""
        known = tuple(self._words)
        numbers: dict[str, list[Number | None]] = defaultdict(list)
        for mention in mentions(text):
            if _is_picture(mention):
                self._surroundings |= set(mention.said)
                continue
            noun = next((n for n in known if _ends_with(mention.words, n)), mention.noun)
            if mention.likeness or noun in self._absent:
                continue
            self._places[noun] |= {mention.place} - {""}
            if before and not _MAKING.isdisjoint((*mention.joint, *mention.modifiers)):
                self._materials[before] |= {noun}
            elif before:
                self._relations.add((before, side(mention.joint), noun))
            if mention.joint and mention.joint[-1].endswith("ing"):
                self._surroundings |= set(noun.split())
            for each in (noun, *_in_apposition(mention)):
                self._words[each] |= {*mention.words}
                if not mention.definite:
                    numbers[each].append(mention.number or (None if mention.plural else 1))
            before = noun
        for noun, each in numbers.items() if counted else ():
            exact = [n for n in each if isinstance(n, int)]
            self._counts[noun] += [*exact, *([sum(exact)] if len(exact) == len(each) else [])]


def _nouns(said: Iterable[str]) -> set[str]:
    return {word for word in said if not is_descriptive(word)}


def _in_apposition(mention: Mention) -> tuple[str, ...]:
    """What someone is besides: a robot chef is a robot too."""
    if not lexicon.is_kind_of(mention.noun, "person"):
        return ()
    return tuple(w for w in mention.modifiers if lexicon.is_noun(w) and not is_descriptive(w))


def _possible(counts: Sequence[Number | None]) -> frozenset[int]:
    """The numbers that are asked for; none where one of them is open."""
    return frozenset(n for n in counts if isinstance(n, int))


def _numeral(value: str) -> Number | None:
    return next((m.number for m in mentions(f"{value} things")), None)


def _ends_with(said: Sequence[str], noun: str) -> bool:
    size = len(noun.split())
    return lexicon.singular(" ".join(said[-size:])) == noun


def _can_mean(mention: Mention, noun: str) -> bool:
    """Whether a mention is of the thing, of a kind of it, or of what it is a kind of."""
    if _ends_with(mention.words, noun) and not _is_another(mention, noun):
        return True
    if noun.endswith(f" {mention.noun}"):
        return True
    if " " in mention.noun and noun.startswith(f"{mention.noun} "):
        return True
    return (
        lexicon.same(mention.noun, noun)
        or lexicon.is_kind_of(mention.noun, noun)
        or lexicon.is_kind_of(noun, mention.noun)
    )


def _is_picture(mention: Mention) -> bool:
    """Whether it is the picture itself that is named: a photo, an oil painting."""
    return mention.noun.split()[-1] in _PICTURES


def _is_another(mention: Mention, noun: str) -> bool:
    """Whether a longer noun is no kind of its last word, as a teddy bear is no bear."""
    return mention.noun != noun and not lexicon.are_alike(mention.noun, noun)


def _part_is_asked(part: str, wanted: Asked) -> bool:
    named = [mention for mention in mentions(part) if not _is_picture(mention)]
    said = [word for word in words(part) if word not in ARTICLES]
    if named and wanted.named(named[0]):
        first, *others = named
        return not (_is_incompatible(first, wanted) or _stands_elsewhere(first, others, wanted))
    if any(word in wanted.surroundings and lexicon.color(word) is None for word in said):
        return True
    if any(_names(mention, wanted) for mention in named):
        return True
    return not named and any(thing.words.issuperset(said) for thing in wanted.things)


def _names(mention: Mention, wanted: Asked) -> bool:
    """Whether a mention names an asked thing, itself or by a noun before its own."""
    if wanted.named(mention):
        return not _is_incompatible(mention, wanted)
    before = {lexicon.singular(w) for w in mention.words[:-1] if lexicon.material(w) is None}
    return any(thing.noun in before for thing in wanted.things)


def _is_incompatible(mention: Mention, wanted: Asked) -> bool:
    """Whether a mention says what is wrong of every thing that it can mean."""
    things = wanted.named(mention)
    total = [n for thing in things for n in thing.counts]
    if mention.number == sum(total) and len(things) > 1:
        return False
    return all(_contradicts(mention, thing) for thing in things)


def _contradicts(mention: Mention, thing: Thing) -> bool:
    if _miscounts(mention, thing.counts):
        return True
    said, wanted = mention.said, thing.words.difference(thing.noun.split()[-1:])
    groups = (lexicon.color, _member(_PATTERNS), _member(_POSTURES))
    if any(_differs(group, said, wanted) for group in groups):
        return True
    made = _materials(said)
    if made and thing.materials and made.isdisjoint(thing.materials):
        return True
    if mention.place and thing.places and mention.place not in thing.places:
        return True
    return any(lexicon.opposite(word, other) for word in said for other in wanted)


def _miscounts(mention: Mention, counts: frozenset[int]) -> bool:
    number = mention.number
    if number == "more":
        return bool(counts)
    if number == "many":
        return bool(counts) and max(counts) < 3
    if number is None:
        return False
    return number not in counts if counts else number == 1


def _materials(said: Iterable[str]) -> set[str]:
    return {name for word in said if (name := lexicon.material(word))}


def _member(group: frozenset[str]) -> Callable[[str], str | None]:
    return lambda word: word if word in group else None


def _differs(group: Callable[[str], object], said: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether both have words of a group, such as colours, and no meaning in common."""
    one, two = ({group(word) for word in each} - {None} for each in (said, wanted))
    return bool(one and two) and one.isdisjoint(two)


def _stands_elsewhere(first: Mention, others: Sequence[Mention], wanted: Asked) -> bool:
    """Whether a thing stands on another side of some other thing than asked for."""
    for other in others:
        where = side(other.joint)
        nouns = [(one.noun, two.noun) for one in wanted.named(first) for two in wanted.named(other)]
        sides = {s for a, s, b in wanted.relations if (a, b) in nouns and s}
        swapped = {s for a, s, b in wanted.relations if (b, a) in nouns and s}
        if where and (sides or swapped) and where not in sides:
            return True
    return False


def _several(mention: Mention) -> Number | None:
    return None if mention.number == 1 else mention.number


def _says_all(one: Iterable[str], other: Sequence[str]) -> bool:
    """Whether each word of one has its like in the other."""
    return all(any(_alike(word, known) for known in other) for word in one)


def _alike(word: str, other: str) -> bool:
    color = lexicon.color(word)
    if color is not None:
        return color == lexicon.color(other)
    return lexicon.similar(word, other)


def with_absences(checklist: Checklist) -> Checklist:
    """The checklist with a claim for each thing that its prompt says must not be there."""
    known = {c.subject for c in checklist.requirements if _is_absence(c)}
    nouns = (lexicon.singular(phrase) for phrase in without_absences(checklist.prompt)[0])
    claims = (
        Requirement(f"absent{number}", "count", f"there is no {noun}", noun, ABSENT)
        for number, noun in enumerate(nouns, 1)
        if noun not in known
    )
    return replace(checklist, requirements=(*checklist.requirements, *claims))


def unwanted(checklist: Checklist) -> tuple[str, ...]:
    """What must not be there, as negatives that may act from the first picture on."""
    phrases = without_absences(checklist.prompt)[0]
    nouns = {lexicon.singular(phrase) for phrase in phrases}
    claimed = (c.subject for c in checklist.requirements if _is_absence(c))
    return (*phrases, *(noun for noun in claimed if noun not in nouns))


def _is_absence(claim: Requirement) -> bool:
    return claim.kind == "count" and claim.value == ABSENT
