"""A shallow reading of English phrases: which things they name, how many, and what is said of them.

No grammar, no model: a phrase is cut at words that join things (prepositions, conjunctions, verbs),
and the last noun of each piece is what it names. It reads what people and models write about
pictures ("two white airplanes and a man in a red coat"), not prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from npcorrect import lexicon
from npcorrect.english import ARTICLES, NUMBERS, word_set

Number = int | Literal["many", "more"]
"""How many: exactly, an unknown number above one, or more than there should be."""
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[,.;:!?()\n]")
_QUOTED = re.compile(r'"[^"]*"|\u201c[^\u201c\u201d]*\u201d')

_COUNTS: dict[str, Number] = {word: number for number, word in enumerate(NUMBERS)}
_COUNTS |= {"eleven": 11, "twelve": 12, "dozen": 12, "single": 1, "lone": 1, "solitary": 1}
_COUNTS |= {"both": 2, "twin": 2, "double": 2, "triple": 3}
_COUNTS |= dict.fromkeys(("several", "many", "multiple", "numerous", "various", "few"), "many")
_COUNTS |= dict.fromkeys(("extra", "additional", "another", "more", "duplicate"), "more")
_GROUPS: dict[str, Number | None] = {"pair": 2, "couple": 2, "duo": 2, "trio": 3, "quartet": 4}
_GROUPS |= dict.fromkeys(("lot", "lots", "plenty", "number"), "many")
_GROUPS |= dict.fromkeys(("group", "bunch", "set", "row", "pile", "stack", "collection"))
_PEOPLE: dict[str, Number] = {"couple": 2, "duo": 2, "trio": 3, "crowd": "many"}
"""Words for so many people, where no "of" follows."""
_ORDINALS = {word: n for n, word in enumerate(("second", "third", "fourth", "fifth", "sixth"), 2)}

_DEFINITE = word_set("the this these those its his her their my our your")
_DETERMINERS = ARTICLES | _DEFINITE | word_set("each every all any some other only")
_PLACES = word_set("left right top bottom above below middle center")
_LINKS = word_set("is are was were be being has have having who which")
_JOINTS = _LINKS | word_set(
    "that says saying reads about above across against along alongside among amid and around as "
    "at atop away before behind below beneath beside between beyond but by down during else for "
    "from front in inside into it like near nor of off on onto opposite or out outside over "
    "past per plus she he so than there they then through to together toward towards under "
    "underneath up upon via we when where while with within without you very too also just next "
    "i can could will would"
)
_SIDES = (
    ("left", ("left",)),
    ("right", ("right",)),
    ("front", ("front",)),
    ("behind", ("behind",)),
    ("above", ("above", "over")),
    ("below", ("below", "under", "beneath", "underneath", "bottom")),
    ("beside", ("beside", "near", "by", "alongside", "next")),
    ("on", ("on", "atop", "top", "upon", "onto")),
    ("in", ("in", "inside", "into", "within")),
)
_FREE_OF_NOTHING_SEEN = word_set(
    "hands-free sugar-free gluten-free duty-free tax-free toll-free fat-free dairy-free care-free "
    "royalty-free caffeine-free"
)
_OR = ("or", "nor")
_LONGEST_LIST = 8
_NO_THINGS = word_set("longer more matter doubt other way need fewer less additional extra")
_LIKENESS = word_set("like resembling than shaped")
_SIZES_AND_AGES = word_set("small large short tall young old")
_SHADES = word_set("dark light bright pale deep and")
_MEASURES = word_set("size shape height width length")
_COLORING = word_set("painted dyed colored coloured tinted showing glowing")
_PARTICIPLES = word_set("made built woven held worn hung cut hanging standing sailing")
_ALIVE = ("person", "animal")


@dataclass(frozen=True)
class Mention:
    """A thing that a text names.

    ``noun`` is in the singular, in small letters, of one word or more; ``modifiers`` are the words
    before it and what a verb says it does. ``joint`` are the words between it and the mention
    before, ``place`` is where it stands in the picture, if the text says so. ``definite`` tells
    "the cat" from "a cat", ``likeness`` a car that something is only compared with.
    """

    noun: str
    modifiers: tuple[str, ...] = ()
    number: Number | None = None
    plural: bool = False
    definite: bool = False
    joint: tuple[str, ...] = ()
    place: str = ""
    likeness: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The modifiers and the words of the noun."""
        return (*self.modifiers, *self.noun.split())

    @property
    def said(self) -> tuple[str, ...]:
        """All but the last word of the noun, which says what the thing is."""
        return (*self.modifiers, *self.noun.split()[:-1])


