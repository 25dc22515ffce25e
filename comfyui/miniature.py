"""The embedded model as ComfyUI's own MODEL, CLIP and VAE, from the same weights."""

from __future__ import annotations

from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.t5
import torch
from comfy.sd1_clip import SDClipModel, SDTokenizer
from safetensors.torch import load_file
from torch import Tensor, nn

from npcorrect.mini.autoencoder import LATENT_CHANNELS, Autoencoder
from npcorrect.mini.family import FAMILY
from npcorrect.mini.language import MAX_TOKENS, TOKEN_IDS
from npcorrect.mini.model import POOLED_WIDTH, SHIFT, WEIGHTS
from npcorrect.mini.parts import TEXT_WIDTH
from npcorrect.mini.scene import CELL
from npcorrect.mini.tokenizer import build_tokenizer

from .family import ATTACHMENT, MINIATURE

_LEVELS = 5040
"""Noise levels of the table from which schedulers choose: a multiple of all numbers up to 10 and of
24, so that scheduler 'simple' gives the levels of diffusers' pipeline."""
_MARKS = {"pad": 0, "end": 1}
_WORDS = len(TOKEN_IDS)
_PIXELS = CELL // 2
"""Of the picture, along each side of a latent pixel."""
_CLIP = {
    "num_hidden_layers": 2,
    "hidden_size": POOLED_WIDTH,
    "num_attention_heads": 2,
    "intermediate_size": 2 * POOLED_WIDTH,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": MAX_TOKENS,
    "eos_token_id": _MARKS["end"],
}
_T5 = {
    "num_layers": 2,
    "d_model": TEXT_WIDTH,
    "d_kv": 32,
    "d_ff": 256,
    "num_heads": 4,
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
    "model_type": "t5",
    "vocab_size": _WORDS,
}
_FLUX = {
    "image_model": "flux",
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "patch_size": 2,
    "vec_in_dim": POOLED_WIDTH,
    "context_in_dim": TEXT_WIDTH,
    "hidden_size": 256,
    "mlp_ratio": 4.0,
    "num_heads": 4,
    "depth": 2,
    "depth_single_blocks": 5,
    "axes_dim": [16, 24, 24],
    "theta": 10_000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}


def load() -> tuple[Any, Any, Any]:
    """The MODEL, the CLIP and the VAE of the embedded model."""
    return _model(), _clip(), MiniatureVAE()


class _LatentFormat(comfy.latent_formats.LatentFormat):
    """Latents of zero mean and unit variance, one for 32 x 32 pixels."""

    latent_channels = LATENT_CHANNELS
    spacial_downscale_ratio = _PIXELS


class _Flux(comfy.model_base.Flux):  # type: ignore[misc, unused-ignore]
    """FLUX at the embedded model's embedded guidance, where no node sets another."""

    def extra_conds(self, **kwargs: Any) -> Any:
        """What goes to the network beside the latents."""
        usual = FAMILY.arguments["guidance_scale"]
        return super().extra_conds(**{"guidance": usual, **kwargs})


class _Miniature(comfy.supported_models.Flux):
    """FLUX at the embedded model's shift."""

    sampling_settings = {"multiplier": 1.0, "shift": SHIFT}  # noqa: RUF012 (ComfyUI's own form)
    latent_format = _LatentFormat

    def get_model(self, state_dict: Any, prefix: str = "", device: Any = None) -> Any:
        """The model on a device, before weights are loaded into it."""
        return _Flux(self, model_type=comfy.model_base.ModelType.FLOW, device=device)


def _model() -> Any:
    weights = comfy.model_detection.convert_diffusers_mmdit(
        load_file(WEIGHTS / "transformer.safetensors"), ""
    )
    config = _Miniature(_FLUX)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(weights, "")
    model.model_sampling.set_parameters(shift=SHIFT, timesteps=_LEVELS, multiplier=1.0)
    patcher = comfy.model_patcher.CoreModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    model.load_model_weights(weights, "", assign=patcher.is_dynamic())
    patcher.set_attachments(ATTACHMENT, MINIATURE)
    return patcher


class _Words:
    """What ComfyUI loads tokenizers with."""

    @staticmethod
    def from_pretrained(path: str, **kwargs: Any) -> Any:
        return build_tokenizer()


