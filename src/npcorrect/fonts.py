"""Fonts for what people type, as far as this machine has them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

MISSING = "□"
"""Stands for a character that no font here has."""
_FILES = (
    "DejaVuSans.ttf",
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
_FIRST = "DejaVuSans.ttf"
_NO_CHARACTER = "\U0010fffe"


def font_for(text: str, size: int) -> FreeTypeFont:
    """The first font that has every character of the text, else the one that has most of them."""
    return max(_fonts(size), key=lambda font: sum(_has(font, character) for character in {*text}))


def shown(text: str, font: FreeTypeFont) -> str:
    """The text with :data:`MISSING` for what the font does not have."""
    return "".join(c if c.isspace() or _has(font, c) else MISSING for c in text)


@cache
def _fonts(size: int) -> tuple[FreeTypeFont, ...]:
    return tuple(_load(size))


def _load(size: int) -> Iterator[FreeTypeFont]:
    """The fonts there are: DejaVu Sans, which matplotlib brings, and the system's."""
    for file in (_bundled(), *_FILES):
        try:
            yield ImageFont.truetype(file, size)
        except OSError:
            continue  # not on this machine
    default = ImageFont.load_default(size)
    assert isinstance(default, FreeTypeFont)
    yield default


def _bundled() -> str:
    try:
        return str(
            distribution("matplotlib").locate_file(f"matplotlib/mpl-data/fonts/ttf/{_FIRST}")
        )
    except PackageNotFoundError:
        return _FIRST


@cache
def _has(font: FreeTypeFont, character: str) -> bool:
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))
