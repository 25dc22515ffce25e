"""The sheet is readable whatever people type, and never larger than it has to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npcorrect import fonts
from npcorrect.fonts import font_for, lacks, shown
from npcorrect.records import Attempt, Check, Generation, Verdict
from npcorrect.sheet import TILE, sheet, wrapped
from tests.fakes import COUNT, EXISTS
from tests.test_files import GENERATION


def attempt(index: int, seen: str, size: tuple[int, int] = (96, 96)) -> Attempt:
    generation = replace(GENERATION, image=Image.new("RGB", size, "red"))
    checks = (Check(EXISTS, True), Check(COUNT, not seen, seen))
    return Attempt(index=index, generation=generation, verdict=Verdict(checks))


BOTH = (attempt(0, "four apples"), attempt(1, ""))


def reds(picture: Image.Image) -> tuple[int, int]:
    """Width and height of the part that is red."""
    pixels = np.asarray(picture)
    rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_it_shows_one_picture_where_there_is_one() -> None:
    assert reds(sheet("three apples", BOTH[:1])) == (TILE, TILE)
    assert reds(sheet("three apples", BOTH))[0] > 2 * TILE


@pytest.mark.parametrize("size", [(96, 48), (300, 600), (1024, 768)])
def test_pictures_keep_their_proportions(size: tuple[int, int]) -> None:
    width, height = reds(sheet("three apples", [attempt(0, "", size)]))
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    assert max(width, height) == TILE


@pytest.mark.parametrize("prompt", ["three apples and " * 500, "x" * 10_000, "a\nb\x1b[2J " * 99])
def test_long_prompts_are_wrapped_and_end(prompt: str) -> None:
    plain = sheet("three apples", BOTH)
    long = sheet(prompt, BOTH)
    assert long.width == plain.width
    assert plain.height < long.height < plain.height + 120


@pytest.mark.parametrize("text", ["très", "Łódź", "Привет", "Ελληνικά", "→ “quoted” …"])
def test_european_scripts_have_a_font(text: str) -> None:
    font = font_for(text, 20)
    assert shown(text, font) == text
    assert not lacks(font, text)


@pytest.fixture
def few_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine with DejaVu Sans, and whatever a test puts into the folder."""
    monkeypatch.setattr(fonts, "_PREFERRED", ("DejaVuSans.ttf",))
    monkeypatch.setattr(fonts, "FOLDERS", (tmp_path,))
    for remembered in (fonts._preferred, fonts._installed, fonts._files):
        remembered.cache_clear()
    yield tmp_path
    for remembered in (fonts._preferred, fonts._installed, fonts._files):
        remembered.cache_clear()


@pytest.mark.usefixtures("few_fonts")
def test_what_no_font_has_is_shown_by_its_code_and_said() -> None:
    text = wrapped("a 三 \U0001fae8", 20, 400, 2)
    assert text.lines == (r"a \u4e09 \U0001fae8",)
    assert not text.whole
    assert sheet("三", BOTH).height > sheet("ab", BOTH).height


@pytest.mark.usefixtures("few_fonts")
def test_what_has_a_plain_form_is_shown_in_it() -> None:
    text = wrapped("\uff26\uff55ll \u33d2", 20, 400, 2)
    assert text.lines == ("Full log",)
    assert text.whole


def test_any_font_of_the_machine_that_has_the_characters_is_used(few_fonts: Path) -> None:
    (few_fonts / "broken.ttf").write_bytes(b"no font")
    (few_fonts / "deep").mkdir()
    _font_of("abc三个", few_fonts / "deep" / "own.ttf")
    text = wrapped("三个 abc", 20, 400, 2)
    assert text.lines == ("三个 abc",)
    assert text.whole
    assert text.font.getname()[0] == "Own"
    assert wrapped("abc d", 20, 400, 2).font.getname()[0] == "DejaVu Sans"


def _font_of(characters: str, path: Path) -> None:
    """A font that has these characters, as boxes of different widths."""
    builder = FontBuilder(1000)
    names = [".notdef", *(f"g{ord(c)}" for c in characters)]
    glyphs = {}
    for place, name in enumerate(names):
        pen = TTGlyphPen(None)
        right = 300 + 50 * place
        for number, point in enumerate(((0, 0), (0, 700), (right, 700), (right, 0))):
            (pen.lineTo if number else pen.moveTo)(point)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"g{ord(c)}" for c in characters})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Own", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_no_text_is_wider_than_its_place(text: str) -> None:
    made = wrapped(text, 16, 300, 3)
    assert len(made.lines) <= 3
    assert all(made.font.getlength(line) <= 300 for line in made.lines)


def test_a_failed_claim_and_the_negative_are_written() -> None:
    right = replace(BOTH[0], verdict=Verdict((Check(EXISTS, True), Check(COUNT, True))))
    assert sheet("three apples", [BOTH[0]]).height > sheet("three apples", [right]).height
    bare = Generation(
        image=GENERATION.image, drawing=replace(GENERATION.drawing, negative_prompt=None),
        evaluations=1, seconds=0.0,
    )  # fmt: skip
    without = replace(BOTH[1], generation=bare)
    assert sheet("three apples", [BOTH[1]]).height > sheet("three apples", [without]).height
