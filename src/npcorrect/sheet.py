"""The sheet: the original beside the chosen picture, with what was wrong and what acted."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from textwrap import fill

from PIL import Image, ImageDraw, ImageFont

from npcorrect.files import abridged
from npcorrect.records import Attempt

_TILE = 320
_MARGIN = 16


def sheet(prompt: str, attempts: Sequence[Attempt]) -> Image.Image:
    """Pictures side by side under the prompt, each captioned."""
    text_height = 84
    title, body = ImageFont.load_default(18), ImageFont.load_default(15)
    heading = f"“{prompt}”"
    width = _MARGIN + max(
        len(attempts) * (_TILE + _MARGIN), ceil(title.getlength(heading)) + _MARGIN
    )
    canvas = Image.new("RGB", (width, _TILE + text_height + 2 * _MARGIN + 28), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN - 4), heading, fill="black", font=title)
    for i, attempt in enumerate(attempts):
        left, top = _MARGIN + i * (_TILE + _MARGIN), _MARGIN + 28
        picture = attempt.generation.image.convert("RGB")
        canvas.paste(picture.resize((_TILE, _TILE), Image.Resampling.LANCZOS), (left, top))
        color, text = _words(attempt)
        wrapped = fill(text, 42, max_lines=4, placeholder=" …")
        draw.multiline_text((left, top + _TILE + 8), wrapped, fill=color, font=body)
    return canvas


def _words(attempt: Attempt) -> tuple[str, str]:
    accepted = attempt.verdict.accepted
    mark = {True: "accepted", False: "not accepted", None: "unscored"}[accepted]
    color = {True: "#00695c", False: "#b23c00", None: "#555555"}[accepted]
    failed = [c.requirement.text for c in attempt.verdict.checks if c.passed is False]
    if attempt.ranked:
        return color, f"{mark}; negatives: {abridged(attempt.generation.negatives)}"
    return color, f"original, {mark}" + (f"; failed: {failed[0]}" if failed else "")
