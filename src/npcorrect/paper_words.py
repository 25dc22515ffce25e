"""The salient words of Negative Prompting for Image Correction, as its released code finds them.

Source: arXiv 2512.07702 and its repository, github.com/wiarae/NPC, which has no licence; this is
written from a description of what that code does. It is faithful to its faults: an adjective passes
for the object ("three red apples" gives "red"), and a prompt without numbers is taken to ask for
one, two and three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from npcorrect.english import NUMBERS, word_set

_NUMERALS = (*NUMBERS, "eleven", "twelve")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMERALS)} | {"a": "1", "an": "1"}
_NO_TEXT = re.compile(r"[^a-z0-9\s-]")
_NUMBER_AND_NEXT = re.compile(rf"\b(\d+|{'|'.join(_DIGITS)})\s+(?:of\s+)?([a-z-]+)")
_MADE_UP_QUANTITIES = ("one", "two", "three", "1", "2", "3")
_STOP_WORDS = word_set(
    "a an the and or with of in on at to for from "
    "photo picture image scene view close-up closeup shot"
)


def quantities(prompt: str) -> tuple[str, ...]:
    """Every number before a word, as it stands and in digits; each once, in order."""
    numbers = (number for number, _ in _pairs(prompt))
    both = (form for number in numbers for form in (number, _DIGITS.get(number, number)))
    return tuple(dict.fromkeys(both)) or _MADE_UP_QUANTITIES


def objects(prompt: str) -> tuple[str, ...]:
    """The word after each number, or else every longer word, in singular and plural."""
    after = [word for _, word in _pairs(prompt) if len(word) > 1 and word not in _STOP_WORDS]
    singulars = map(_singular, after or _fallback(_tidied(prompt).split()))
    return tuple(dict.fromkeys(form for noun in singulars for form in (noun, _plural(noun))))


def _pairs(prompt: str) -> Iterator[tuple[str, str]]:
    return (match.groups() for match in _NUMBER_AND_NEXT.finditer(_tidied(prompt)))  # type: ignore[misc]


def _tidied(prompt: str) -> str:
    return _NO_TEXT.sub(" ", prompt.lower())


def _fallback(words: Sequence[str]) -> Sequence[str]:
    long = [w for w in words if w.isalpha() and len(w) > 2 and w not in _STOP_WORDS]
    return long or words[-1:]


def _singular(noun: str) -> str:
    if noun.endswith("ies"):
        return f"{noun[:-3]}y"
    if noun.endswith(("xes", "ches", "shes", "ses", "zes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in ("", *"aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"
