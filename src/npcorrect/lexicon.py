"""What words mean, as far as pictures go: an extract of WordNet that the package carries.

``data/lexicon.txt.gz`` is made by ``scripts/lexicon.py`` from WordNet 3.1 (Princeton University;
its licence stands beside the file). It has the nouns for things that can be seen, each with its
senses in WordNet's order and what those are kinds of; adjectives with the clusters that they belong
to, and which clusters are opposites; and irregular plurals. The same words mean the same on every
machine, so no other WordNet is looked for. It is read at the first question, in about 0.2 s.

A phrase is words joined by single spaces, in small letters.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from npcorrect import english

_VAGUE_DEPTH = 4
"""Nouns so near the top of all nouns say nothing: "object", "whole", "artifact"."""
_KIND_DISTANCE = 6
_USUAL_SENSES = 3
_KINDS = {"animal": 5, "creature": 5, "food": 13, "person": 18}
"""Nouns that stand for all of a lexicographer's file, however far below them."""
_SUBSTANCE = 27
_HISSES = ("s", "x", "z", "ch", "sh")

# What WordNet does not say, or says of rarer senses only; everyday words alone.
_SINGULARS = {"people": "person", "women": "woman"}
_INVARIANT = (
    *("aircraft", "bison", "cattle", "deer", "fish", "moose", "pajamas", "pants", "salmon"),
    *("scissors", "series", "sheep", "shrimp", "species", "squid", "swine", "trousers", "trout"),
)
_NO_COMPOUNDS_OF_MAN = ("human", "german", "roman", "shaman", "ottoman", "talisman")
_SYNONYMS = (
    ("cup", "mug"),
    ("cell phone", "mobile phone", "cellphone", "smartphone", "smart phone", "phone", "iphone"),
    ("tv remote", "remote control", "remote"),
    ("hair drier", "hair dryer", "hairdryer", "blow dryer"),
    ("teddy bear", "teddy", "stuffed bear", "plush bear"),
    ("laptop", "notebook computer"),
    ("sports ball", "ball"),
    ("computer keyboard", "keyboard"),
    ("potted plant", "houseplant"),
    ("beach", "seashore", "seaside", "shore"),
    ("sea", "ocean"),
    ("fire", "flame"),
    ("glass", "eyeglass", "spectacle"),
)
_KINDS_OF = {
    "bunny": "rabbit",
    "kitten": "cat",
    "lamb": "sheep",
    "calf": "cow",
    "foal": "horse",
    "cub": "bear",
    "boy": "child",
    "girl": "child",
    "toddler": "child",
    "baby": "child",
    "couple": "person",
    "crowd": "person",
    "bear cub": "bear",
    **dict.fromkeys(("mother", "grandmother", "queen", "princess", "bride"), "woman"),
    **dict.fromkeys(("father", "grandfather", "king", "prince", "groom"), "man"),
    "bus": "vehicle",
    "train": "vehicle",
    "rose": "flower",
    "tulip": "flower",
    "lily": "flower",
    "parasol": "umbrella",
    "t-shirt": "shirt",
    "lake": "water",
    "river": "water",
    "sea": "water",
}
_OPPOSITES = (
    *({"calm", "rough"}, {"calm", "stormy"}, {"modern", "vintage"}, {"bare", "leafy"}),
    *({"full", "crescent"}, {"frozen", "flowing"}, {"empty", "crowded"}, {"empty", "filled"}),
)
_COLORS = {
    "blonde": "blond",
    "charcoal": "black",
    "chocolate": "brown",
    "cream": "white",
    "golden": "gold",
    "khaki": "tan",
    "lilac": "purple",
    "lime": "green",
    "mint": "green",
    "navy": "blue",
    "olive": "green",
    "turquoise": "blue",
}
_MATERIALS = {
    "wooden": "wood",
    "golden": "gold",
    "metallic": "metal",
    "woolen": "wool",
    "denim": "fabric",
    "knitted": "wool",
    "seashell": "seashell",
    "stone": "stone",
}
_FABRICS = ("fabric", "building material", "ceramic")


@dataclass(frozen=True)
class _Lexicon:
    """Synsets and clusters by number, words by what they are."""

    above: list[tuple[int, ...]]
    lexfile: list[int]
    nouns: dict[str, tuple[int, ...]]
    opposites: list[tuple[int, ...]]
    adjectives: dict[str, tuple[int, ...]]
    singulars: dict[str, str]


