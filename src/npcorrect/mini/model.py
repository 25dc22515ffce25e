"""The embedded pipeline: a stock ``FluxPipeline`` of small parts, built from ``weights/``.

Only what builds the pipeline itself imports diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from npcorrect.errors import ModelError
from npcorrect.mini.autoencoder import LATENT_CHANNELS
from npcorrect.mini.family import MAX_TOKENS
from npcorrect.mini.grammar import VOCABULARY

if TYPE_CHECKING:
    from diffusers import FluxPipeline

WEIGHTS = Path(__file__).with_name("weights")
SHIFT = 3.0
TEXT_WIDTH = 128
POOLED_WIDTH = 64
_SPECIAL = ("<pad>", "</s>", "<unk>")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word; punctuation is dropped; ``</s>`` ends every text."""
    words = {word: i for i, word in enumerate((*_SPECIAL, *VOCABULARY))}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[^a-z0-9]+"), " ")]
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", words["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
        padding_side="right",
    )


def build_modules() -> dict[str, nn.Module]:
    """The four networks, randomly initialised, by the name of their weights file."""
    from diffusers import FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    from npcorrect.mini.codec import MiniCodec

    size = len(VOCABULARY) + len(_SPECIAL)
    text = T5Config(
        vocab_size=size,
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
        vocab_size=size,
        hidden_size=POOLED_WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=POOLED_WIDTH,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=2,
        num_single_layers=5,
        attention_head_dim=64,
        num_attention_heads=3,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(16, 24, 24),
    )
    return {
        "transformer": transformer,
        "text_encoder": CLIPTextModel(pooled),
        "text_encoder_2": T5EncoderModel(text),
        "vae": MiniCodec(),
    }


def assemble(modules: Mapping[str, nn.Module]) -> FluxPipeline:
    """A stock pipeline around the four networks of :func:`build_modules`."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

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
            "the weights with: python -m npcorrect.mini.train"
        ) from None
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The embedded model's file {path} is corrupt ({reason}); reinstall npcorrect."
        ) from None
