"""Between latents and pictures: decoding of x0 estimates, encoding of pictures to begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Decode = Callable[[Any, "Tensor", int, int], "Tensor"]
"""Pipeline, clean latents as the pipeline's loop holds them, height, width; returns pixels
``(B, 3, H, W)`` in -1..1."""
Encode = Callable[[Any, "Tensor"], "Tensor"]
"""Pipeline, pixels ``(1, 3, H, W)`` in -1..1; returns clean latents as the loop holds them."""


def decode_plain(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents in the autoencoder's own layout, ``(B, C, H, W)``, scaled and shifted."""
    config = pipeline.vae.config
    latents = latents.to(pipeline.vae.dtype)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        mean_1C11, std_1C11 = (_per_channel(value, latents) for value in (mean, std))
        latents = latents * std_1C11 / config.scaling_factor + mean_1C11
    else:
        latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
    return _decoded(pipeline, latents)


def decode_packed(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents packed 2 x 2 into tokens, ``(B, T, 4 C)``, as FLUX has them."""
    unpacked = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    return decode_plain(pipeline, unpacked, height, width)


def decode_qwen(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Packed latents for a video autoencoder, ``(B, C, 1, H, W)`` once unpacked."""
    unpacked = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    return _decoded_frame(pipeline, unpacked)


def decode_krea2(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """As Qwen-Image's; the pipeline itself knows how much the autoencoder shrinks."""
    return _decoded_frame(pipeline, pipeline._unpack_latents(latents, height, width))


def _decoded_frame(pipeline: Any, unpacked: Tensor) -> Tensor:
    config = pipeline.vae.config
    unpacked = unpacked.to(pipeline.vae.dtype)
    mean, std = (
        _per_channel(value, unpacked) for value in (config.latents_mean, config.latents_std)
    )
    return _decoded(pipeline, unpacked * std + mean)[:, :, 0]


def decode_flux2(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents packed 2 x 2 into tokens, ``(B, T, 4 C)``, normalised by the VAE's batch norm."""
    side = 2 * pipeline.vae_scale_factor
    unpacked = latents.transpose(1, 2).unflatten(2, (height // side, width // side))
    norm = pipeline.vae.bn
    mean = norm.running_mean.view(1, -1, 1, 1).to(unpacked)
    variance = norm.running_var.view(1, -1, 1, 1).to(unpacked)
    unpacked = unpacked * (variance + pipeline.vae.config.batch_norm_eps).sqrt() + mean
    return _decoded(pipeline, pipeline._unpatchify_latents(unpacked))


def decode_kandinsky(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents with channels last, ``(B, 1, H, W, C)``, as Kandinsky's pipeline has them."""
    plain = latents.squeeze(1).permute(0, 3, 1, 2).to(pipeline.vae.dtype)
    return _decoded(pipeline, plain / pipeline.vae.config.scaling_factor)


def decode_listed(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents with a frame axis, ``(B, C, 1, H, W)``, as Z-Image's denoiser takes them."""
    return decode_plain(pipeline, latents.squeeze(2), height, width)


def encode_plain(pipeline: Any, pixels: Tensor) -> Tensor:
    """Latents in the autoencoder's own layout, ``(1, C, H, W)``: the posterior's mode, scaled."""
    config = pipeline.vae.config
    encoded = pipeline.vae.encode(pixels.to(pipeline.vae.dtype))
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded
    scaled: Tensor = (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor
    return scaled


def encode_packed(pipeline: Any, pixels: Tensor) -> Tensor:
    """Latents packed 2 x 2 into tokens, ``(1, T, 4 C)``, as FLUX has them."""
    latents = encode_plain(pipeline, pixels)
    packed: Tensor = pipeline._pack_latents(latents, *latents.shape)
    return packed


def _decoded(pipeline: Any, latents: Tensor) -> Tensor:
    pixels: Tensor = pipeline.vae.decode(latents, return_dict=False)[0]
    return pixels


def _per_channel(values: Any, latents: Tensor) -> Tensor:
    """Values of each channel, the second axis of ``latents``, so that they broadcast."""
    import torch

    ones = [1] * (latents.ndim - 2)
    return torch.tensor(values).view(1, -1, *ones).to(latents)
