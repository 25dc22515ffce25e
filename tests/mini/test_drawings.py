"""Every kind is drawn, within its cell, and told from the others by its shape alone."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npcorrect.mini.data import sample_pair
from npcorrect.mini.drawings import DRAWINGS
from npcorrect.mini.scene import COLORS, KINDS, SIZES, Thing, draw_cell, render, sprite
from npcorrect.mini.things import THINGS


def test_every_kind_has_a_drawing_a_natural_colour_and_known_companions() -> None:
    assert list(THINGS) == sorted(DRAWINGS) == list(KINDS)
    assert len(KINDS) == 80
    for kind in THINGS.values():
        assert kind.color in COLORS
        assert kind.companion in ("", *THINGS)


def test_no_two_kinds_look_alike_in_one_colour() -> None:
    cells = np.stack([sprite(kind, "red", "medium", 24)[..., :3].ravel() for kind in KINDS])
    unit = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert max(alike[pair] for pair in combinations(range(len(KINDS)), 2)) < 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_large_drawings_stay_within_their_cell(kind: str) -> None:
    coverage = sprite(kind, "red", "large", 64)[..., 3]
    assert coverage.max() == pytest.approx(1, abs=1e-3)
    rim = np.concatenate([coverage[:2], coverage[-2:], coverage[:, :2].T, coverage[:, -2:].T])
    assert rim.max() < 0.25


@pytest.mark.parametrize("color", COLORS)
def test_the_body_takes_the_asked_colour(color: str) -> None:
    cell = draw_cell(Thing(0, 0, "suitcase", color, "large"), "ivory").astype(int)
    near = np.abs(cell - COLORS[color]).max(axis=-1) < 40
    assert near.mean() > 0.12


def test_larger_sizes_cover_more() -> None:
    covered = [float(sprite("dog", "brown", size, 48)[..., 3].sum()) for size in SIZES]
    assert covered == sorted(covered)
    assert covered[0] * 1.5 < covered[1]


@given(st.integers(0, 2**32))
@settings(max_examples=5)
def test_scenes_are_drawn_at_any_resolution(seed: int) -> None:
    scene, _ = sample_pair(random.Random(seed))
    for cell in (16, 64):
        pixels = render(scene, cell)
        assert pixels.shape == (3 * cell, 3 * cell, 3)
        assert pixels.dtype == np.uint8
