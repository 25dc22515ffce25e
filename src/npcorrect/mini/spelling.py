"""From any spelling of a text to the words that the text encoders know.

The rules are replacements by regular expressions, one after the other; :mod:`.tokenizer` runs the
same ones. Imports neither torch nor tokenizers.
"""

from __future__ import annotations

import re

from npcorrect.mini.language import (
    COUNT_WORDS,
    REGION_SYNONYMS,
    RELATION_SYNONYMS,
    RELATION_TOKENS,
    REMARKS,
    SIZE_SYNONYMS,
    SIZE_WORDS,
    kind_token,
)
from npcorrect.mini.scene import COLORS
from npcorrect.mini.things import THINGS, Kind, many

Replacement = tuple[str, str]
"""A pattern, and what stands in its place."""
START = "; "
"""Put before a text when it is clean, so that every group follows a semicolon."""


def words_of(text: str) -> list[str]:
    """The words that the text encoders see, and as they are those that they do not know."""
    text = text.lower()
    for pattern, word in CLEANING:
        text = re.sub(pattern, word, text)
    text = START + text
    for pattern, word in NAMING:
        text = re.sub(pattern, word, text)
    return text.split()


def spellings(kind: Kind) -> tuple[str, ...]:
    """Every way to write a kind, right plurals and wrong ones included, the longest first."""
    names = (kind.name, *kind.synonyms)
    forms = {form for name in names for form in (name, f"{name}s", f"{name}es", many(name))}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _kind_rules() -> list[Replacement]:
    """One rule a kind; kinds whose names contain others' come first."""
    kinds = sorted(THINGS.values(), key=lambda kind: -len(kind.name.split()))
    kinds.sort(key=lambda kind: kind.name == "tv")
    rules = []
    for kind in kinds:
        if kind.name != "orange":
            forms = "|".join(map(re.escape, spellings(kind)))
            rules.append((rf"\b(?:{forms})\b", kind_token(kind.name)))
    return rules


def _plural_rules() -> list[Replacement]:
    """ "some" before groups that begin without a number and name a plural."""
    singulars = {name for kind in THINGS.values() for name in (kind.name, *kind.synonyms)}
    plurals = {form for kind in THINGS.values() for form in spellings(kind)} - singulars
    many = "|".join(sorted(plurals, key=len, reverse=True))
    adjectives = "|".join((*COLORS, *SIZE_WORDS, *SIZE_SYNONYMS))
    return [
        (
            rf"{start} (?:the )?(?=(?:(?:{adjectives}) )*(?:{many}|orange_fruits)\b)",
            f"{start} some ",
        )
        for start in (";", *RELATION_TOKENS.values())
    ]


def _cleaning() -> tuple[Replacement, ...]:
    """Punctuation, remarks, and the orange that is a fruit."""
    places = "and|with|on|in|at|to|left|right|above|below|over|under|beneath|underneath"
    return (
        (r"\bcolour", "color"),
        *((rf"\b{remark.removesuffix('s')}s?\b", remark.replace(" ", "_")) for remark in REMARKS),
        (r"\borange(?:s|es)\b", "orange_fruits"),
        (rf"\borange(?=\s*(?:[,.;!]|$)|\s+(?:{places})\b)", "orange_fruit"),
        (r"^\s*(?:an?|the) (?:photo|picture|image|drawing) (?:of|with)\b", " "),
        (r",|\band\b|\bwith\b", " ; "),
    )


def _naming() -> tuple[Replacement, ...]:
    """One word for each kind, relation, count, size, colour and place; the others go."""
    synonyms = SIZE_SYNONYMS | REGION_SYNONYMS | {"grey": "gray"}
    relations = sorted(RELATION_SYNONYMS.items(), key=lambda pair: -len(pair[0]))
    return (
        (r"[^\w;]+", " "),
        *((rf"\b{other}\b", word) for other, word in synonyms.items()),
        *(
            (rf"(?<!the )\b{words}\b", f" {RELATION_TOKENS[meaning]} ")
            for words, meaning in relations
        ),
        (r" +", " "),
        *_plural_rules(),
        ("orange_fruits", "orange_fruit"),
        *_kind_rules(),
        *((rf"\b{n}\b", word) for n, word in enumerate(COUNT_WORDS, 1)),
        (r"\b(?:an?|the|one|side|of|on|in|at|to)\b|;", " "),
    )


CLEANING, NAMING = _cleaning(), _naming()
