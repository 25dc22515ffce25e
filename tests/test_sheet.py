"""The sheet is readable whatever people type, and never larger than it has to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npcorrect.fonts import MISSING, font_for, shown
from npcorrect.records import Attempt, Check, Generation, Verdict
from npcorrect.sheet import TILE, sheet, wrapped
from tests.fakes import COUNT, EXISTS
from tests.test_files import GENERATION


def attempt(index: int, seen: str, size: tuple[int, int] = (96, 96)) -> Attempt:
    generation = replace(GENERATION, image=Image.new("RGB", size, "red"))
    checks = (Check(EXISTS, True), Check(COUNT, not seen, seen))
    return Attempt(index=index, generation=generation, verdict=Verdict(checks))


BOTH = (attempt(0, "four circles"), attempt(1, ""))


def reds(picture: Image.Image) -> tuple[int, int]:
    """Width and height of the part that is red."""
    pixels = np.asarray(picture)
    rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_it_shows_one_picture_where_there_is_one() -> None:
    assert reds(sheet("three circles", BOTH[:1])) == (TILE, TILE)
    assert reds(sheet("three circles", BOTH))[0] > 2 * TILE


@pytest.mark.parametrize("size", [(96, 48), (300, 600), (1024, 768)])
def test_pictures_keep_their_proportions(size: tuple[int, int]) -> None:
    width, height = reds(sheet("three circles", [attempt(0, "", size)]))
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    assert max(width, height) == TILE


@pytest.mark.parametrize("prompt", ["three circles and " * 500, "x" * 10_000, "a\nb\x1b[2J " * 99])
def test_long_prompts_are_wrapped_and_end(prompt: str) -> None:
    plain = sheet("three circles", BOTH)
    long = sheet(prompt, BOTH)
    assert long.width == plain.width
    assert plain.height < long.height < plain.height + 120


@pytest.mark.parametrize("text", ["très", "Łódź", "Привет", "Ελληνικά", "→ “quoted” …"])
def test_european_scripts_have_a_font(text: str) -> None:
    assert MISSING not in shown(text, font_for(text, 20))


def test_what_no_font_has_is_shown_as_missing_and_said() -> None:
    unknown = "\U0001fae8\U00013000"
    text = wrapped(unknown, 20, 400, 2)
    assert set("".join(text.lines)) <= {MISSING, *unknown}
    if MISSING in text.lines[0]:
        assert sheet(unknown, BOTH).height > sheet("ab", BOTH).height


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=()), max_size=80))
def test_no_text_is_wider_than_its_place(text: str) -> None:
    made = wrapped(text, 16, 300, 3)
    assert len(made.lines) <= 3
    assert all(made.font.getlength(line) <= 300 for line in made.lines)


def test_a_failed_claim_and_the_negative_are_written() -> None:
    right = replace(BOTH[0], verdict=Verdict((Check(EXISTS, True), Check(COUNT, True))))
    assert sheet("three circles", [BOTH[0]]).height > sheet("three circles", [right]).height
    bare = Generation(
        image=GENERATION.image, drawing=replace(GENERATION.drawing, negative_prompt=None),
        evaluations=1, seconds=0.0,
    )  # fmt: skip
    without = replace(BOTH[1], generation=bare)
    assert sheet("three circles", [BOTH[1]]).height > sheet("three circles", [without]).height
