"""The networks of the miniature model's latent codec, as plain torch; imports no diffusers.

One latent pixel stands for 16 x 16 image pixels; FLUX packs 2 x 2 latent pixels into one token, so
that the transformer sees one token for each cell of the world's grid.
"""

from __future__ import annotations

from torch import nn

LATENT_CHANNELS = 16
PATCH_SIZE = 16
WIDTH = 384


def encoder(channels: int = LATENT_CHANNELS, width: int = WIDTH) -> nn.Sequential:
    """Pixels in -1..1, ``(B, 3, H, W)``, to latents ``(B, channels, H/16, W/16)``.

    Latents have zero mean and unit variance by construction: a batch norm without affine part.
    """
    return nn.Sequential(
        nn.PixelUnshuffle(PATCH_SIZE),
        nn.Conv2d(3 * PATCH_SIZE**2, width, 1),
        nn.GELU(),
        nn.Conv2d(width, width, 1),
        nn.GELU(),
        nn.Conv2d(width, channels, 1),
        nn.BatchNorm2d(channels, affine=False),
    )


def decoder(channels: int = LATENT_CHANNELS, width: int = WIDTH) -> nn.Sequential:
    """Latents ``(B, channels, h, w)`` to pixels ``(B, 3, 16 h, 16 w)``, about -1..1."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(width, width, 1),
        nn.GELU(),
        nn.Conv2d(width, 3 * PATCH_SIZE**2, 1),
        nn.PixelShuffle(PATCH_SIZE),
    )
