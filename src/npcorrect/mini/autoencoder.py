"""The networks of the world's latent codec, as plain torch; imports no diffusers.

Each cell of 64 x 64 pixels becomes :data:`CODE` numbers. They are trained to say what stands in the
cell even under noise, so that kinds and colours lie far apart. The decoder draws a thing in the
middle of its cell; small displacements are not kept. FLUX packs 2 x 2 latent pixels into one token:
one token a cell.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from npcorrect.mini.scene import CELL
from npcorrect.mini.tensors import pack, unpack

LATENT_CHANNELS = 8
CODE = 4 * LATENT_CHANNELS
"""Numbers a cell."""


class Decoded(NamedTuple):
    """What a codec's ``decode`` returns; diffusers reads ``sample``, or the first element."""

    sample: Tensor


class Autoencoder(nn.Module):
    """Pixels in -1..1, ``(B, 3, H, W)``, to latents ``(B, C, H/32, W/32)`` and back.

    Latents have zero mean and unit variance by construction: a batch norm without affine part.
    """

    def __init__(self, latent_channels: int = LATENT_CHANNELS) -> None:
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
        self.decoder = CellDecoder(code)

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
        pixels: Tensor = self.decoder(codes)
        return pixels


class CellDecoder(nn.Module):
    """Draws each cell by its code, on a ground that is read from all of a picture's codes."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.start = nn.Sequential(
            nn.Linear(code, 384),
            nn.GELU(),
            nn.Linear(384, 16 * 192),
            nn.Unflatten(1, (192, 4, 4)),
        )
        self.layers = nn.Sequential(
            *_doubled(192, 96), *_doubled(96, 64), *_doubled(64, 48), *_doubled(48, 24)
        )
        self.last = nn.Conv2d(24, 4, 3, padding=1)
        self.ground = nn.Sequential(nn.Linear(code, 64), nn.GELU(), nn.Linear(64, 3))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``(B, cells, CODE)`` to pixels ``(B * cells, 3, 64, 64)`` in -1..1."""
        drawn = self.last(self.layers(self.start(codes.flatten(0, 1))))
        thing, cover = drawn[:, :3], drawn[:, 3:].sigmoid()
        tone = self.ground(codes.mean(1)).repeat_interleave(codes.shape[1], 0)[..., None, None]
        pixels: Tensor = cover * thing + (1 - cover) * tone
        return pixels


def _doubled(channels: int, into: int) -> tuple[nn.Module, ...]:
    """Layers that double the sides of ``(N, channels, h, w)`` and leave ``into`` channels."""
    return (
        nn.GELU(),
        nn.Conv2d(channels, 4 * into, 3, padding=1),
        nn.PixelShuffle(2),
    )
