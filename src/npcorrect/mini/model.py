"""The embedded pipeline: a stock ``FluxPipeline`` of small parts, built from ``weights/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, normalizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from npcorrect.mini import parts
from npcorrect.mini.autoencoder import LATENT_CHANNELS
from npcorrect.mini.family import MAX_TOKENS
from npcorrect.mini.grammar import VOCABULARY

if TYPE_CHECKING:
    from diffusers import FluxPipeline

WEIGHTS = Path(__file__).with_name("weights")
SHIFT = 3.0
POOLED_WIDTH = 64
_WORDS = parts.word_ids(VOCABULARY)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word; punctuation is dropped; ``</s>`` ends every text."""
    rules = (normalizers.Lowercase(), normalizers.Replace(Regex(r"[^a-z0-9]+"), " "))
    return parts.word_tokenizer(_WORDS, rules, MAX_TOKENS)


def build_modules() -> dict[str, nn.Module]:
    """The four networks, randomly initialised, by the name of their weights file."""
    from npcorrect.mini.codec import MiniCodec

    return {
        "transformer": parts.build_transformer(4 * LATENT_CHANNELS, POOLED_WIDTH),
        "text_encoder": parts.build_clip(len(_WORDS), MAX_TOKENS, POOLED_WIDTH),
        "text_encoder_2": parts.build_t5(len(_WORDS)),
        "vae": MiniCodec(),
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
