"""Beginning with a picture that exists, and ending early."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image

import npcorrect
from npcorrect.diffusion.base import Cancelled, Watch
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.restart import Clean
from npcorrect.errors import ModelError, PromptError, SettingsError
from npcorrect.mini.embedded import embedded
from npcorrect.records import Request
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.test_families import counting
from tests.diffusion.tiny import NEGATIVE, PROMPT, SIZE, build

Models = Callable[[str], PipelineModel]
ENCODING = [name for name, family in FAMILIES.items() if family.encode is not None]


def picture(side: int = SIZE) -> Image.Image:
    """Noise, so that no two places are alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def asked(model: PipelineModel, **changes: Any) -> Request:
    """A redrawing that takes half of its four steps, where the family has rules for it."""
    guided = {} if model.family.distilled else {"rule": "extra", "strength": 0.5}
    return Request(PROMPT, **{"seed": 3, "steps": 4, **guided, **changes})


@torch.inference_mode()
@pytest.mark.parametrize("family", ENCODING)
def test_a_picture_that_exists_is_encoded(models: Models, family: str) -> None:
    model = models(family)
    drawing = resolved(model, asked(model))
    origin = model.origin(picture(), drawing)
    drawn = draw_one(model, drawing).origin
    assert origin is not None
    assert drawn is not None
    assert origin.model == model.name
    np.testing.assert_array_equal(origin.sigmas, drawn.sigmas)
    assert origin.latents.shape == drawn.latents.shape
    pixels = torch.tensor(np.asarray(picture())).permute(2, 0, 1)[None] / 127.5 - 1
    vae = model.pipeline.vae
    latents = vae.encode(pixels).latent_dist.mode()
    scaled = (latents - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    if origin.latents.ndim == 3:
        rows, columns = (side // 2 for side in scaled.shape[2:])
        tokens = scaled.reshape(1, -1, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
        scaled = tokens.reshape(1, rows * columns, -1)
    np.testing.assert_allclose(origin.latents, scaled.numpy(), rtol=1e-4, atol=1e-4)


def test_a_picture_of_another_size_is_fitted(models: Models) -> None:
    model = models("sd3")
    drawing = resolved(model, asked(model))
    large = model.origin(picture(96).convert("RGBA"), drawing)
    assert large is not None
    small = model.origin(picture(96).resize((SIZE, SIZE)), drawing)
    assert small is not None
    np.testing.assert_array_equal(large.latents, small.latents)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ENCODING])
def test_families_that_cannot_begin_with_a_picture_have_no_origin(
    models: Models, family: str
) -> None:
    model = models(family)
    assert model.origin(picture(), resolved(model, Request(PROMPT))) is None


def test_nor_has_a_family_whose_scheduler_was_changed(models: Models) -> None:
    pipeline = copy(models("sd3").pipeline)
    pipeline.scheduler = EulerDiscreteScheduler()
    model = PipelineModel("changed", pipeline, FAMILIES["sd3"], models("sd3").defaults)
    assert model.origin(picture(), resolved(model, Request(PROMPT))) is None
    with pytest.raises(SettingsError, match="cannot begin with a noised picture"):
        model.plan(asked(model))


@torch.inference_mode()
def test_a_redrawing_begins_with_the_noised_origin(models: Models) -> None:
    model = models("sd3")
    origin = model.origin(picture(), resolved(model, asked(model)))
    assert origin is not None
    drawing = resolved(model, asked(model), NEGATIVE, attempt=1, origin=origin)
    assert drawing.restart_step == 2
    seen: list[torch.Tensor] = []
    handle = model.stock.denoiser.register_forward_hook(
        lambda _module, _args, kwargs, _output: seen.append(kwargs["hidden_states"]),
        with_kwargs=True,
    )
    try:
        with counting(model) as rows:
            drawn = draw_one(model, drawing)
    finally:
        handle.remove()
    begun = Clean(torch.from_numpy(origin.latents), torch.from_numpy(origin.sigmas))
    expected = begun.noised(2, model.stock.noise(drawing, [drawing.seed])).latents
    torch.testing.assert_close(seen[0][:1], expected)
    assert drawn.start_step == 2
    assert drawn.evaluations == sum(rows) == 2 * 3


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_another_models_origin_is_an_error(models: Models, strength: float) -> None:
    other, model = models("sd3"), models("sd35")
    origin = draw_one(other, resolved(other, asked(other))).origin
    request = asked(model, strength=strength)
    drawing = replace(resolved(model, request, NEGATIVE), origin=origin)
    with pytest.raises(ModelError, match="'sd35' cannot begin with a picture of 'sd3'"):
        model.draw([drawing])


def test_an_origin_of_another_schedule_is_an_error(models: Models) -> None:
    model = models("sd3")
    origin = draw_one(model, resolved(model, asked(model))).origin
    drawing = resolved(model, asked(model, steps=6), NEGATIVE, origin=origin)
    with pytest.raises(ModelError, match="drawn in 4 steps and this one has 6"):
        model.draw([drawing])


@pytest.mark.parametrize("family", ["flux-dev", "sd3", "sana"])
@pytest.mark.parametrize("done", [0, 1])
def test_a_cancelled_drawing_ends_and_leaves_nothing(
    models: Models, family: str, done: int
) -> None:
    model = models(family)
    drawing = resolved(model, Request(PROMPT, seed=3, rule="extra"), NEGATIVE)
    steps: list[int] = []
    watch = Watch(lambda step, _: steps.append(step), cancelled=lambda: len(steps) >= done)
    with counting(model) as rows, pytest.raises(Cancelled):
        model.draw([drawing], watch)
    assert len(steps) == done
    assert sum(rows) == 3 * done
    denoiser: Any = model.stock.denoiser
    assert not getattr(denoiser, "_diffusers_hook", None) or not denoiser._diffusers_hook.hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.modules())