@cache
def _lexicon() -> _Lexicon:
    """The file, whose lines are sorted by their kind: the letter that they begin with."""
    packed = (files("npcorrect") / "data" / "lexicon.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("ascii").replace("_", " ").splitlines()
    rows: dict[str, list[list[str]]] = {kind: [] for kind in "snoap"}
    for line in lines:
        rows[line[0]].append(line[2:].split(","))
    return _Lexicon(
        [_numbers(above) for _, *above in rows["s"]],
        [int(lexfile) for lexfile, *_ in rows["s"]],
        {noun: _numbers(senses) for noun, *senses in rows["n"]},
        [_numbers(others) for others in rows["o"]],
        {word: _numbers(clusters) for word, *clusters in rows["a"]},
        {plural: noun for plural, noun, *_ in rows["p"]},
    )


def _numbers(texts: Iterable[str]) -> tuple[int, ...]:
    return tuple(map(int, texts))


def is_noun(phrase: str) -> bool:
    """Whether it names, in the singular, a thing that can be seen."""
    return bool(_senses(phrase))


def is_phrase(noun: str) -> bool:
    """Whether a noun of several words means more than they do: "teddy bear", not "snow field"."""
    return noun in _lexicon().nouns


def is_adjective(word: str) -> bool:
    """Whether the lexicon has the word, in this or its base form, as an adjective."""
    return _base(word) in _lexicon().adjectives


def singular(noun: str) -> str:
    """A phrase whose last word may be a plural with that word in the singular.

    A word that is no plural of a known noun, and no known noun itself, loses a regular ending.
    """
    before, _, last = noun.rpartition(" ")
    if last != noun:
        return f"{before} {singular(last)}"
    if noun in _INVARIANT:
        return noun
    irregular = _SINGULARS.get(noun) or _lexicon().singulars.get(noun)
    if irregular or noun.endswith("men"):
        return irregular or f"{noun[:-3]}man"
    forms = _regular_singulars(noun)
    known = next(filter(is_noun, (*forms, noun)), None)
    return known or (forms or (noun,))[-1]


def plural(noun: str) -> str:
    """The plural of a singular noun, which its last word takes; plurals stay what they are."""
    before, _, last = noun.rpartition(" ")
    if last != noun:
        return f"{before} {plural(last)}"
    if not noun or noun in _INVARIANT or singular(noun) != noun:
        return noun
    if noun.endswith("man") and noun not in _NO_COMPOUNDS_OF_MAN:
        return f"{noun[:-3]}men"
    return _irregular_plurals().get(noun) or english.plural(noun)


def same(noun: str, other: str) -> bool:
    """Whether two singular nouns can mean one thing: by spelling, synonymy, or our own list."""
    if noun == other or noun.replace(" ", "") == other.replace(" ", ""):
        return True
    if any(noun in group and other in group for group in _SYNONYMS):
        return True
    senses, others = _senses(noun), _senses(other)
    return bool(senses and others) and (senses[0] in others or others[0] in senses)


def is_kind_of(noun: str, other: str) -> bool:
    """Whether a singular noun, in a usual sense, names a kind of what another names.

    Nouns that are too general to say anything have no kinds: what everything is asks for nothing.
    """
    senses = _senses(noun)
    if same(_KINDS_OF.get(noun, noun), other) or _is_compound(noun, other):
        return True
    if senses and _lexicon().lexfile[senses[0]] == _KINDS.get(other):
        return True
    alive = senses and _lexicon().lexfile[senses[0]] == _KINDS["animal"]
    usual = senses[: 1 if alive else _USUAL_SENSES - 1]
    wanted = {s for s in _senses(other)[:_USUAL_SENSES] if _depth(s) > _VAGUE_DEPTH}
    return any(wanted & _above(sense) for sense in usual)


def color(word: str) -> int | None:
    """The family of the colour that a word names: that of "crimson" and "reddish" is "red"'s."""
    stem = word.removesuffix("ish")
    ish = (stem, f"{stem}e", stem[:-1]) if stem != word else ()
    for form in (_COLORS.get(word, word), *ish):
        senses = _lexicon().nouns.get(form, ())
        said = senses if is_adjective(form) or form in _COLORS.values() else senses[:1]
        family = next((f for sense in said if (f := _color_families().get(sense))), None)
        if family is not None:
            return family
    return None


def is_more_than_color(word: str) -> bool:
    """Whether the first that a word names is a thing, such as an orange."""
    senses = _senses(word)
    return bool(senses) and senses[0] not in _color_families()


def material(word: str) -> str | None:
    """The material that a word names as a noun or as an adjective: "wooden" is "wood"."""
    if word in _MATERIALS:
        return _MATERIALS[word]
    senses = _senses(word)
    if senses and _lexicon().lexfile[senses[0]] == _SUBSTANCE:
        return word
    return word if any(word == name or is_kind_of(word, name) for name in _FABRICS) else None


def opposite(word: str, other: str) -> bool:
    """Whether two adjectives, in any degree, belong to opposite clusters: "tiny" and "larger"."""
    if {word, other} in _OPPOSITES:
        return True
    lexicon = _lexicon()
    clusters = lexicon.adjectives.get(_base(word), ())
    others = set(lexicon.adjectives.get(_base(other), ()))
    return any(others.intersection(lexicon.opposites[cluster]) for cluster in clusters)


def similar(word: str, other: str) -> bool:
    """Whether two adjectives, in any degree, share a cluster: "huge" and "larger"."""
    adjectives = _lexicon().adjectives
    return _base(word) == _base(other) or bool(
        set(adjectives.get(_base(word), ())) & set(adjectives.get(_base(other), ()))
    )


def are_alike(noun: str, other: str) -> bool:
    """Whether two singular nouns name things of one sort: both animals, or both artifacts."""
    senses, others = _senses(noun), _senses(other)
    lexfile = _lexicon().lexfile
    return bool(senses and others) and lexfile[senses[0]] == lexfile[others[0]]


def _senses(noun: str) -> tuple[int, ...]:
    """The senses of a noun, which WordNet may write as one word, such as "wineglass"."""
    nouns, first = _lexicon().nouns, noun.partition(" ")[0]
    senses = nouns.get(noun)
    if senses is None and first not in _lexicon().adjectives:
        senses = nouns.get(noun.replace(" ", ""))
    return senses or ()


def _is_compound(noun: str, other: str) -> bool:
    """Whether a noun ends with the other, of its sort, after a third: "sailboat" is a boat."""
    first = noun.removesuffix(other)
    return first != noun and is_noun(first) and are_alike(noun, other)


def _base(adjective: str) -> str:
    """The positive of a comparative or superlative; any other word unchanged."""
    known = _lexicon().adjectives
    for ending in ("er", "est"):
        if adjective.endswith(ending) and adjective not in known:
            stem = adjective.removesuffix(ending)
            forms = (stem, f"{stem}e", stem[:-1], f"{stem[:-1]}y")
            return next((form for form in forms if form in known), adjective)
    return adjective


def _regular_singulars(noun: str) -> tuple[str, ...]:
    """What a noun may be the regular plural of; the last where none of them is known."""
    if not noun.endswith("s") or noun.endswith(("ss", "us")):
        return ()
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-1], f"{noun[:-3]}y"
    if noun.endswith("es") and noun[:-2].endswith(("ss", *_HISSES[1:])):
        return (noun[:-2],)
    return (noun[:-1], noun[:-2], noun[:-1]) if noun.endswith("ses") else (noun[:-1],)


def _above(sense: int) -> set[int]:
    """The synsets above one, up to :data:`_KIND_DISTANCE`."""
    reached: set[int] = set()
    level = {sense}
    for _ in range(_KIND_DISTANCE):
        level = {up for each in level for up in _lexicon().above[each]}
        reached |= level
    return reached


@cache
def _depth(sense: int) -> int:
    above = _lexicon().above[sense]
    return 1 + min(map(_depth, above)) if above else 0


@cache
def _irregular_plurals() -> dict[str, str]:
    """By the singular; without those that only double a letter, such as "busses"."""
    pairs = {**_lexicon().singulars, **_SINGULARS}.items()
    return {
        noun: plural for plural, noun in reversed(list(pairs)) if plural != f"{noun}{noun[-1]}es"
    }


@cache
def _color_families() -> dict[int, int]:
    """For each synset of a colour the one that stands right below the two kinds of colours."""
    lexicon = _lexicon()
    families: dict[int, int] = {}
    below = {lexicon.nouns[f"{kind} color"][0]: 0 for kind in ("chromatic", "achromatic")}
    while below:
        children = {
            sense: below[up] or sense
            for sense, above in enumerate(lexicon.above)
            for up in above
            if up in below
        }
        families |= children
        below = children
    return families
