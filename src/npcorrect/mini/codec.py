"""The miniature model's latent codec: a small autoencoder in ``AutoencoderKL``'s shape.

One latent pixel stands for 16 x 16 image pixels; FLUX packs 2 x 2 latent pixels into one token, so
that the transformer sees one token for each cell of the world's grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

LATENT_CHANNELS = 16
PATCH_SIZE = 16


class Decoded(NamedTuple):
    """What ``decode`` returns; diffusers reads ``sample``, or the first element."""

    sample: Tensor


class MiniCodec(ModelMixin, ConfigMixin):
    """Pixels in -1..1, ``(B, 3, H, W)``, to latents ``(B, C, H/16, W/16)`` and back.

    Latents have zero mean and unit variance by construction (a batch norm without affine part), so
    ``scaling_factor`` is 1 and ``shift_factor`` is 0.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = LATENT_CHANNELS,
        width: int = 384,
        block_out_channels: tuple[int, ...] = (384,) * 5,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        patch = 3 * PATCH_SIZE**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(PATCH_SIZE),
            nn.Conv2d(patch, width, 1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, latent_channels, 1),
            nn.BatchNorm2d(latent_channels, affine=False),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, patch, 1),
            nn.PixelShuffle(PATCH_SIZE),
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels ``(B, 3, H, W)`` in -1..1 to latents ``(B, C, H/16, W/16)``."""
        latents: Tensor = self.encoder(pixels)
        return latents

    def decode(self, latents: Tensor, return_dict: bool = True) -> Decoded:
        """Latents ``(B, C, h, w)`` to pixels ``(B, 3, 16 h, 16 w)``, about -1..1."""
        del return_dict  # a named tuple serves both of diffusers' calling styles
        return Decoded(self.decoder(latents))

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of ``pixels``, same shape."""
        return self.decode(self.encode(pixels)).sample


def to_pixels(images: Tensor) -> Tensor:
    """RGB bytes ``(B, H, W, 3)`` to the codec's ``(B, 3, H, W)`` in -1..1."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