class _Tokenizer:
    """The same words for both text encoders, padded to the model's length."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        del embedding_directory  # the embedded model has no embeddings of others
        self._words = SDTokenizer(
            "",
            max_length=MAX_TOKENS,
            pad_with_end=False,
            embedding_key="miniature",
            tokenizer_class=_Words,
            has_start_token=False,
            disable_weights=True,
            tokenizer_data=tokenizer_data or {},
        )

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Tokens of a text under both names that the encoders ask for."""
        tokens = self._words.tokenize_with_weights(text, return_word_ids, **kwargs)
        return {"l": tokens, "t5xxl": tokens}

    def state_dict(self) -> dict[str, Any]:
        """An empty mapping: a tokenizer has no weights to save."""
        return {}


class _TextModel(nn.Module):
    """A small T5 for the words and a small CLIP for the whole, as FLUX has them."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__()
        common: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "special_tokens": _MARKS,
            "max_length": MAX_TOKENS,
            "model_options": model_options or {},
        }
        self.clip_l = SDClipModel(
            textmodel_json_config=_CLIP, return_projected_pooled=False, **common
        )
        # CLIP's own number of words is no setting.
        words = self.clip_l.operations.Embedding(_WORDS, POOLED_WIDTH, dtype=dtype, device=device)
        self.clip_l.transformer.set_input_embeddings(words)
        self.t5xxl = SDClipModel(
            textmodel_json_config=_T5, model_class=comfy.text_encoders.t5.T5, **common
        )
        self.dtypes = {dtype}

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Pass ComfyUI's options on to both text encoders."""
        self.clip_l.set_clip_options(options)
        self.t5xxl.set_clip_options(options)

    def reset_clip_options(self) -> None:
        """Let both text encoders forget the options of the last call."""
        self.clip_l.reset_clip_options()
        self.t5xxl.reset_clip_options()

    def encode_token_weights(self, tokens: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The states of the words and the vector of the whole."""
        states, _ = self.t5xxl.encode_token_weights(tokens["t5xxl"])
        _, pooled = self.clip_l.encode_token_weights(tokens["l"])
        return states, pooled


def _clip() -> Any:
    target = comfy.supported_models_base.ClipTarget(_Tokenizer, _TextModel)
    words = load_file(WEIGHTS / "text_encoder_2.safetensors")
    whole = load_file(WEIGHTS / "text_encoder.safetensors")
    weights = {f"t5xxl.transformer.{key}": value for key, value in words.items()}
    weights |= {f"clip_l.transformer.text_model.{key}": value for key, value in whole.items()}
    return comfy.sd.CLIP(target, state_dict=weights, model_options={"dtype": torch.float32})


class _Codec(nn.Module):
    """The latent codec as ComfyUI's VAE calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = Autoencoder()

    def encode(self, pixels: Tensor, **kwargs: Any) -> Tensor:
        """Latents ``(B, C, h, w)`` of pixels ``(B, 3, H, W)`` in -1..1."""
        return self.codec.encode(pixels)

    def decode(self, latents: Tensor, **kwargs: Any) -> Tensor:
        """Pixels ``(B, 3, H, W)``, about -1..1, of latents ``(B, C, h, w)``."""
        return self.codec.decode(latents).sample


class MiniatureVAE(comfy.sd.VAE):  # type: ignore[misc, unused-ignore]
    """The codec in a VAE, whose constructor knows only architectures of its own."""

    def __init__(self) -> None:
        super().__init__(sd={})
        codec = _Codec().eval().requires_grad_(False)
        codec.codec.load_state_dict(load_file(WEIGHTS / "vae.safetensors"))
        self.first_stage_model = codec
        self.latent_channels = LATENT_CHANNELS
        self.downscale_ratio = self.upscale_ratio = _PIXELS
        self.device = comfy.model_management.vae_device()
        self.vae_dtype = torch.float32
        self.output_device = comfy.model_management.intermediate_device()
        self.patcher = comfy.model_patcher.CoreModelPatcher(
            codec,
            load_device=self.device,
            offload_device=comfy.model_management.vae_offload_device(),
        )
