"""The judge reads rendered pictures right, and says so where nothing can be named."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from npcorrect.errors import InputError
from npcorrect.mini.data import TAGS, sample_scene, sample_spec
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import judge, read
from npcorrect.mini.scene import Scene, Thing, render


def image(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene))


def centred(scene: Scene) -> Scene:
    return replace(scene, things=tuple(replace(t, dx=0, dy=0) for t in scene.things))


@pytest.mark.parametrize("tag", TAGS)
def test_a_rendered_scene_is_read_exactly(tag: str) -> None:
    rng = random.Random(tag)
    spec = sample_spec(rng, tag)
    scene = sample_scene(rng, spec)
    assert read(image(scene)) == centred(scene)
    assert judge(spec, image(scene))


def test_one_wrong_thing_fails_the_prompt() -> None:
    scene = Scene((Thing(0, 0, "cup", "red", "large"), Thing(2, 2, "fork", "gray", "large")))
    assert judge(parse("a red cup and a fork"), image(scene))
    assert not judge(parse("a blue cup and a fork"), image(scene))
    assert not judge(parse("a red cup and a spoon"), image(scene))
    assert not judge(parse("two red cups and a fork"), image(scene))
    assert not judge(parse("a red cup to the right of a fork"), image(scene))


def test_noise_shows_nothing_that_can_be_named() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    assert read(Image.fromarray(noise)).things == ()


def test_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="192 x 192"):
        read(Image.new("RGB", (96, 96)))
