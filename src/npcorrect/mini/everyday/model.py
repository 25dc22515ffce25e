"""The embedded pipeline: a stock ``FluxPipeline`` of small parts, built from ``weights/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextModel, T5EncoderModel

from npcorrect.mini import parts
from npcorrect.mini.everyday.codec import CODE, CellCodec
from npcorrect.mini.everyday.language import MAX_TOKENS, TOKEN_IDS, build_tokenizer

WEIGHTS = Path(__file__).with_name("weights")
SHIFT = 2.5
POOLED_WIDTH = 128


def build_transformer(guidance_embeds: bool) -> FluxTransformer2DModel:
    """FLUX's transformer, 256 wide; with an embedded guidance scale for the distilled student."""
    return parts.build_transformer(CODE, POOLED_WIDTH, guidance_embeds, heads=4)


def build_text_encoders() -> tuple[T5EncoderModel, CLIPTextModel]:
    """Randomly initialised encoders of two layers, for every word that the world knows."""
    words = len(TOKEN_IDS)
    return parts.build_t5(words), parts.build_clip(words, MAX_TOKENS, POOLED_WIDTH)


def assemble(modules: Mapping[str, nn.Module]) -> FluxPipeline:
    """A stock pipeline around the four networks that :func:`load_pipeline` loads."""
    return parts.build_pipeline(modules, build_tokenizer(), SHIFT)


def load_pipeline(weights: Path = WEIGHTS) -> FluxPipeline:
    """The trained pipeline, in evaluation mode.

    Raises:
        ModelError: a weights file is missing or corrupt.
    """
    words, pooled = build_text_encoders()
    modules = {
        "transformer": build_transformer(guidance_embeds=True),
        "text_encoder": pooled,
        "text_encoder_2": words,
        "vae": CellCodec(),
    }
    parts.load_trained(modules, weights)
    return assemble(modules)
