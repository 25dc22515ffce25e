"""The embedded pipeline: a stock ``FluxPipeline`` of small parts, built from ``weights/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from npcorrect.mini import parts
from npcorrect.mini.autoencoder import CODE
from npcorrect.mini.language import MAX_TOKENS, TOKEN_IDS
from npcorrect.mini.tokenizer import build_tokenizer

if TYPE_CHECKING:
    from diffusers import FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5EncoderModel

WEIGHTS = Path(__file__).with_name("weights")
SHIFT = 2.5
POOLED_WIDTH = 128


def build_transformer(guidance_embeds: bool) -> FluxTransformer2DModel:
    """FLUX's transformer, 256 wide; with an embedded guidance scale for the distilled student."""
    return parts.build_transformer(CODE, POOLED_WIDTH, guidance_embeds)


def build_text_encoders() -> tuple[T5EncoderModel, CLIPTextModel]:
    """Randomly initialised encoders of two layers, for every word that the world knows."""
    words = len(TOKEN_IDS)
    return parts.build_t5(words), parts.build_clip(words, MAX_TOKENS, POOLED_WIDTH)


def build_modules() -> dict[str, nn.Module]:
    """The four networks, randomly initialised, by the name of their weights file."""
    from npcorrect.mini.codec import CellCodec

    words, pooled = build_text_encoders()
    return {
        "transformer": build_transformer(guidance_embeds=True),
        "text_encoder": pooled,
        "text_encoder_2": words,
        "vae": CellCodec(),
    }


def assemble(modules: Mapping[str, nn.Module]) -> FluxPipeline:
    """A stock pipeline around the four networks of :func:`build_modules`."""
    return parts.build_pipeline(modules, build_tokenizer(), SHIFT)


def load_pipeline(weights: Path = WEIGHTS, dtype: torch.dtype = torch.float32) -> FluxPipeline:
    """The trained pipeline, in evaluation mode.

    Raises:
        ModelError: a weights file is missing or corrupt.
    """
    modules = build_modules()
    parts.load_trained(modules, weights, dtype)
    return assemble(modules)
