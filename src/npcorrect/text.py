"""Text from outside (models, servers, files, users) as terminals and pictures may show it."""

from __future__ import annotations

from unicodedata import category

_UNSHOWN = ("Cc", "Cf", "Cs")
"""Unicode categories of control characters, format characters and lone surrogates."""
_JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need; they move nothing else."""
_BREAKS = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"


def plain(text: str) -> str:
    """The text without what steers a terminal or turns other text around; line feeds stay."""
    return text if text.isprintable() else "".join(map(_plain, text))


def one_line(text: str, most: int = 1000) -> str:
    """The text as :func:`plain` has it, on one line, of at most so many characters."""
    line = " ".join(plain(text[: 4 * most]).split())
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def shown(value: object) -> str:
    """A value as Python writes it, in at most 60 characters: what a message says was given."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        return "too long to show"
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(character: str) -> str:
    if character == "\n" or character.isprintable() or character in _JOINERS:
        return character
    if character in _BREAKS:
        return " "
    return "" if category(character) in _UNSHOWN else character
