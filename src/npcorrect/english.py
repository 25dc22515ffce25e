"""English just deep enough to compare short phrases: numbers, plurals."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ARTICLES = word_set("a an the")
RELATION_WORDS = {
    "to the left of": "to the left of",
    "left of": "to the left of",
    "to the right of": "to the right of",
    "right of": "to the right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}
"""Ways to say where a thing stands, with the one that requirements use."""
_HISSES = ("s", "x", "z", "ch", "sh")


def in_words(number: str) -> str:
    """``"3"`` as ``"three"``; whatever is no numeral from 0 to 10 comes back unchanged."""
    small = number.isascii() and number.isdigit() and len(number) <= 2 and int(number) <= 10
    return NUMBERS[int(number)] if small else number


def plural(noun: str) -> str:
    """The regular plural of the last word of a singular noun."""
    if noun.endswith(_HISSES):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in ("", *"aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s" if noun else ""


def singular(noun: str) -> str:
    """The noun without its regular plural ending, or unchanged where it has none."""
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith("es") and noun[:-2].endswith(("ss", *_HISSES[1:])):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
