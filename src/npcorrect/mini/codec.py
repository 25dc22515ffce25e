"""The miniature model's latent codec: a small convolutional autoencoder in ``AutoencoderKL``'s shape.

One latent pixel stands for 16 x 16 image pixels; FLUX packs 2 x 2 latent pixels into one token, so
that the transformer sees one token for each cell of the world's grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

LATENT_CHANNELS = 8


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
        width: int = 64,
        block_out_channels: tuple[int, ...] = (64, 64, 64, 64, 64),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        w1, w2, w3 = width, 2 * width, 3 * width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w1, 4, 4),
            nn.GELU(),
            nn.Conv2d(w1, w1, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(w1, w2, 2, 2),
            nn.GELU(),
            nn.Conv2d(w2, w3, 2, 2),
            nn.GELU(),
            nn.Conv2d(w3, w3, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(w3, latent_channels, 1),
            nn.BatchNorm2d(latent_channels, affine=False),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, w3, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(w3, w3, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(w3, 4 * w2, 1),
            nn.PixelShuffle(2),
            nn.GELU(),
            nn.Conv2d(w2, 4 * w1, 3, padding=1),
            nn.PixelShuffle(2),
            nn.GELU(),
            nn.Conv2d(w1, w1, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(w1, 48, 3, padding=1),
            nn.PixelShuffle(4),
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
