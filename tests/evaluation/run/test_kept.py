"""How much of the first picture is kept."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npcorrect.evaluation.run.kept import BLOCKS, TOLERANCE, kept

SIZE = 96
BLOCK = SIZE // BLOCKS
SEEDS = st.integers(0, 2**32 - 1)


def noise(seed: int, size: tuple[int, int] = (SIZE, SIZE), low: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(low, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def scene(seed: int, side: int) -> Image.Image:
    """Large soft shapes, as pictures have and noise has not."""
    return noise(seed, (6, 6)).resize((side, side), Image.Resampling.BICUBIC)


@given(SEEDS, st.sampled_from([(8, 8), (96, 96), (50, 71), (1, 1), (3, 200)]))
def test_the_same_picture_is_kept_whole(seed: int, size: tuple[int, int]) -> None:
    assert kept(noise(seed, size), noise(seed, size)) == 1


@given(SEEDS, SEEDS)
def test_it_is_a_share_and_does_not_matter_which_is_first(one: int, other: int) -> None:
    first, second = scene(one, 64), scene(other, 64)
    assert 0 <= kept(first, second) == kept(second, first) <= 1


@given(SEEDS, st.sets(st.tuples(*[st.integers(0, BLOCKS - 1)] * 2)))
def test_changed_blocks_are_lost_and_no_others(seed: int, blocks: set[tuple[int, int]]) -> None:
    first = noise(seed, low=128)
    changed = first.copy()
    for x, y in blocks:
        changed.paste((0, 0, 0), (x * BLOCK, y * BLOCK, (x + 1) * BLOCK, (y + 1) * BLOCK))
    assert kept(first, changed) == pytest.approx(1 - len(blocks) / BLOCKS**2)


@given(SEEDS, st.sampled_from([192, 256, 333]), st.sampled_from([75, 90]))
def test_what_jpeg_does_to_a_picture_is_forgiven(seed: int, side: int, quality: int) -> None:
    file = BytesIO()
    scene(seed, side).save(file, format="JPEG", quality=quality)
    assert kept(scene(seed, side), Image.open(file)) == 1


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_shade_may_differ_by_the_tolerance(one: int, other: int) -> None:
    first, second = (Image.new("L", (48, 48), shade) for shade in (one, other))
    assert kept(first, second) == (abs(one - other) <= TOLERANCE)


def test_a_texture_that_moved_has_changed_though_its_mean_has_not() -> None:
    stripes = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    stripes[:, ::BLOCK] = stripes[:, 1::BLOCK] = 255
    moved = np.roll(stripes, BLOCK // 2, axis=1)
    assert stripes.reshape(SIZE, BLOCKS, BLOCK, 3).mean((0, 2, 3)).std() == 0
    assert kept(Image.fromarray(stripes), Image.fromarray(moved)) == 0


def test_pictures_of_other_sizes_and_modes_are_compared_as_if_scaled() -> None:
    first = noise(1, (12, 12)).resize((96, 96), Image.Resampling.NEAREST)
    assert kept(first, first.resize((192, 144), Image.Resampling.NEAREST)) == 1
    assert kept(first, first.convert("RGBA")) == 1
    grey = first.convert("L")
    assert kept(grey, grey.convert("RGB")) == 1
    assert kept(first, noise(2)) < 0.1
