"""The judge and the verifier's network read rendered pictures back, each by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from npcorrect.errors import InputError
from npcorrect.mini.data import sample_pair
from npcorrect.mini.grammar import parse
from npcorrect.mini.model import WEIGHTS
from npcorrect.mini.network import ReaderNetwork
from npcorrect.mini.parts import load_weights
from npcorrect.mini.reader import judge, read
from npcorrect.mini.scene import Scene, Thing, render, to_image
from npcorrect.mini.tensors import to_pixels

SCENES = [sample_pair(random.Random(10_000 + i))[0] for i in range(400)]


def content(scene: Scene) -> object:
    return sorted((t.row, t.column, t.shape, t.color, t.size) for t in scene.things), (
        scene.background
    )


def accuracy(read_all: Callable[[list[Image.Image]], list[Scene]], spoil: bool = False) -> float:
    rng = np.random.default_rng(0)
    images = []
    for scene in SCENES:
        pixels = render(scene)
        if spoil:
            soft = gaussian_filter(pixels.astype(np.float32), (0.6, 0.6, 0))
            noisy = soft + rng.normal(0, 6, pixels.shape)
            pixels = noisy.clip(0, 255).astype(np.uint8)
        images.append(Image.fromarray(pixels))
    found = read_all(images)
    return float(np.mean([content(a) == content(b) for a, b in zip(SCENES, found, strict=True)]))


def test_the_judge_is_right_on_99_of_100_pictures() -> None:
    assert accuracy(lambda images: [read(image) for image in images]) >= 0.99


def test_the_judge_bears_blur_and_noise() -> None:
    assert accuracy(lambda images: [read(image) for image in images], spoil=True) >= 0.99


def test_the_verifiers_network_is_right_on_97_of_100_pictures() -> None:
    network = ReaderNetwork()
    load_weights(network, WEIGHTS / "reader.safetensors")

    def read_all(images: list[Image.Image]) -> list[Scene]:
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
        return [scene for scene, _ in network.eval().read(to_pixels(pixels))]

    assert accuracy(read_all) >= 0.97


def test_touching_objects_of_one_colour_are_told_apart() -> None:
    touching = Scene(
        (
            Thing(0, 0, "square", "red", "large", 2, 2),
            Thing(0, 1, "circle", "red", "large", -2, 0),
            Thing(1, 0, "heart", "red", "large", 0, -2),
        )
    )
    assert content(read(to_image(touching))) == content(touching)


def test_the_judge_decides_on_requirements() -> None:
    picture = to_image(
        Scene((Thing(1, 0, "star", "blue", "small"), Thing(1, 2, "heart", "red", "large")))
    )
    assert judge(parse("one blue star to the left of one red heart"), picture)
    assert not judge(parse("one blue star to the right of one red heart"), picture)
    assert not judge(parse("one blue star"), picture)


def test_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="64 x 64"):
        read(Image.new("RGB", (64, 64)))
