"""The forward passes of FLUX.1 and SD 3 written anew, with attention as a parameter.

So a rule within attention can be compared with what its paper or its reference computes. Rows of
images may be fewer than rows of texts: the reference of NAG carries one image for two texts through
the blocks that keep the streams apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, slice, slice], Tensor]
"""Queries, keys and values ``(R, H, T, D)``, and which of their tokens are the text's and the
image's; returns features of the same shape, of which the image's in the first rows are used."""


def heads(states: Tensor, count: int) -> Tensor:
    rows, tokens, _ = states.shape
    return states.view(rows, tokens, count, -1).transpose(1, 2)


def together(features: Tensor) -> Tensor:
    return features.transpose(1, 2).flatten(2)


def normed(norm: Any, states: Tensor) -> Tensor:
    normal: Tensor = states if norm is None else norm(states)
    return normal


def joint(
    attn: Any, image: Tensor, text: Tensor, text_first: bool, rotary: Any, attend: Attend
) -> tuple[Tensor, Tensor]:
    """Joint attention before its projections; both results have a row for each text."""
    rows, n, size = len(text), text.shape[1], image.shape[1]
    image = image.repeat(rows // len(image), 1, 1)
    where = (slice(0, n), slice(n, None)) if text_first else (slice(size, None), slice(0, size))

    def both(of_image: Any, of_text: Any, image_norm: Any = None, text_norm: Any = None) -> Tensor:
        parts = [
            normed(text_norm, heads(of_text(text), attn.heads)),
            normed(image_norm, heads(of_image(image), attn.heads)),
        ]
        return torch.cat(parts if text_first else parts[::-1], dim=2)

    q = both(attn.to_q, attn.add_q_proj, attn.norm_q, attn.norm_added_q)
    k = both(attn.to_k, attn.add_k_proj, attn.norm_k, attn.norm_added_k)
    v = both(attn.to_v, attn.add_v_proj)
    if rotary is not None:
        q, k = apply_rotary_emb(q, rotary), apply_rotary_emb(k, rotary)
    z = together(attend(q, k, v, *where))
    return z[:, where[1]], z[:, where[0]]


def flux(network: Any, given: dict[str, Any], attend: Attend) -> Tensor:
    """The prediction for the rows of ``given["hidden_states"]``; texts may have twice as many."""
    text = network.context_embedder(given["encoder_hidden_states"])
    image = network.x_embedder(given["hidden_states"])
    rows, pictures, n = len(text), len(image), text.shape[1]
    times = [given["timestep"].expand(rows) * 1000]
    if given.get("guidance") is not None:
        times.append(given["guidance"].expand(rows) * 1000)
    emb = network.time_text_embed(*times, given["pooled_projections"])
    rotary = network.pos_embed(torch.cat([given["txt_ids"], given["img_ids"]]))
    for block in network.transformer_blocks:
        h, gate, shift, scale, mlp_gate = block.norm1(image, emb=emb[:pictures])
        c, c_gate, c_shift, c_scale, c_mlp_gate = block.norm1_context(text, emb=emb)
        z_image, z_text = joint(block.attn, h, c, True, rotary, attend)
        image = image + gate[:, None] * block.attn.to_out[0](z_image[:pictures])
        text = text + c_gate[:, None] * block.attn.to_add_out(z_text)
        h = block.norm2(image) * (1 + scale[:, None]) + shift[:, None]
        image = image + mlp_gate[:, None] * block.ff(h)
        c = block.norm2_context(text) * (1 + c_scale[:, None]) + c_shift[:, None]
        text = text + c_mlp_gate[:, None] * block.ff_context(c)
    stream = torch.cat([text, image.repeat(rows // pictures, 1, 1)], dim=1)
    for block in network.single_transformer_blocks:
        h, gate = block.norm(stream, emb=emb)
        attn = block.attn
        q, k, v = (heads(layer(h), attn.heads) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = (
            apply_rotary_emb(norm(x), rotary) for norm, x in ((attn.norm_q, q), (attn.norm_k, k))
        )
        z = together(attend(q, k, v, slice(0, n), slice(n, None)))
        mlp = block.act_mlp(block.proj_mlp(h))
        stream = stream + gate[:, None] * block.proj_out(torch.cat([z, mlp], dim=2))
    out: Tensor = network.proj_out(network.norm_out(stream[:pictures, n:], emb[:pictures]))
    return out


def sd3(network: Any, given: dict[str, Any], attend: Attend) -> Tensor:
    """As :func:`flux`, for SD 3 and 3.5."""
    noisy = given["hidden_states"]
    text = network.context_embedder(given["encoder_hidden_states"])
    image = network.pos_embed(noisy)
    rows, pictures = len(text), len(image)
    emb = network.time_text_embed(given["timestep"].expand(rows), given["pooled_projections"])
    own = emb[:pictures]
    for block in network.transformer_blocks:
        h, gate, shift, scale, mlp_gate, *second = block.norm1(image, emb=own)
        last = block.context_pre_only
        if last:
            c = block.norm1_context(text, emb)
        else:
            c, c_gate, c_shift, c_scale, c_mlp_gate = block.norm1_context(text, emb=emb)
        z_image, z_text = joint(block.attn, h, c, False, None, attend)
        image = image + gate[:, None] * block.attn.to_out[0](z_image[:pictures])
        if second:
            image = image + second[1][:, None] * block.attn2(second[0])
        h = block.norm2(image) * (1 + scale[:, None]) + shift[:, None]
        image = image + mlp_gate[:, None] * block.ff(h)
        if not last:
            text = text + c_gate[:, None] * block.attn.to_add_out(z_text)
            c = block.norm2_context(text) * (1 + c_scale[:, None]) + c_shift[:, None]
            text = text + c_mlp_gate[:, None] * block.ff_context(c)
    out = network.proj_out(network.norm_out(image, own))
    size, (height, width) = network.config.patch_size, noisy.shape[-2:]
    out = out.reshape(len(out), height // size, width // size, size, size, -1)
    return torch.einsum("nhwpqc->nchpwq", out).reshape(len(out), -1, height, width)
