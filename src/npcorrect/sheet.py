"""The sheet: the original beside the chosen picture, with what was wrong and what acted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps
from PIL.ImageFont import FreeTypeFont

from npcorrect.faults import abridged, faults, said
from npcorrect.fonts import font_for, lacks, shown
from npcorrect.records import Attempt
from npcorrect.text import one_line

TILE = 400
"""The longest side of a picture on the sheet, in pixels."""
_MARGIN = 20
_COLORS = {True: "#00695c", False: "#b23c00", None: "#555555"}
_NOTE = "\\u… stands for a character that no font here has; result.json has the whole text."


def sheet(prompt: str, attempts: Sequence[Attempt]) -> Image.Image:
    """Pictures side by side under the prompt, each with its verdict, its faults and its negatives.

    Pictures keep their proportions; texts are wrapped, and end after some lines.
    """
    width = len(attempts) * (TILE + _MARGIN) + _MARGIN
    heading = wrapped(f"“{prompt}”", 20, width - 2 * _MARGIN, most=4)
    pictures = [
        ImageOps.contain(
            attempt.generation.image.convert("RGB"), (TILE, TILE), Image.Resampling.LANCZOS
        )
        for attempt in attempts
    ]
    captions = [_caption(attempt) for attempt in attempts]
    notes = _notes(heading, *captions)
    top = _MARGIN + heading.height + 12
    below = top + max(picture.height for picture in pictures) + 10
    foot = below + max(sum(text.height for text in caption) for caption in captions)
    height = foot + sum(note.height for note in notes) + _MARGIN
    canvas = Image.new("RGB", (width, height), "white")
    _write(canvas, (_MARGIN, _MARGIN), [heading])
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _MARGIN + place * (TILE + _MARGIN)
        canvas.paste(picture, (left, top))
        _write(canvas, (left, below), caption)
    _write(canvas, (_MARGIN, foot), notes)
    return canvas


@dataclass(frozen=True)
class Wrapped:
    """Lines of text in a font that has their characters, as far as there is one.

    ``whole`` says whether it has all of them.
    """

    lines: tuple[str, ...]
    font: FreeTypeFont
    color: str
    whole: bool = True

    @property
    def height(self) -> int:
        """The height of all lines, in pixels."""
        return self.line_height * len(self.lines)

    @property
    def line_height(self) -> int:
        """The distance from one line to the next, in pixels."""
        return round(self.font.size * 1.35)


def wrapped(text: str, size: int, width: int, most: int, color: str = "black") -> Wrapped:
    """The text in lines of at most ``width`` pixels, of which the last ends with ``…`` if cut."""
    line = one_line(text)
    font = font_for(line, size)
    lines = [*_lines(shown(line, font).split(), font, width)]
    if len(lines) > most:
        lines = [*lines[: most - 1], _cut(lines[most - 1], font, width)]
    return Wrapped(tuple(lines), font, color, whole=not lacks(font, line))


def _lines(words: Sequence[str], font: FreeTypeFont, width: int) -> Iterator[str]:
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        *full, line = _pieces(word, font, width)
        yield from full
    yield line


def _pieces(word: str, font: FreeTypeFont, width: int) -> Iterator[str]:
    """A word in pieces that fit; scripts without spaces are one word."""
    piece = ""
    for character in word:
        if piece and font.getlength(piece + character) > width:
            yield piece
            piece = ""
        piece += character
    yield piece


def _cut(line: str, font: FreeTypeFont, width: int) -> str:
    while line and font.getlength(f"{line} …") > width:
        line = line[:-1]
    return f"{line.rstrip()} …"


def _caption(attempt: Attempt) -> list[Wrapped]:
    """The verdict, each fault, and what acted."""
    name = f"attempt {attempt.index}" if attempt.index else "original"
    color = _COLORS[attempt.verdict.accepted]
    wrong = faults(attempt.verdict)
    more = [f"and {len(wrong) - 4} more"] if len(wrong) > 5 else []
    texts = [*wrong[: 4 if more else 5], *more, attempt.verdict.error]
    negatives = abridged(attempt.generation.negatives)
    return [
        wrapped(f"{name}: {said(attempt)}", 17, TILE, 1, color),
        *(wrapped(text, 15, TILE, 2, "#333333") for text in texts if text),
        *([wrapped(f"negative: {negatives}", 15, TILE, 3, "#333333")] if negatives else []),
    ]


def _notes(*texts: Wrapped | list[Wrapped]) -> list[Wrapped]:
    """What to say of characters that could not be drawn."""
    every = [one for text in texts for one in (text if isinstance(text, list) else [text])]
    return [] if all(one.whole for one in every) else [wrapped(_NOTE, 13, TILE, 2, "#555555")]


def _write(canvas: Image.Image, place: tuple[int, int], texts: Sequence[Wrapped]) -> None:
    left, top = place
    draw = ImageDraw.Draw(canvas)
    for text in texts:
        for line in text.lines:
            draw.text((left, top), line, fill=text.color, font=text.font)
            top += text.line_height
