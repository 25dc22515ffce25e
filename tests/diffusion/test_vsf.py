"""Value Sign Flip: the paper's attention, computed anew, within FLUX.1 and Stable Diffusion 3.5."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from npcorrect.analysis.trace import trace
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.vsf import flip_mask, flipped, vsf_processor
from npcorrect.errors import ModelError, SettingsError
from npcorrect.records import Generation, Request
from tests.diffusion import forwards, test_families
from tests.diffusion.conftest import STEPS
from tests.diffusion.drawing import resolved
from tests.diffusion.test_families import (
    WITH_VSF,
    assert_batch_is_its_singles,
    counting,
    denoiser,
    drawn_step,
    pixels,
    same,
)
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT

Models = Callable[[str], PipelineModel]
ALPHA, BETA = {"flux-schnell": 6.0, "sd35-turbo": 3.5}, {"flux-schnell": 0.0, "sd35-turbo": 0.1}
"""Scale and offset of the reference's README."""


def draw(model: PipelineModel, negative: str | None = NEGATIVE, **changes: Any) -> Generation:
    return test_families.draw(model, negative, **{"rule": "vsf", **changes})


def by_the_paper(count: int, alpha: float, beta: float) -> forwards.Attend:
    """Each kind of token by itself: what it attends to, with the values that it sees there.

    The last ``count`` of the text's tokens are the negative's.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, text: slice, image: slice) -> Tensor:
        stop = len(range(q.shape[2])[text]) + (text.start or 0) - count
        prompt, negative = slice(text.start, stop), slice(stop, stop + count)

        def seen(query: slice, keys: list[slice], flip: bool = False) -> Tensor:
            logits = [q[:, :, query] @ k[:, :, key].mT / q.shape[-1] ** 0.5 for key in keys]
            values = [v[:, :, key] for key in keys]
            if flip:
                logits[-1], values[-1] = logits[-1] - beta, -alpha * values[-1]
            return torch.cat(logits, -1).softmax(-1) @ torch.cat(values, 2)

        z = torch.empty_like(q)
        z[:, :, image] = seen(image, [image, prompt, negative], flip=True)
        z[:, :, prompt] = seen(prompt, [image, prompt])
        z[:, :, negative] = seen(negative, [image, negative])
        return z

    return attend


def flux_text(pipeline: Any, text: str) -> Tensor:
    states: Tensor = pipeline.text_encoder_2(
        pipeline.tokenizer_2(text, return_tensors="pt").input_ids
    )[0]
    return states


def sd3_text(pipeline: Any, text: str) -> Tensor:
    """CLIP's states side by side, then T5's, none of them padded."""
    clips = []
    for number in ("", "_2"):
        ids = getattr(pipeline, f"tokenizer{number}")(text, return_tensors="pt").input_ids
        encoder = getattr(pipeline, f"text_encoder{number}")
        clips.append(encoder(ids, output_hidden_states=True).hidden_states[-2])
    t5: Tensor = pipeline.text_encoder_3(pipeline.tokenizer_3(text, return_tensors="pt").input_ids)[
        0
    ]
    clip = torch.cat(clips, dim=-1)
    return torch.cat([pad(clip, (0, t5.shape[-1] - clip.shape[-1])), t5], dim=1)


@torch.inference_mode()
@pytest.mark.parametrize("family", WITH_VSF)
def test_a_step_is_the_papers(models: Models, family: str) -> None:
    model = models(family)
    given, found = drawn_step(model, NEGATIVE, "vsf")
    plain = drawn_step(model, None, "nag")[1]
    flux = family == "flux-schnell"
    text = (flux_text if flux else sd3_text)(model.pipeline, NEGATIVE)
    given["encoder_hidden_states"] = torch.cat([given["encoder_hidden_states"], text], dim=1)
    if flux:
        given["txt_ids"] = torch.zeros(given["encoder_hidden_states"].shape[1], 3)
    attend = by_the_paper(text.shape[1], ALPHA[family], BETA[family])
    expected = (forwards.flux if flux else forwards.sd3)(denoiser(model), given, attend)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("family", WITH_VSF)
def test_attention_is_recorded_at_the_prompts_own_tokens(models: Models, family: str) -> None:
    """The picture sees the prompt's tokens and the flipped copies, which are none of the text's."""
    model = models(family)
    with trace(denoiser(model)) as recorded:
        draw(model)
    attention = recorded.of()
    negative = (flux_text if "flux" in family else sd3_text)(model.pipeline, NEGATIVE).shape[1]
    assert not attention.text_SBT[..., -negative:].any()
    assert (attention.text_SBT[..., :-negative] > 0).all()


def test_one_negative_token_by_hand() -> None:
    """A picture of one token, no prompt; all logits are 0, so that all weights are the same."""
    q = k = torch.zeros(1, 1, 2, 1)
    v = torch.tensor([8.0, 3.0]).view(1, 1, 2, 1)
    tokens = slice(0, 0), slice(0, 1), slice(1, 2)
    v = v.flip(2)  # The negative's value is 3, the picture's 8.
    mask = flip_mask(tokens, torch.ones(1, 1, dtype=torch.bool), 0.0)
    found = flipped(scaled_dot_product_attention, q, k, v, tokens, mask, 2.0)
    # The negative sees both, (3 + 8) / 2; the picture itself and -2 x 3, (8 - 6) / 2.
    torch.testing.assert_close(found.flatten(), torch.tensor([5.5, 1.0]))


def test_beta_weakens_the_negative_and_padding_is_not_seen() -> None:
    q = k = torch.zeros(1, 1, 3, 1)
    v = torch.tensor([3.0, 50.0, 8.0]).view(1, 1, 3, 1)
    tokens, seen = (slice(0, 0), slice(0, 2), slice(2, 3)), torch.tensor([[True, False]])
    found = [
        flipped(scaled_dot_product_attention, q, k, v, tokens, flip_mask(tokens, seen, beta), 2.0)[
            0, 0, 2
        ].item()
        for beta in (0.0, 1.0, 100.0)
    ]
    weight = torch.tensor(-1.0).exp().item()
    assert found == pytest.approx([1.0, (8 - 6 * weight) / (1 + weight), 8.0])


@pytest.mark.parametrize("family", WITH_VSF)
def test_it_costs_no_evaluation(models: Models, family: str) -> None:
    model = models(family)
    pictures = []
    for window in range(STEPS + 1):
        with counting(model) as rows:
            drawn = draw(model, first_steps=window)
        assert drawn.evaluations == sum(rows) == STEPS
        pictures.append(drawn.image)
    assert same(pictures[0], draw(model, None).image)
    assert all(not same(a, b) for a, b in pairwise(pictures))


@pytest.mark.parametrize("family", WITH_VSF)
def test_negatives_of_other_lengths_do_not_disturb_each_other(models: Models, family: str) -> None:
    model = models(family)
    texts = (NEGATIVE, f"{OTHER} on a wooden table")
    drawings = [resolved(model, Request(PROMPT, seed=3, rule="vsf"), text) for text in texts]
    assert_batch_is_its_singles(model, drawings)


@pytest.mark.parametrize("family", WITH_VSF)
def test_a_larger_alpha_has_a_larger_effect(models: Models, family: str) -> None:
    model = models(family)
    plain = pixels(draw(model, None, steps=1).image)
    weak, strong = (draw(model, negative_scale=alpha, steps=1) for alpha in (0.5, 8.0))
    assert abs(pixels(weak.image) - plain).mean() < abs(pixels(strong.image) - plain).mean()


def test_it_is_taken_by_the_few_step_families_that_it_is_published_for() -> None:
    assert [name for name, row in FAMILIES.items() if "vsf" in row.rules] == WITH_VSF
    for name in WITH_VSF:
        assert FAMILIES[name].defaults.vsf_scale == ALPHA[name]


@pytest.mark.parametrize("family", WITH_VSF)
def test_looks_are_refused(models: Models, family: str) -> None:
    with pytest.raises(SettingsError, match="'vsf' keeps one negative"):
        models(family).plan(Request(PROMPT, rule="vsf", looks=1))


@pytest.mark.parametrize("times", [0, 2])
def test_other_ways_to_attend_are_refused(times: int) -> None:
    class Other:
        def __call__(self, attn: Any, states: Tensor) -> Tensor:
            for _ in range(times):
                states = scaled_dot_product_attention(states, states, states)
            return states

    processor = vsf_processor(Other(), lambda attend, *given: attend(*given))
    with pytest.raises(ModelError, match="which Other does not compute once; use rule 'nag'"):
        processor(SimpleNamespace(), torch.zeros(1, 1, 2, 2))
