"""English just deep enough to compare short phrases: numbers, plurals, whether it is English."""

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


_COMMON = word_set("the of and with at by from its there this that on")
_FOREIGN = word_set(
    "ein eine einen einem einer und auf neben zwei drei vier f\u00fcnf ist sind der das dem "
    "un une avec dans deux trois quatre cinq sont c\u00f4t\u00e9 "
    "una sobre dos tres cuatro est\u00e1 junto della dello sul sulla tre quattro cinque accanto "
    "uma dois tr\u00eas quatro s\u00e3o lado een het twee drie vijf naast zijn "
    "och p\u00e5 ett tv\u00e5 trzy dwa jest \u00fc\u00e7 tiga dua merah"
)
"""Words for numbers and places, and articles, of other languages in Latin letters."""


def is_english(text: str) -> bool:
    """Whether a text may be English: by its letters, and by the small words that it has."""
    letters = [character for character in text if character.isalpha()]
    if 5 * sum(not character.isascii() for character in letters) > len(letters):
        return False
    words = [word.strip(".,;:!?") for word in text.casefold().split()]
    foreign = sum(word in _FOREIGN for word in words)
    return not foreign or 5 * foreign < len(words) or not _COMMON.isdisjoint(words)


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