def test_a_cancelled_batch_draws_none_of_the_others(models: Models) -> None:
    model = models("flux-dev")
    request = Request(PROMPT, seed=3, rule="turns", scale=3.0)
    drawings = [resolved(model, request, NEGATIVE)] * 2
    steps: list[int] = []
    total = drawings[0].num_inference_steps
    watch = Watch(lambda step, _: steps.append(step), cancelled=lambda: len(steps) == total + 1)
    with pytest.raises(Cancelled):
        model.draw(drawings, watch)
    assert steps == [*range(1, total + 1), 1]


def test_the_embedded_model_redraws_a_picture_that_was_drawn_elsewhere() -> None:
    model = embedded()
    drawn = draw_one(model, resolved(model, Request("two red apples", steps=8)))
    elsewhere = Image.fromarray(np.asarray(drawn.image))
    origin = model.origin(elsewhere, drawn.drawing)
    assert origin is not None
    assert drawn.origin is not None
    alike = np.corrcoef(origin.latents.ravel(), drawn.origin.latents.ravel())[0, 1]
    assert alike > 0.95
    result = npcorrect.correct_prompt(
        "one blue banana",
        model=model,
        original=elsewhere,
        steps=8,
        candidates=1,
        looks=0,
        rewinds=0,
        rule="turns",
        strength=2 / 3,
    )
    first, second = (attempt.generation for attempt in result.attempts)
    assert first.image is elsewhere
    assert (first.evaluations, second.start_step) == (0, 8 - round(8 * 2 / 3))
    assert not np.array_equal(np.asarray(second.image), np.asarray(elsewhere))


@pytest.mark.parametrize("vectors", [1, 8])
def test_a_token_of_a_textual_inversion_counts_as_it_is_read(vectors: int) -> None:
    pipeline: Any = build("sd15")
    width = pipeline.text_encoder.get_input_embeddings().weight.shape[1]
    pipeline.load_textual_inversion(torch.randn(vectors, width), token="<toy>")
    model = npcorrect.from_pipeline(pipeline)
    (states,) = model.encode(["a <toy>"])
    assert len(states.states) == 3 + vectors, "with the begin and the end"
    fitting = 74 // vectors
    model.check_text("a " + "<toy> " * fitting)
    with pytest.raises(PromptError, match=f"{3 + vectors * (fitting + 1)} tokens"):
        model.check_text("a " + "<toy> " * (fitting + 1))
