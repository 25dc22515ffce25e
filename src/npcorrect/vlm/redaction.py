"""What may be shown or kept of texts from outside: never a key, no control characters."""

from __future__ import annotations

import re
import unicodedata

SHORTEST = 8
"""Characters from which on a key is a secret; servers without keys are given "EMPTY" or "1"."""
RAW_KEPT = 2000
"""Characters of a raw reply that are kept."""
_MASK = "[key]"


class Redactor:
    """Replaces keys in what is shown or stored, however their characters are escaped."""

    def __init__(self, *keys: str) -> None:
        secrets = [_spelt(key) for key in keys if len(key) >= SHORTEST]
        self._pattern = re.compile("|".join(secrets)) if secrets else None

    def __call__(self, text: str) -> str:
        """The text with a mask in place of each key."""
        return self._pattern.sub(_MASK, text) if self._pattern else text

    def line(self, text: str, length: int = 300) -> str:
        """The text as one printable line, without the key."""
        words = printable(self(text)).split()
        return " ".join(words)[:length]

    def raw(self, text: str) -> str:
        """The text as far as it is kept, without the key."""
        return self(text)[:RAW_KEPT]


def printable(text: str) -> str:
    """The text without control, format and surrogate characters, line breaks and tabs as blanks."""
    spaced = re.sub(r"\s", " ", text)
    return "".join(c for c in spaced if unicodedata.category(c)[0] != "C")


def _spelt(key: str) -> str:
    """A pattern of the ways to write a key."""
    return "".join(map(_spellings, re.findall(r"\\+|[^\\]", key)))


def _spellings(run: str) -> str:
    """A pattern of the ways to write a character: itself, or in JSON, an address or HTML.

    Backslashes in a row are one: each may stand for itself or escape the next.
    """
    code, count = ord(run[0]), len(run)
    itself = rf"\\{{{count},{16 * count}}}+" if run[0] == "\\" else rf"\\{{0,4}}{re.escape(run)}"
    ways = (
        rf"\\{{1,4}}[ux](?i:0{{0,2}}{code:02x})",
        rf"%(?i:{code:02x})",
        rf"&#(?:0{{0,4}}{code}|(?i:x0{{0,4}}{code:x}));",
    )
    return f"(?:{itself}|(?:{'|'.join(ways)}){{{count}}})"
