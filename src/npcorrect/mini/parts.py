"""What the embedded pipelines are made of: FLUX's parts at a small size, and their weights.

Only what builds the pipeline itself imports diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from npcorrect.errors import ModelError

if TYPE_CHECKING:
    from diffusers import FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5EncoderModel

TEXT_WIDTH = 128


def build_transformer(
    channels: int, pooled_width: int, guidance_embeds: bool
) -> FluxTransformer2DModel:
    """FLUX's transformer, four heads of 64, for tokens of ``channels`` numbers; not trained."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        num_layers=2,
        num_single_layers=5,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=pooled_width,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(16, 24, 24),
    )


def build_t5(words: int) -> T5EncoderModel:
    """The encoder of a text's words, two layers, randomly initialised."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=words,
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
    )


def build_clip(words: int, max_tokens: int, width: int) -> CLIPTextModel:
    """The encoder of a whole text in ``width`` numbers, two layers, randomly initialised."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=max_tokens,
            projection_dim=width,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


def build_pipeline(
    modules: Mapping[str, nn.Module], tokenizer: PreTrainedTokenizerFast, shift: float
) -> FluxPipeline:
    """A stock pipeline around four networks, by the names of its parts."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    parts: dict[str, Any] = dict(modules)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        **parts,
    )
    pipeline.tokenizer_max_length = tokenizer.model_max_length
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_trained(
    modules: Mapping[str, nn.Module], weights: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Fill networks from the files of their names, and put them into evaluation mode.

    Raises:
        ModelError: a weights file is missing or corrupt.
    """
    for name, module in modules.items():
        load_weights(module, weights / f"{name}.safetensors")
        if dtype != torch.float32:
            module.to(dtype)
        module.eval().requires_grad_(False)


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file.

    Raises:
        ModelError: the file is missing, corrupt, or of another architecture.
    """
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise ModelError(
            f"The embedded model's file {path} is missing; reinstall npcorrect, or run the "
            "training stage that writes it."
        ) from None
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The embedded model's file {path} is corrupt ({reason}); reinstall npcorrect."
        ) from None