def words(text: str) -> list[str]:
    """The words of a text in small letters, without its punctuation."""
    return [token for token in _tokens(text) if _is_word(token)]


def without_absences(text: str) -> tuple[tuple[str, ...], str]:
    """What a text says must not be there ("no X", "without X", "X-free"), and the rest of it.

    Signs ("no parking sign"), idioms ("no longer") and actions ("without touching") are none.
    """
    tokens = _tokens(unquoted(text))
    absent: list[str] = []
    rest: list[str] = []
    place = 0
    while place < len(tokens):
        phrases, stop = _absent_from(tokens, place)
        if tokens[place].endswith("-free") and tokens[place] not in _FREE_OF_NOTHING_SEEN:
            phrases, stop = [tokens[place].removesuffix("-free")], place + 1
        elif tokens[place] == "nobody":
            phrases, stop = ["people"], place + 1
        absent += phrases
        rest += [] if phrases else tokens[place:stop]
        place = stop
    return tuple(dict.fromkeys(absent)), " ".join(rest)


def _absent_from(tokens: Sequence[str], place: int) -> tuple[list[str], int]:
    """The things that a text denies from a place on, and where it ends to do so."""
    after = tokens[place + 1 : place + 2]
    if tokens[place] not in ("no", "without") and (
        tokens[place] not in ("free", "devoid") or after != ["of"]
    ):
        return [], place + 1
    phrases: list[str] = []
    stop = place + (1 if tokens[place] in ("no", "without") else 2)
    while stop < len(tokens):
        end = _end_of_phrase(tokens, stop)
        if _denies_no_thing(tokens[stop:end]):
            break
        phrase = tokens[stop + (tokens[stop] in _DETERMINERS) : end]
        phrases.append("people" if phrase == ["one"] else " ".join(phrase))
        stop = end
        joints = _joints_to_next(tokens, end)
        if not joints:
            break
        stop += joints
    return phrases, max(stop, place + 1)


def _end_of_phrase(tokens: Sequence[str], place: int) -> int:
    while place < len(tokens) and _is_word(tokens[place]) and tokens[place] not in _JOINTS:
        place += 1
    return place


def _denies_no_thing(phrase: Sequence[str]) -> bool:
    if not phrase or phrase[0] in _NO_THINGS:
        return True
    named = phrase[phrase[0] in _DETERMINERS :]
    if not named:
        return True
    first, last = named[0], named[-1]
    return (
        (_number(first) is not None and named != ["one"])
        or last in ("sign", "signs", "zone")
        or (first.endswith("ing") and not lexicon.is_noun(first))
    )


def _joints_to_next(tokens: Sequence[str], end: int) -> int:
    """How many words lead to the next denied thing; 0 where none is: "no cars or people"."""
    joint, after = (*tokens[end : end + 2], "", "")[:2]
    if joint == "and":
        return int(_is_bare(after))
    if joint == "," and _is_list_of_or(tokens, end):
        return 2 if after in _OR else 1
    return int(joint in _OR)


def _is_list_of_or(tokens: Sequence[str], place: int) -> bool:
    """Whether the list that goes on here ends as "no text, logos, or marks" does."""
    for _ in range(_LONGEST_LIST):
        joint, after = (*tokens[place : place + 2], "", "")[:2]
        if joint != ",":
            return joint in _OR
        if not _is_bare(after):
            return False
        place = _end_of_phrase(tokens, place + 1)
    return False


def _is_bare(word: str) -> bool:
    """Whether a phrase that begins with it has neither an article nor a number: "hat", "cars"."""
    return word not in ("", "no", "without") and _number(word) is None and word not in _DETERMINERS


def unquoted(text: str) -> str:
    """The text without the writing that stands in double quotes."""
    return _QUOTED.sub(" ", text)


