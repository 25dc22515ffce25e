"""Fonts for what people type, as far as this machine has them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path
from unicodedata import category, normalize

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

_FIRST = "DejaVuSans.ttf"
_PREFERRED = (
    _FIRST,
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "Arial Unicode.ttf",
    "arialuni.ttf",
)
"""Fonts of many scripts that systems bring; Pillow looks for them where the system keeps fonts."""
FOLDERS = (
    Path("~/.local/share/fonts"),
    Path("~/.fonts"),
    Path("/usr/local/share/fonts"),
    Path("/usr/share/fonts"),
    Path("~/Library/Fonts"),
    Path("/Library/Fonts"),
    Path("/System/Library/Fonts"),
    Path(os.environ.get("WINDIR", "/nowhere")) / "Fonts",
)
"""Where systems keep fonts; any of them may have what the preferred ones lack."""
_KINDS = (".ttf", ".otf", ".ttc")
_MOST_FILES = 500
_MARKS = ("Mn", "Me", "Cf")
"""Categories of characters that only change others."""
_NO_CHARACTER = "\U0010fffe"


def font_for(text: str, size: int) -> FreeTypeFont:
    """The first font that has every character of the text, else the one that has most of them."""
    needed = frozenset("".join(text.split()))
    best = max(_preferred(size), key=lambda font: _count(font, needed))
    if _count(best, needed) == len(needed):
        return best
    other = _installed(needed)
    font = _opened(other, size) if other else None
    return font if font and _count(font, needed) > _count(best, needed) else best


def shown(text: str, font: FreeTypeFont) -> str:
    """The text as the font can write it; see :func:`escaped`."""
    written = {character: _written(character, font) for character in {*text}}
    return "".join(written[character] for character in text)


def escaped(character: str) -> str:
    r"""What stands for a character that no font here has: ``\u4e09``."""
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lacks(font: FreeTypeFont, text: str) -> bool:
    """Whether the font has to do with codes of some characters of the text."""
    return any(_written(character, font) == escaped(character) for character in {*text})


def _written(character: str, font: FreeTypeFont) -> str:
    """The character, or its plain form, or its code; marks without a glyph are left out."""
    if character.isspace() or _count(font, character):
        return character
    plain = [c for c in normalize("NFKD", character) if category(c) not in _MARKS]
    return "".join(plain) if _count(font, plain) == len(plain) else escaped(character)


@cache
def _preferred(size: int) -> tuple[FreeTypeFont, ...]:
    """DejaVu Sans, which matplotlib brings, and what the system has of :data:`_PREFERRED`."""
    named = (_opened(name, size) for name in (_bundled(), *_PREFERRED))
    default = ImageFont.load_default(size)
    assert isinstance(default, FreeTypeFont)
    return (*filter(None, named), default)


@lru_cache(maxsize=64)
def _installed(needed: frozenset[str]) -> str | None:
    """The file of the font in :data:`FOLDERS` that has most of the characters."""
    best, most = None, 0
    for path in _files():
        font = _opened(path, 16)
        count = _count(font, needed) if font else 0
        if count > most:
            best, most = path, count
        if count == len(needed):
            break
    return best


@cache
def _files() -> tuple[str, ...]:
    files = (path for folder in FOLDERS for path in sorted(folder.expanduser().rglob("*")))
    return tuple(islice((str(p) for p in files if p.suffix.lower() in _KINDS), _MOST_FILES))


def _opened(name: str, size: int) -> FreeTypeFont | None:
    """The font of a file; None where there is none, or it cannot be read."""
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ValueError):
        return None


def _bundled() -> str:
    try:
        return str(
            distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{_FIRST}")
        )
    except PackageNotFoundError:
        return _FIRST


def _count(font: FreeTypeFont, characters: Iterable[str]) -> int:
    """How many of the characters the font has."""
    return sum(_has(font, character) for character in characters)


@lru_cache(maxsize=2048)
def _has(font: FreeTypeFont, character: str) -> bool:
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))
