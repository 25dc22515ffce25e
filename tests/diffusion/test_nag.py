"""Normalized Attention Guidance: the equations, and that the image alone is guided by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from re import fullmatch
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from npcorrect.diffusion.attention import AttentionSite
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.guidance import nag_rule
from npcorrect.diffusion.nag import NagSpec, attached
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import SettingsError
from npcorrect.records import Generation, Request
from tests.diffusion import forwards, test_families
from tests.diffusion.conftest import STEPS
from tests.diffusion.forwards import heads, together
from tests.diffusion.test_families import (
    WITH_NAG,
    counting,
    denoiser,
    drawn_step,
    pixels,
    same,
    steps_of,
)
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT, SIZE

Models = Callable[[str], PipelineModel]
ONE_STREAM = [name for name in WITH_NAG if not name.startswith("flux-")]
"""Families whose texts differ in their token states alone."""


def draw(model: PipelineModel, negative: str | None = NEGATIVE, **changes: Any) -> Generation:
    return test_families.draw(model, negative, rule="nag", **changes)


def test_the_rule_is_the_papers_by_hand() -> None:
    """One feature vector short enough to compute with a pencil; phi 2, tau 1.5, alpha 0.5."""
    z_pos, z_neg = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0])
    # Extrapolated: (1, -1) + 2 (1, -3) = (3, -7); its L1 norm, 10, is 5 times that of z_pos.
    # Shrunk to 1.5 times: (0.9, -2.1); blended by halves with (1, -1): (0.95, -1.55).
    found = nag_rule(z_pos, z_neg, 2.0, 1.5, 0.5)
    torch.testing.assert_close(found, torch.tensor([0.95, -1.55]))


def test_the_norm_that_tau_limits_may_be_l2() -> None:
    z_pos, z_neg = torch.tensor([3.0, -4.0]), torch.tensor([3.0, 8.0])
    # Extrapolated: (3, -4) + 1 (0, -12) = (3, -16), whose L2 norm is sqrt(265), 3.26 times 5.
    found = nag_rule(z_pos, z_neg, 1.0, 1.0, 1.0, norm=2)
    torch.testing.assert_close(found, torch.tensor([3.0, -16.0]) * 5 / 265**0.5)
    assert not torch.allclose(found, nag_rule(z_pos, z_neg, 1.0, 1.0, 1.0, norm=1))


def test_the_rule_leaves_what_is_short_or_equal_or_zero() -> None:
    z = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nag_rule(z, z, 4.0, 2.5, 0.25), z)
    near = z + 1e-3 * z.roll(1, -1)
    torch.testing.assert_close(nag_rule(z, near, 2.0, 2.5, 1.0), z + 2.0 * (z - near))
    zero = torch.zeros(1, 1, 4)
    assert not nag_rule(zero, zero, 4.0, 2.5, 0.25).any()
    assert nag_rule(zero, zero + 1.0, 4.0, 2.5, 0.25).isfinite().all()


@torch.inference_mode()
def test_cross_attention_equals_the_equations_by_hand() -> None:
    torch.manual_seed(0)
    attention = Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8)
    holder = nn.ModuleDict({"attn2": attention})
    image = torch.randn(1, 6, 16).repeat(2, 1, 1)
    text = torch.randn(2, 5, 12)

    def attended(row: int) -> Any:
        q, k, v = (
            layer(states).unflatten(-1, (2, 8)).transpose(1, 2)
            for layer, states in (
                (attention.to_q, image[row : row + 1]),
                (attention.to_k, text[row : row + 1]),
                (attention.to_v, text[row : row + 1]),
            )
        )
        weights = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    z = nag_rule(attended(0), attended(1), 4.0, 2.5, 0.25)
    expected = attention.to_out[0](z)
    before = attention(image, text)
    with attached(holder, NagSpec((AttentionSite("attn2"),)), 4.0, image):
        found = attention(image, text)
    torch.testing.assert_close(found, expected.repeat(2, 1, 1))
    assert torch.equal(attention(image, text), before)
    assert not torch.allclose(before[:1], expected)


@torch.inference_mode()
@pytest.mark.parametrize("family", ONE_STREAM)
def test_both_halves_keep_one_image_stream(models: Models, family: str) -> None:
    """The image's answer must not depend on the half, whatever goes on in the text streams."""
    model = models(family)
    name = model.family.denoiser
    halves: list[Any] = []
    forward = getattr(model.pipeline, name).forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        sample = output.sample
        rows = torch.stack(sample) if isinstance(sample, list) else sample
        if len(rows) == 2:
            halves.append(rows)
        return output

    recording.__wrapped__ = forward  # type: ignore[attr-defined]
    getattr(model.pipeline, name).forward = recording
    try:
        draw(model)
    finally:
        del getattr(model.pipeline, name).forward
    assert halves
    for rows in halves:
        torch.testing.assert_close(rows[0], rows[1], rtol=1e-3, atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("family", WITH_NAG)
def test_every_kind_of_site_follows_the_equations(models: Models, family: str) -> None:
    """Each site's own inputs again: the stock features, guided by hand, then projected."""
    model = models(family)
    spec, network = model.family.nag, denoiser(model)
    assert spec is not None
    for site in spec.sites:
        name, attention = next(
            (n, m) for n, m in network.named_modules() if fullmatch(site.modules, n)
        )
        calls: list[Any] = []
        handle = attention.register_forward_pre_hook(
            lambda _, args, kwargs, calls=calls: calls.append((args, kwargs)), with_kwargs=True
        )
        draw(model, steps=2)
        handle.remove()
        args, kwargs = next(call for call in calls if len(_first(call)) == 2)
        z, projected = _features(attention, site.projected, args, kwargs)
        count = SIZE // 16 * (SIZE // 16)
        tokens = {"all": slice(None), "first": slice(0, 32), "last": slice(-count, None)}
        width = attention.inner_dim if site.projected and not _listed(attention) else None
        place = (slice(None), tokens[site.tokens], slice(width))
        z_pos, z_neg = z[place].chunk(2)
        expected = z.clone()
        expected[place] = nag_rule(z_pos, z_neg, 4.0, spec.tau, spec.alpha, spec.norm).repeat(
            2, 1, 1
        )
        holder = nn.ModuleDict({"site": attention})
        alone = replace(spec, sites=(replace(site, modules="site"),))
        latents = torch.zeros(2, count, 1) if site.tokens != "first" else [torch.zeros(4, 1, 8, 8)]
        with attached(holder, alone, 4.0, latents):
            found = attention(*args, **kwargs)
        found = found[0] if isinstance(found, tuple) else found
        torch.testing.assert_close(found, projected(expected), msg=f"{family}: {name}")


def _first(call: Any) -> Any:
    args, kwargs = call
    return args[0] if args else kwargs["hidden_states"]


def _listed(attention: Any) -> bool:
    return isinstance(attention.to_out, nn.ModuleList)


def _features(attention: Any, projected: bool, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The features of a stock call before their projection, and what projects them."""
    if not projected:
        return attention(*args, **kwargs), lambda z: z
    projection = attention.to_out[0] if _listed(attention) else attention.to_out
    seen: list[Any] = []
    handle = projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    attention(*args, **kwargs)
    handle.remove()
    scale = getattr(attention, "rescale_output_factor", 1.0)
    assert scale == 1.0
    assert not getattr(attention, "residual_connection", False)
    return seen[0], projection


REFERENCE = {
    "flux-dev": (5, 2.5, 0.25, 2),
    "flux-schnell": (5, 2.5, 0.25, 2),
    "sd3": (5, 2.5, 0.125, 1),
    "sd35": (5, 2.5, 0.125, 1),
    "sd35-turbo": (5, 2.5, 0.125, 1),
    "sdxl": (3, 2.5, 0.5, 1),
    "sdxl-turbo": (3, 2.5, 0.5, 1),
}
"""``nag_scale``, ``nag_tau`` and ``nag_alpha`` of the reference's README and pipelines, and the p
of its ``torch.norm``."""


def reference_guidance(z_pos: Tensor, z_neg: Tensor, family: str) -> Tensor:
    """The features that the reference goes on with, by its own form of the equations."""
    nag_scale, tau, alpha, p = REFERENCE[family]
    guidance = z_pos * nag_scale - z_neg * (nag_scale - 1)
    ratio = guidance.norm(p=p, dim=-1, keepdim=True) / z_pos.norm(p=p, dim=-1, keepdim=True)
    limited: Tensor = guidance * torch.minimum(ratio, torch.full_like(ratio, tau)) / ratio
    return limited * alpha + z_pos * (1 - alpha)


def reference_attention(family: str) -> Any:
    """Joint attention of two halves; the image's tokens are guided in both."""

    def attend(q: Tensor, k: Tensor, v: Tensor, text: slice, image: slice) -> Tensor:
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        z = together(weights @ v)
        z_pos, z_neg = z[:, image].chunk(2)
        z[:, image] = reference_guidance(z_pos, z_neg, family).repeat(2, 1, 1)
        return heads(z, q.shape[1])

    return attend


def reference_flux(model: PipelineModel, given: dict[str, Any], pooled: bool) -> Tensor:
    """One image for two texts in the double blocks; each half its own pooled embedding.

    Without ``pooled`` both halves have the prompt's.
    """
    states, vectors, _ = model.pipeline.encode_prompt(
        [PROMPT, NEGATIVE], None, max_sequence_length=96
    )
    given |= {
        "encoder_hidden_states": states,
        "pooled_projections": vectors if pooled else vectors[:1].repeat(2, 1),
    }
    return forwards.flux(denoiser(model), given, reference_attention(model.name))


def reference_sd3(model: PipelineModel, given: dict[str, Any]) -> Tensor:
    """The prompt's pooled embedding in both halves."""
    (states, _, vector, _), (negative, *_) = (
        model.pipeline.encode_prompt(
            t, t, t, do_classifier_free_guidance=False, max_sequence_length=96
        )
        for t in (PROMPT, NEGATIVE)
    )
    given |= {
        "encoder_hidden_states": torch.cat([states, negative]),
        "pooled_projections": vector.repeat(2, 1),
    }
    return forwards.sd3(denoiser(model), given, reference_attention(model.name))


def reference_sdxl(model: PipelineModel, given: dict[str, Any]) -> Tensor:
    """One image; only cross-attention knows of the negative's text."""
    network: Any = denoiser(model)

    def cross(attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        q = heads(attn.to_q(hidden_states).repeat(2, 1, 1), attn.heads)
        k, v = (heads(to(encoder_hidden_states), attn.heads) for to in (attn.to_k, attn.to_v))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        z_pos, z_neg = together(weights @ v).chunk(2)
        projected: Tensor = attn.to_out[0](reference_guidance(z_pos, z_neg, model.name))
        return projected

    states = [
        model.pipeline.encode_prompt(t, do_classifier_free_guidance=False)[0]
        for t in (PROMPT, NEGATIVE)
    ]
    given |= {"encoder_hidden_states": torch.cat(states), "return_dict": False}
    stock = network.attn_processors
    network.set_attn_processor(
        {name: cross if "attn2" in name else own for name, own in stock.items()}
    )
    try:
        predicted: Tensor = network(**given)[0]
        return predicted
    finally:
        network.set_attn_processor(stock)


@torch.inference_mode()
@pytest.mark.parametrize("family", ["flux-dev", "flux-schnell", "sd35-turbo", "sdxl-turbo"])
def test_a_step_is_the_references(models: Models, family: str) -> None:
    model = models(family)
    given, found = drawn_step(model, NEGATIVE, "nag")
    if family.startswith("flux"):
        expected = reference_flux(model, given, pooled=True)
        plain = drawn_step(model, None, "nag")[1]
        kept = reference_flux(model, given, pooled=False)
        assert (kept - plain).norm() < (expected - plain).norm()
    else:
        reference = reference_sd3 if family.startswith("sd3") else reference_sdxl
        expected = reference(model, given)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, drawn_step(model, None, "nag")[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", REFERENCE)
def test_strengths_are_the_references(family: str) -> None:
    nag_scale, *strength = REFERENCE[family]
    row = FAMILIES[family]
    assert row.nag is not None
    assert [row.nag.tau, row.nag.alpha, row.nag.norm] == strength
    assert row.defaults.nag_scale == nag_scale - 1


@pytest.mark.parametrize("family", WITH_NAG)
def test_the_window_applies_and_evaluations_are_counted(models: Models, family: str) -> None:
    model = models(family)
    branches = 1 if model.family.after == "alone" else 2
    pictures = []
    for window in range(STEPS + 1):
        with counting(model) as rows:
            drawn = draw(model, first_steps=window)
        extra = steps_of(model, window)
        assert drawn.evaluations == sum(rows) == branches * steps_of(model) + extra
        pictures.append(drawn.image)
    plain = draw(model, None)
    assert plain.evaluations == branches * steps_of(model)
    assert same(pictures[0], plain.image)
    for earlier, later in pairwise(pictures):
        assert not same(earlier, later)


@pytest.mark.parametrize("family", WITH_NAG)
def test_the_prompt_as_its_own_negative_changes_nothing(models: Models, family: str) -> None:
    """Where both texts are read alike; Sana reads a prompt behind an instruction."""
    if family == "sana":
        pytest.skip("a negative is read without the instruction that stands before a prompt")
    model = models(family)
    difference = pixels(draw(model, PROMPT).image) - pixels(draw(model, None).image)
    assert abs(difference).max() <= 2
    assert not same(draw(model, OTHER).image, draw(model, None).image)


@pytest.mark.parametrize("family", WITH_NAG)
def test_a_scale_of_nothing_and_looks_are_refused(models: Models, family: str) -> None:
    model = models(family)
    with pytest.raises(SettingsError, match=r"'negative-scale' is 0\.0; give .* above 0"):
        model.plan(Request(PROMPT, rule="nag", negative_scale=0.0))
    with pytest.raises(SettingsError, match="keeps one negative"):
        model.plan(Request(PROMPT, rule="nag", looks=1))


def test_distilled_models_take_nag_by_default() -> None:
    for family in FAMILIES.values():
        assert (family.defaults.rule == "nag") == bool(family.distilled)
        assert family.defaults.rule in family.rules


def test_a_negative_scale_of_nag_is_its_phi(models: Models) -> None:
    weak, strong = (draw(models("flux-schnell"), negative_scale=scale) for scale in (0.1, 8.0))
    plain = np.asarray(draw(models("flux-schnell"), None).image).astype(int)
    assert abs(pixels(weak.image) - plain).mean() < abs(pixels(strong.image) - plain).mean()
