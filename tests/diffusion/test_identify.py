"""The family of a pipeline that is loaded already."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diffusers import QwenImageTransformer2DModel

import npcorrect
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.identify import family_of_pipeline, identify
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import ModelError
from npcorrect.records import Request
from npcorrect.settings import LoadSettings
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import NEGATIVE, PROMPT, SIZE, build

Models = Callable[[str], PipelineModel]
NAMELESS = [name for name in FAMILIES if not name.endswith("-turbo")]
"""Families that a pipeline's class and configuration tell apart, whatever it is called."""


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_found_as_itself(models: Models, family: str) -> None:
    pipeline = copy(models(family).pipeline)
    pipeline.register_to_config(_name_or_path=FAMILIES[family].checkpoints[0])
    assert family_of_pipeline(pipeline) is FAMILIES[family]


@pytest.mark.parametrize("family", NAMELESS)
def test_a_pipeline_without_a_name_is_no_turbo(models: Models, family: str) -> None:
    pipeline = models(family).pipeline
    assert not pipeline.config.get("_name_or_path")
    assert family_of_pipeline(pipeline) is FAMILIES[family]


def test_a_pipeline_of_no_family_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"A SimpleNamespace is of no family .* family=\.\.\."):
        family_of_pipeline(SimpleNamespace(config={}))


def test_a_pipeline_becomes_a_model_that_draws_as_its_family_does(models: Models) -> None:
    pipeline = models("sdxl").pipeline
    model = npcorrect.from_pipeline(pipeline)
    assert (model.name, model.family.name) == ("StableDiffusionXLPipeline", "sdxl")
    request = Request(PROMPT, steps=2, size=SIZE)
    (expected,) = PipelineModel("x", pipeline, FAMILIES["sdxl"]).draw(
        [resolved(model, request, NEGATIVE)]
    )
    drawn = draw_one(model, resolved(model, request, NEGATIVE))
    np.testing.assert_array_equal(np.asarray(drawn.image), np.asarray(expected.image))


def test_a_family_and_a_name_can_be_told(models: Models) -> None:
    pipeline = models("sdxl").pipeline
    model = npcorrect.from_pipeline(pipeline, name="mine", family="sdxl-turbo")
    assert (model.name, model.family.name) == ("mine", "sdxl-turbo")
    with pytest.raises(ModelError, match="'sdxxl' is unknown; use flux-dev"):
        npcorrect.from_pipeline(pipeline, family="sdxxl")


@pytest.mark.parametrize("family", [None, "qwen-image"])
def test_a_qwen_image_with_embedded_guidance_is_refused_in_a_sentence(
    tmp_path: Path, family: str | None
) -> None:
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    pipeline = copy(build("qwen-image"))
    pipeline.transformer = transformer
    with pytest.raises(ModelError, match=r"guidance_embeds is true.*such as Qwen/Qwen-Image"):
        npcorrect.from_pipeline(pipeline, family=family)
    transformer.save_config(tmp_path / "transformer")
    (tmp_path / "model_index.json").write_text('{"_class_name": "QwenImagePipeline"}')
    with pytest.raises(ModelError, match=r"guidance_embeds is true.*such as Qwen/Qwen-Image"):
        identify(LoadSettings(model=str(tmp_path), family=family))


@pytest.mark.parametrize(
    ("pipeline", "family", "says"),
    [
        ("sdxl", "sd15", "it is a StableDiffusionXLPipeline.*give 'sdxl"),
        ("sd15", "flux-dev", "it is a StableDiffusionPipeline"),
        ("flux-dev", "flux-schnell", "guidance_embeds is true.*give 'flux-dev'"),
        ("flux-schnell", "flux-dev", "guidance_embeds is false.*give 'flux-schnell'"),
    ],
)
def test_a_family_that_is_not_the_pipelines_is_refused(
    pipeline: str, family: str, says: str, models: Models
) -> None:
    with pytest.raises(ModelError, match=says):
        npcorrect.from_pipeline(models(pipeline).pipeline, family=family)


def test_a_pipeline_of_another_class_needs_the_familys_parts(models: Models) -> None:
    strange = SimpleNamespace(config={}, **models("sdxl").pipeline.components)
    assert npcorrect.from_pipeline(strange, family="sdxl").family.name == "sdxl"
    with pytest.raises(ModelError, match="has no transformer"):
        npcorrect.from_pipeline(strange, family="flux-dev")