def side(joint: Sequence[str]) -> str:
    """Where words like "to the left of" place a thing; empty where they place none."""
    return next((name for name, forms in _SIDES if any(f in joint for f in forms)), "")


def is_descriptive(word: str) -> bool:
    """Whether a word says how a thing is and is not what a phrase is about."""
    if lexicon.color(word) is not None:
        return True
    verbal = word.endswith(("ing", "ed"))
    return (verbal or lexicon.is_adjective(word)) and not lexicon.is_noun(lexicon.singular(word))


@lru_cache(maxsize=4096)
def mentions(text: str) -> tuple[Mention, ...]:
    """The things that a text names, in order."""
    mentioned: list[Mention] = []
    carried: tuple[str, ...] = ()
    for piece in _pieces(_tokens(unquoted(text))):
        if piece.place and mentioned:
            mentioned[-1] = replace(mentioned[-1], place=piece.place)
        read = _read(piece)
        if read is None and mentioned and (_LINKS | _COLORING) & set(piece.joint):
            mentioned[-1] = replace(
                mentioned[-1], modifiers=(*mentioned[-1].modifiers, *piece.words)
            )
        elif read is None:
            carried += tuple(piece.words)
        else:
            before = mentioned[-1].noun if mentioned and read.joint == ("of",) else ""
            measure = before in _MEASURES and before != "shape"
            likeness = measure or not _LIKENESS.isdisjoint(read.joint)
            modifiers = (*carried, *read.modifiers)
            mentioned.append(replace(read, modifiers=modifiers, likeness=likeness))
            carried = ()
    return tuple(mention for mention in mentioned if mention.noun not in _MEASURES)


@dataclass
class _Piece:
    """Words between two joints, and what was said before them."""

    joint: tuple[str, ...]
    words: list[str]
    number: Number | None = None
    definite: bool = False
    determined: bool = False
    place: str = ""


def _tokens(text: str) -> list[str]:
    lower = text.lower().replace("\u2019", "'").replace("half a dozen", "six")
    return _WORD.findall(lower)


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def _pieces(tokens: Sequence[str]) -> Iterator[_Piece]:
    piece = _Piece((), [])
    for number, token in enumerate(tokens):
        after = tokens[number + 1] if number + 1 < len(tokens) else ""
        if _is_place(token, after, piece):
            piece.joint += (token,)
            piece.place = "" if after == "of" else _place(token)
            piece.determined = piece.definite = False
        elif not _is_word(token) or token in _JOINTS:
            if piece.words:
                yield piece
                piece = _Piece((), [])
            piece.joint += (token,)
        elif token in _PLACES and after == "of" and piece.words:
            yield piece
            piece = _Piece((token,), [])
        elif token in _GROUPS and after == "of":
            piece.number, piece.determined = _GROUPS[token], True
        elif token in _DETERMINERS or (_number(token) is not None and after != "of"):
            if piece.words:
                verb = _final_verb(piece.words)
                yield piece
                piece = _Piece(verb, [])
            piece.definite |= token in _DEFINITE
            piece.determined = True
            piece.number = _count(token, piece.number)
        elif piece.words and _is_verb(token, piece.words[-1], after):
            piece.words.insert(0, token)
            yield piece
            piece = _Piece((token,), [])
        else:
            piece.words.append(token)
    if piece.words or piece.place:
        yield piece


def _place(token: str) -> str:
    """Where in the picture a word says that a thing is; what is on the top is above."""
    return "above" if token == "top" else side((token,)) or token


def _is_place(token: str, after: str, piece: _Piece) -> bool:
    """Whether "left" is the place in "on the left", not the word before "hand"."""
    if token not in _PLACES or piece.words or not piece.joint:
        return False
    return not after or after in _JOINTS or not _is_word(after) or after in ("side", "half")


def _number(token: str) -> Number | None:
    if token.isascii() and token.isdigit():
        return int(token[:6])
    return _COUNTS.get(token, _ORDINALS.get(token))


def _count(token: str, known: Number | None) -> Number | None:
    """The number after this word; "a" is one unless more is said ("a dozen")."""
    number = _number(token)
    return known if number is None else number


