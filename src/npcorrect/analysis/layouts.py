"""Where each family's denoiser attends to text: a row per class of denoiser.

A row names the attention modules in which image tokens can see text tokens, and says which queries
and keys are which. The tests compare every row with the model itself, by changing its text and
looking for the keys that move.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from npcorrect.errors import ModelError


@dataclass(frozen=True)
class Sides:
    """The image tokens among an attention's queries, and the text tokens among its keys."""

    image: slice
    text: slice


SidesOf = Callable[[Mapping[str, Any], int, int, int], Sides]
"""From the denoiser's arguments, a row of its batch, and how many queries and keys there are."""


@dataclass(frozen=True)
class Layout:
    """One family: its attention modules, as a pattern of their names, and its tokens' sides."""

    blocks: str
    sides: SidesOf

    def modules(self, denoiser: nn.Module) -> dict[str, nn.Module]:
        """The denoiser's attention modules by name, in its order; empty where none matches."""
        named = denoiser.named_modules()
        return {name: module for name, module in named if re.fullmatch(self.blocks, name)}


def layout_of(denoiser: nn.Module) -> Layout:
    """The row of a denoiser.

    Raises:
        ModelError: its attention cannot be captured.
    """
    name = type(denoiser).__name__
    if name not in LAYOUTS:
        raise ModelError(
            f"The attention of a {name} cannot be captured; it can for {', '.join(LAYOUTS)}."
        )
    return LAYOUTS[name]


def _text_first(call: Mapping[str, Any], row: int, queries: int, keys: int) -> Sides:
    text = call["encoder_hidden_states"].shape[1]
    return Sides(slice(text, queries), slice(0, text))


def _image_first(call: Mapping[str, Any], row: int, queries: int, keys: int) -> Sides:
    image = keys - call["encoder_hidden_states"].shape[1]
    return Sides(slice(0, image), slice(image, keys))


def _cross(call: Mapping[str, Any], row: int, queries: int, keys: int) -> Sides:
    return Sides(slice(0, queries), slice(0, keys))


def _aura_flow(call: Mapping[str, Any], row: int, queries: int, keys: int) -> Sides:
    """A few tokens of the model's own, the text, then the image, in patches of 2 x 2."""
    image = call["hidden_states"].shape[-2] // 2 * (call["hidden_states"].shape[-1] // 2)
    start = keys - image - call["encoder_hidden_states"].shape[1]
    return Sides(slice(keys - image, queries), slice(start, keys - image))


def _lumina2(call: Mapping[str, Any], row: int, queries: int, keys: int) -> Sides:
    """Each row is its own text without padding, the image, and padding up to the longest row."""
    texts = call["encoder_attention_mask"].sum(dim=1).tolist()
    image = keys - int(max(texts))
    text = int(texts[row])
    return Sides(slice(text, text + image), slice(0, text))


def _z_image(call: Mapping[str, Any], row: int, queries: int, keys: int) -> Sides:
    """Each row is the image, then its own text, each padded to a multiple of 32 tokens."""
    _, frames, height, width = call["x"][row].shape
    patches = frames // call["f_patch_size"] * (height // call["patch_size"])
    image = patches * (width // call["patch_size"])
    start = -(-image // 32) * 32
    return Sides(slice(0, image), slice(start, start + len(call["cap_feats"][row])))


_JOINT = r"(single_)?transformer_blocks\.\d+\.attn"

LAYOUTS: dict[str, Layout] = {
    "FluxTransformer2DModel": Layout(_JOINT, _text_first),
    "Flux2Transformer2DModel": Layout(_JOINT, _text_first),
    "ChromaTransformer2DModel": Layout(_JOINT, _text_first),
    "BriaTransformer2DModel": Layout(_JOINT, _text_first),
    "OvisImageTransformer2DModel": Layout(_JOINT, _text_first),
    "AuraFlowTransformer2DModel": Layout(
        r"(joint|single)_transformer_blocks\.\d+\.attn", _aura_flow
    ),
    "QwenImageTransformer2DModel": Layout(_JOINT, _text_first),
    "Krea2Transformer2DModel": Layout(_JOINT, _text_first),
    "Lumina2Transformer2DModel": Layout(r"layers\.\d+\.attn", _lumina2),
    "Kandinsky5Transformer3DModel": Layout(
        r"visual_transformer_blocks\.\d+\.cross_attention", _cross
    ),
    "SD3Transformer2DModel": Layout(_JOINT, _image_first),
    "PixArtTransformer2DModel": Layout(r"transformer_blocks\.\d+\.attn2", _cross),
    "SanaTransformer2DModel": Layout(r"transformer_blocks\.\d+\.attn2", _cross),
    "UNet2DConditionModel": Layout(r".+\.attn2", _cross),
    "ZImageTransformer2DModel": Layout(r"layers\.\d+\.attention", _z_image),
}
