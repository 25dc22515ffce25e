"""Whether a negative prompt names what the prompt asks for.

What is asked for is read by :mod:`npcorrect.asked`, as things with what is said of each. A phrase
asks for the same where its thing is one of them, by any word for it or for its kind, and nothing
that it says is *incompatible*: another number, another colour, another material, the opposite of a
property, another place. So for "three red knives" the phrases "knife", "sharp knives" and "three
crimson blades" must not be negatives, and "three silver knives" and "four knives" may be.

Pure functions of texts; see :mod:`npcorrect.lexicon` for where the meanings come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from npcorrect import lexicon
from npcorrect.asked import POSTURES, VAGUE, Asked, Thing, asked, can_mean, is_picture, materials
from npcorrect.english import ARTICLES, word_set
from npcorrect.phrases import Mention, Number, is_descriptive, mentions, side, words
from npcorrect.records import Checklist

_ABSENCES = word_set(
    "no not without never none zero nothing nobody nowhere neither nor cannot lack lacks lacking "
    "missing absent absence devoid nil unclear unknown unseen invisible hidden hardly fewer less "
    "except unidentifiable indeterminate unspecified instead null undefined undetermined unable "
    "nonexistent insufficient omitted omits excluded excludes excluding failed fails barely "
    "scarcely undetected undetectable unidentified unrecognizable unsure uncertain minus sans"
)
_ABSENT_PHRASES = re.compile(r"\b(?:too few|empty of|free of|n[/.]a)\b")
_PREAMBLE = re.compile(
    r"^(?:(?:in )?(?:(?:the|this|an?) )?(?:photo|photograph|picture|image|scene),? )?"
    r"(?:(?:only|also|clearly) )?"
    r"(?:(?:shows|showing|depicts|depicting|displays|portrays|contains|features|has)"
    r"|there(?: is| are|'s|\u2019s)|(?:i|we|you|one) (?:can )?sees?|it (?:is|shows)|this is"
    r"|these are|(?:appears|seems) (?:to be|to show|like)) ",
    re.IGNORECASE,
)
_NO_THING = word_set("everything something anything else other main whole entire subject prompt")
_ACROSS = {"left": "right", "right": "left", "above": "below", "below": "above"}
_PATTERNS = word_set("plain striped checkered checked spotted dotted plaid floral zigzag")


def is_absence(text: str) -> bool:
    """Whether a text says that something is not there, or cannot be told."""
    lower = text.lower().replace("\u2019", "'")
    split = re.findall(r"[^\W_]+", lower)
    said = not _ABSENCES.isdisjoint(split) or "n't" in lower or split == ["na"]
    return said or _ABSENT_PHRASES.search(" ".join(lower.split())) is not None


def says_nothing(phrase: str) -> str:
    """Why a phrase names nothing that can be seen; empty where it names something."""
    if is_absence(phrase):
        return "it says that something is absent or unclear; name only what is there"
    if bare(phrase) != phrase.strip():
        return "it is a statement; name the thing alone"
    empty = ARTICLES | VAGUE | _NO_THING
    if all(word in empty or lexicon.singular(word) in VAGUE for word in words(phrase)):
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
    naming = [part for part in parts(phrase) if mentions(part)] or [phrase]
    return next((part for part in naming if _part_is_asked(part, wanted)), "")


def states_only_what_is_asked(sentence: str, checklist: Checklist) -> bool:
    """Whether everything that a sentence names is asked for, with nothing incompatible."""
    wanted = asked(checklist)
    return all(
        wanted.named(mention) and not _is_incompatible(mention, wanted)
        for mention in mentions(sentence)
        if not is_picture(mention)
    )


def is_about(phrase: str, nouns: Iterable[str]) -> bool:
    """Whether a phrase names a thing that one of these nouns can mean."""
    known = [lexicon.singular(noun) for noun in nouns if noun]
    return any(can_mean(mention, noun) for mention in mentions(phrase) for noun in known)


def nouns_asked(checklist: Checklist) -> tuple[str, ...]:
    """The things that the prompt asks for, in the singular."""
    return tuple(thing.noun for thing in asked(checklist).things)


def is_near(phrase: str, other: str) -> bool:
    """Whether two phrases name the same, or one the same and more: "white bed", "a large bed"."""
    if phrase == other:
        return True
    named, others = mentions(phrase), mentions(other)
    return 0 < len(named) == len(others) and all(map(_are_near, named, others))


def parts(phrase: str) -> list[str]:
    """The parts of a phrase that "and" or a comma joins."""
    return [part for part in re.split(r"\band\b|[,;&]", phrase) if part.strip()]


def _part_is_asked(part: str, wanted: Asked) -> bool:
    named = [mention for mention in mentions(part) if not is_picture(mention)]
    said = {word for word in words(part) if word not in ARTICLES}
    if named and wanted.named(named[0]):
        first, *others = named
        return not (_is_incompatible(first, wanted) or _stands_elsewhere(first, others, wanted))
    if any(word in wanted.surroundings and lexicon.color(word) is None for word in said):
        return True
    if any(_names(mention, wanted) for mention in named):
        return True
    told = said - VAGUE or said
    return not named and any(thing.words.issuperset(told) for thing in wanted.things)


def _names(mention: Mention, wanted: Asked) -> bool:
    """Whether a mention names an asked thing, itself or by a noun before its own."""
    if wanted.named(mention):
        return not _is_incompatible(mention, wanted)
    before = {lexicon.singular(w) for w in mention.words[:-1] if lexicon.material(w) is None}
    if any(thing.noun in before for thing in wanted.things):
        return True
    return not is_descriptive(mention.noun) and any(
        mention.noun in thing.words.difference(thing.noun.split()) for thing in wanted.things
    )


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
    if lexicon.same(mention.noun, thing.noun):
        said, wanted = mention.modifiers, thing.words.difference(thing.noun.split())
    groups = (lexicon.color, _member(_PATTERNS), POSTURES.get)
    if any(_differs(group, said, wanted) for group in groups):
        return True
    made = materials(said)
    if made and thing.materials and not _may_be_one(made, thing.materials):
        return True
    if mention.place and thing.places and mention.place not in thing.places:
        return True
    return any(lexicon.opposite(word, other) for word in said for other in wanted)


def _may_be_one(made: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether a material is one that is wanted, a kind of it, or what it is a kind of."""
    return any(
        one == other or lexicon.is_kind_of(one, other) or lexicon.is_kind_of(other, one)
        for one in made
        for other in wanted
    )