def _is_verb(token: str, before: str, after: str) -> bool:
    """Whether a word after a noun says what it does: "men playing", "a fish perched"."""
    noun = lexicon.singular(before)
    if not lexicon.is_noun(noun) or lexicon.color(before) is not None:
        return False
    if token in _PARTICIPLES:
        return True
    if not token.endswith(("ing", "ed")) or lexicon.is_noun(f"{before} {token}"):
        return False
    if not lexicon.is_noun(token):
        return True
    ends = not after or after in _DETERMINERS or after in _JOINTS or not _is_word(after)
    return ends and any(lexicon.is_kind_of(noun, kind) for kind in _ALIVE)


def _final_verb(piece: list[str]) -> tuple[str, ...]:
    """Take off a last word that must be a verb, because an article follows: "woman wears a"."""
    if len(piece) > 1 and piece[-1].endswith(("s", "ing", "ed")):
        return (piece.pop(),)
    return ()


def _read(piece: _Piece) -> Mention | None:
    """The thing that a piece names, or None where its words only describe."""
    if _shows_color(piece.words):
        piece = replace(piece, words=[piece.words[-1], *piece.words[:-2]])
    if not piece.words or _ends_with_color(piece) or _is_predicate(piece):
        return None
    for stop in range(len(piece.words), 0, -1):
        for start in range(max(0, stop - 3), stop):
            if _is_thing(piece.words[start:stop]):
                return _mention(piece, start, stop)
        if not _may_follow_noun(piece.words, stop - 1):
            return _mention(piece, stop - 1, stop)
    return None


def _shows_color(row: Sequence[str]) -> bool:
    """Whether a noun has its colour behind it: "a light showing green", "a car painted red"."""
    return len(row) > 2 and row[-2].endswith(("ing", "ed")) and lexicon.color(row[-1]) is not None


def _is_predicate(piece: _Piece) -> bool:
    """Whether a lone adjective follows "is", such as "small", which is a noun elsewhere."""
    linked = bool(piece.joint) and piece.joint[-1] in _LINKS and not piece.determined
    return linked and len(piece.words) == 1 and lexicon.is_adjective(piece.words[0])


def _is_thing(phrase: Sequence[str]) -> bool:
    """Whether it is a noun; young girls and black cats are girls and cats, whatever WordNet says.

    A brown bear, which is a kind of bear there, and orange juice are nouns.
    """
    noun, first = lexicon.singular(" ".join(phrase)), phrase[0]
    if len(phrase) > 1 and any(lexicon.similar(first, word) for word in _SIZES_AND_AGES):
        return False
    colored = len(phrase) > 1 and lexicon.color(first) is not None
    if colored and not lexicon.is_more_than_color(first):
        return lexicon.is_noun(noun) and lexicon.is_kind_of(noun, noun.split()[-1])
    return lexicon.is_noun(noun)


def _ends_with_color(piece: _Piece) -> bool:
    """Whether the last word is a colour, and not a thing that has its name: "a large orange"."""
    last = piece.words[-1]
    if lexicon.color(last) is None:
        return False
    alone = len(piece.words) == 1 and not piece.determined
    shaded = len(piece.words) > 1 and piece.words[-2] in _SHADES
    return alone or shaded or not lexicon.is_more_than_color(last)


def _may_follow_noun(row: Sequence[str], place: int) -> bool:
    """Whether an unknown word may be a verb or an adjective after the noun: "cat sits"."""
    if is_descriptive(row[place]):
        return True
    before = row[place - 1] if place else ""
    noun = lexicon.is_noun(lexicon.singular(before)) and not lexicon.is_adjective(before)
    return noun and row[place].endswith("s")


def _mention(piece: _Piece, start: int, stop: int) -> Mention:
    noun = " ".join(piece.words[start:stop])
    single = lexicon.singular(noun)
    if noun in _PEOPLE and piece.number in (None, 1):
        single, piece = "person", replace(piece, number=_PEOPLE[noun])
    after = (word for word in piece.words[stop:] if is_descriptive(word))
    return Mention(
        single,
        (*piece.words[:start], *after),
        piece.number,
        single != noun,
        piece.definite,
        piece.joint,
    )
