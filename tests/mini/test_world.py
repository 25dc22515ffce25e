"""The world's language, pictures and data hang together."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.errors import PromptError
from npcorrect.mini.data import TAGS, describe, sample_pair, sample_scene, sample_spec
from npcorrect.mini.grammar import (
    RELATIONS,
    VOCABULARY,
    Group,
    Place,
    Spec,
    from_requirements,
    parse,
    satisfied,
)
from npcorrect.mini.scene import BACKGROUND_COLORS, COLORS, PATTERNS, SHAPES, SIZES, render

seeds = st.integers(0, 2**32)
places = st.builds(
    Place, st.sampled_from([None, *PATTERNS]), st.sampled_from([None, *BACKGROUND_COLORS])
)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    shapes = draw(st.lists(st.sampled_from(SHAPES), unique=True, max_size=4))
    groups = tuple(
        Group(
            shape,
            draw(st.none() | st.integers(1, 9)),
            draw(st.sampled_from([None, *COLORS])),
            draw(st.sampled_from([None, *SIZES])),
        )
        for shape in shapes
    )
    relation = draw(st.sampled_from([None, *RELATIONS])) if len(groups) == 2 else None
    place = draw(st.none() | places) if groups else draw(places)
    return Spec(groups, relation, place)


@given(specs())
def test_text_and_requirements_round_trip(spec: Spec) -> None:
    assert parse(spec.text()) == spec
    assert from_requirements(spec.requirements()) == spec
    assert set(spec.text().replace(",", "").split()) <= set(VOCABULARY)


@given(seeds, st.sampled_from(TAGS))
def test_an_exact_scene_meets_its_prompt_and_its_description(seed: int, tag: str) -> None:
    rng = random.Random(seed)
    spec = sample_spec(rng, tag)
    scene = sample_scene(rng, spec)
    assert all(satisfied(claim, scene) for claim in spec.requirements())
    assert all(satisfied(claim, scene) for claim in describe(scene).requirements())


def test_training_captions_are_mostly_but_not_always_true() -> None:
    rng = random.Random(0)
    pairs = [sample_pair(rng) for _ in range(2000)]
    true = [all(satisfied(c, scene) for c in spec.requirements()) for scene, spec in pairs]
    assert 0.6 < np.mean(true) < 0.9


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("three lamps", "'lamps'"),
        ("", "cannot read"),
        ("a red circle and a blue circle", "twice"),
        ("circle red", "cannot read"),
    ],
)
def test_what_the_world_lacks_is_refused_with_the_reason(prompt: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        parse(prompt)


def test_a_loose_prompt_is_read() -> None:
    spec = parse("A photo of 3 red circles, a small star and two hearts on a grey background.")
    assert spec.text() == ("three red circles, one small star and two hearts on a gray background")


def test_wrong_scenes_fail_the_claim_that_is_wrong() -> None:
    rng = random.Random(3)
    scene = sample_scene(rng, parse("three red circles to the left of one blue square"))
    wrong = parse("two green circles to the right of one blue square").requirements()
    failed = {claim.kind for claim in wrong if not satisfied(claim, scene)}
    assert failed == {"count", "attribute", "relation"}
    only = parse("three red circles").requirements()
    assert {c.kind for c in only if not satisfied(c, scene)} == {"only"}


@given(seeds)
def test_pictures_are_bytes_of_the_promised_size(seed: int) -> None:
    scene, _ = sample_pair(random.Random(seed))
    pixels = render(scene)
    assert pixels.shape == (96, 96, 3)
    assert pixels.dtype == np.uint8