def _miscounts(mention: Mention, counts: frozenset[int]) -> bool:
    number = mention.number
    if number == "more":
        return bool(counts)
    if number == "many":
        return bool(counts) and max(counts) < 3
    if number is None:
        return False
    return number not in counts if counts else number == 1


def _member(group: frozenset[str]) -> Callable[[str], str | None]:
    return lambda word: word if word in group else None


def _differs(group: Callable[[str], object], said: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether both have words of a group, such as colours, and no meaning in common."""
    one, two = ({group(word) for word in each} - {None} for each in (said, wanted))
    return bool(one and two) and one.isdisjoint(two)


def _stands_elsewhere(first: Mention, others: Sequence[Mention], wanted: Asked) -> bool:
    """Whether a thing stands on another side, of the picture or of a thing, than asked for."""
    known = {thing.noun for thing in wanted.named(first)}
    sides_of_thing = {s for a, s, b in wanted.relations if a in known and b not in known}
    sides_of_other = {s for a, s, b in wanted.relations if b in known and a not in known}
    if _ACROSS.get(first.place) in sides_of_thing or first.place in sides_of_other - {""}:
        return True
    for other in others:
        where = side(other.joint)
        nouns = [(one.noun, two.noun) for one in wanted.named(first) for two in wanted.named(other)]
        sides = {s for a, s, b in wanted.relations if (a, b) in nouns and s}
        swapped = {s for a, s, b in wanted.relations if (b, a) in nouns and s}
        if where and (sides or swapped) and where not in sides:
            return True
    return False


def _are_near(one: Mention, two: Mention) -> bool:
    if _several(one) != _several(two) or side(one.joint) != side(two.joint):
        return False
    said = one.modifiers, two.modifiers
    if not lexicon.same(one.noun, two.noun):
        said = one.said, two.said
        if not (_is_kind_by_its_last_word(one, two) or _is_kind_by_its_last_word(two, one)):
            return False
    return _says_all(*said) or _says_all(*reversed(said))


def _is_kind_by_its_last_word(one: Mention, two: Mention) -> bool:
    """Whether a noun of several words is a kind of the other, its last: a blue sky is a sky."""
    return one.noun.endswith(f" {two.noun}") and lexicon.is_kind_of(one.noun, two.noun)


def _several(mention: Mention) -> Number | None:
    return None if mention.number == 1 else mention.number


def _says_all(one: Iterable[str], other: Sequence[str]) -> bool:
    """Whether each word of one has its like in the other."""
    return all(any(_alike(word, known) for known in other) for word in one)


def _alike(word: str, other: str) -> bool:
    color = lexicon.color(word)
    if color is not None:
        return color == lexicon.color(other)
    made = lexicon.material(word)
    return lexicon.similar(word, other) or (made is not None and made == lexicon.material(other))
