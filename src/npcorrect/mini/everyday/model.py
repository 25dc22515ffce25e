"""The embedded pipeline: a stock ``FluxPipeline`` of small parts, built from ``weights/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from npcorrect.errors import ModelError
from npcorrect.mini.everyday.codec import CODE, CellCodec
from npcorrect.mini.everyday.language import MAX_TOKENS, TOKEN_IDS, build_tokenizer

WEIGHTS = Path(__file__).with_name("weights")
SHIFT = 2.5
TEXT_WIDTH = 128
POOLED_WIDTH = 128


def build_transformer(guidance_embeds: bool) -> FluxTransformer2DModel:
    """FLUX's transformer, 192 wide; with an embedded guidance scale for the distilled student."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=CODE,
        num_layers=2,
        num_single_layers=5,
        attention_head_dim=64,
        num_attention_heads=3,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(16, 24, 24),
    )


def build_text_encoders() -> tuple[T5EncoderModel, CLIPTextModel]:
    """Two layers each, randomly initialised."""
    words = T5Config(
        vocab_size=len(TOKEN_IDS),
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    pooled = CLIPTextConfig(
        vocab_size=len(TOKEN_IDS),
        hidden_size=POOLED_WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=POOLED_WIDTH,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(words), CLIPTextModel(pooled)


def build_modules(guidance_embeds: bool = True) -> dict[str, nn.Module]:
    """The four networks, randomly initialised, by the name of their weights file."""
    words, pooled = build_text_encoders()
    return {
        "transformer": build_transformer(guidance_embeds),
        "text_encoder": pooled,
        "text_encoder_2": words,
        "vae": CellCodec(),
    }


def assemble(modules: Mapping[str, nn.Module]) -> FluxPipeline:
    """A stock pipeline around the four networks of :func:`build_modules`."""
    tokenizer = build_tokenizer()
    parts: dict[str, Any] = dict(modules)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        **parts,
    )
    pipeline.tokenizer_max_length = MAX_TOKENS
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(weights: Path = WEIGHTS, dtype: torch.dtype = torch.float32) -> FluxPipeline:
    """The trained pipeline, in evaluation mode.

    Raises:
        ModelError: a weights file is missing or corrupt.
    """
    modules = build_modules()
    for name, module in modules.items():
        load_weights(module, weights / f"{name}.safetensors")
        if dtype != torch.float32:
            module.to(dtype)
        module.eval().requires_grad_(False)
    return assemble(modules)


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file.

    Raises:
        ModelError: the file is missing, corrupt, or of another architecture.
    """
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise ModelError(
            f"The embedded model's file {path} is missing; reinstall npcorrect, or make "
            "the weights with: python -m npcorrect.mini.everyday.train"
        ) from None
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The embedded model's file {path} is corrupt ({reason}); reinstall npcorrect."
        ) from None
