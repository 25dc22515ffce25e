"""A negative's schedule in diffusers' modular pipelines: the picture of our own hook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from npcorrect.diffusion.guider import GUIDED, NegativeSchedule, condition
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.rules import RULES
from npcorrect.errors import SettingsError
from npcorrect.records import Request
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT, SIZE, build_modular

STEPS, SCALE, WEIGHT = 6, 4.0, 8.0
CALL = {"num_inference_steps": STEPS, "height": SIZE, "width": SIZE}


@pytest.fixture(scope="module")
def modular() -> Any:
    """A modular pipeline of the tiny model's parts."""
    return build_modular()


def drawn(modular: Any, guider: Any, seed: int = 3, **call: Any) -> list[NDArray[np.int16]]:
    modular.update_components(guider=guider)
    generator = torch.Generator().manual_seed(seed)
    images = modular(prompt=PROMPT, generator=generator, output="images", **(CALL | call))
    return [np.asarray(image).astype(np.int16) for image in images]


def ours(models: Callable[[str], PipelineModel], rule: str, window: tuple[int, int]) -> Any:
    weight = WEIGHT if RULES[rule].weighs else None
    request = Request(
        PROMPT, seed=3, steps=STEPS, scale=SCALE, rule=rule, negative_scale=weight, looks=0
    )
    model = models("sdxl")
    generation = draw_one(model, replace(resolved(model, request, NEGATIVE), window=window))
    return np.asarray(generation.image).astype(np.int16)


@pytest.mark.parametrize("rule", GUIDED)
@pytest.mark.parametrize("window", [(0, 2), (2, 5), (0, 6)])
def test_it_draws_the_picture_of_our_hook(
    rule: str, window: tuple[int, int], models: Callable[[str], PipelineModel], modular: Any
) -> None:
    start, stop = (step / STEPS for step in window)
    guider = NegativeSchedule(
        guidance_scale=SCALE, rule=rule, negative_scale=WEIGHT, start=start, stop=stop
    )
    (plain,) = drawn(modular, guider)
    guider.negative = condition(modular, NEGATIVE, height=SIZE, width=SIZE)
    assert modular.guider is guider
    (picture,) = drawn(modular, guider)
    assert np.abs(picture - ours(models, rule, window)).max() <= 1
    assert not np.array_equal(picture, plain)


def test_without_a_negative_it_is_plain_guidance(modular: Any) -> None:
    from diffusers import ClassifierFreeGuidance

    (plain,) = drawn(modular, ClassifierFreeGuidance(guidance_scale=SCALE), negative_prompt=OTHER)
    (picture,) = drawn(modular, NegativeSchedule(guidance_scale=SCALE), negative_prompt=OTHER)
    assert np.array_equal(plain, picture)


def test_one_negative_serves_several_pictures(modular: Any) -> None:
    guider = NegativeSchedule(guidance_scale=SCALE, stop=0.5)
    guider.negative = condition(modular, NEGATIVE, height=SIZE, width=SIZE)
    several = drawn(modular, guider, num_images_per_prompt=2)
    (one,) = drawn(modular, guider)
    assert len(several) == 2
    assert np.abs(several[0] - one).max() <= 1


def test_a_copy_has_the_same_settings() -> None:
    guider = NegativeSchedule(guidance_scale=SCALE, rule="extra", start=0.25, stop=0.75)
    assert guider.new(stop=0.5).config["stop"] == 0.5
    assert guider.new().config == guider.config


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rule": "nag"}, "use paper, extra, turns"),
        ({"rule": "dynamic"}, r"'dynamic' is none .* use paper, extra, turns\."),
        ({"rule": "nope"}, "'nope'"),
        ({"start": 0.5, "stop": 0.5}, "from 0.5 to 0.5"),
        ({"stop": 1.5}, "to 1.5"),
        ({"guidance_scale": 1.0}, "above 1"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        NegativeSchedule(**settings)


def test_a_negative_of_another_pipeline_is_refused(modular: Any) -> None:
    guider = NegativeSchedule(guidance_scale=SCALE, stop=0.5)
    guider.negative = {"caption": torch.zeros(1, 4)}
    with pytest.raises(SettingsError, match="has caption"):
        drawn(modular, guider)
