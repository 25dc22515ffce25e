"""The world's latent codec: an autoencoder of whole cells in ``AutoencoderKL``'s shape.

Each cell of 64 x 64 pixels becomes :data:`CODE` numbers. They are trained to say what stands in the
cell even under noise, so that kinds and colours lie far apart, and the decoder to draw crisply from
noisy ones. FLUX packs 2 x 2 latent pixels into one token: one token a cell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from npcorrect.mini.everyday.scene import CELL

LATENT_CHANNELS = 8
CODE = 4 * LATENT_CHANNELS
"""Numbers a cell."""


class Decoded(NamedTuple):
    """What ``decode`` returns; diffusers reads ``sample``, or the first element."""

    sample: Tensor


class CellCodec(ModelMixin, ConfigMixin):
    """Pixels in -1..1, ``(B, 3, H, W)``, to latents ``(B, C, H/32, W/32)`` and back.

    Latents have zero mean and unit variance by construction (a batch norm without affine part), so
    ``scaling_factor`` is 1 and ``shift_factor`` is 0. A cell is decoded from its own code and the
    mean of the picture's codes, which keeps the ground alike everywhere.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = LATENT_CHANNELS,
        block_out_channels: tuple[int, ...] = (64, 64, 96, 128, 256, 256),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        code = 4 * latent_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(96, 192, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(192, 192, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(768, code),
            nn.BatchNorm1d(code, affine=False),
        )
        self.decoder = nn.Sequential(
            nn.Linear(2 * code, 4096),
            nn.Unflatten(1, (256, 4, 4)),
            nn.GELU(),
            *_doubling(256, 128),
            *_doubling(128, 96),
            *_doubling(96, 64),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels ``(B, 3, H, W)`` in -1..1 to latents ``(B, C, H/32, W/32)``."""
        b, _, height, width = pixels.shape
        rows, columns = height // CELL, width // CELL
        cells = pixels.view(b, 3, rows, CELL, columns, CELL).permute(0, 2, 4, 1, 3, 5)
        codes = self.encode_cells(cells.reshape(-1, 3, CELL, CELL))
        return unpack(codes.view(b, rows * columns, -1), rows)

    def encode_cells(self, cells: Tensor) -> Tensor:
        """Single cells ``(N, 3, 64, 64)`` in -1..1 to codes ``(N, CODE)``."""
        codes: Tensor = self.encoder(cells)
        return codes

    def decode(self, latents: Tensor, return_dict: bool = True) -> Decoded:
        """Latents ``(B, C, h, w)`` to pixels ``(B, 3, 32 h, 32 w)``, about -1..1."""
        del return_dict  # a named tuple serves both of diffusers' calling styles
        codes = pack(latents)
        b, count, _ = codes.shape
        rows = latents.shape[2] // 2
        cells = self.decode_cells(codes).view(b, rows, count // rows, 3, CELL, CELL)
        return Decoded(cells.permute(0, 3, 1, 4, 2, 5).reshape(b, 3, rows * CELL, -1))

    def decode_cells(self, codes: Tensor) -> Tensor:
        """Codes of whole pictures ``(B, cells, CODE)`` to pixels ``(B * cells, 3, 64, 64)``."""
        mean = codes.mean(1, keepdim=True).expand_as(codes)
        pixels: Tensor = self.decoder(torch.cat([codes, mean], dim=-1).flatten(0, 1))
        return pixels

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of ``pixels``, same shape."""
        return self.decode(self.encode(pixels)).sample


def _doubling(width: int, narrower: int) -> tuple[nn.Module, ...]:
    """A convolution that doubles height and width."""
    conv = nn.Conv2d(width, 4 * narrower, 3, padding=1)
    return conv, nn.PixelShuffle(2), nn.GELU()


def pack(latents: Tensor) -> Tensor:
    """FLUX's packing: latents ``(B, C, 2h, 2w)`` to tokens ``(B, h * w, 4 C)``."""
    b, c, h, w = latents.shape
    grid = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(b, (h // 2) * (w // 2), 4 * c)


def unpack(tokens: Tensor, rows: int) -> Tensor:
    """The inverse of :func:`pack` for a picture of ``rows`` rows of cells."""
    b, count, width = tokens.shape
    grid = tokens.view(b, rows, count // rows, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, width // 4, 2 * rows, 2 * count // rows)


def to_pixels(images: Tensor) -> Tensor:
    """RGB bytes ``(B, H, W, 3)`` to the codec's ``(B, 3, H, W)`` in -1..1."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
