"""The world's latent codec: an autoencoder of whole cells in ``AutoencoderKL``'s shape.

Each cell of 64 x 64 pixels becomes :data:`CODE` numbers. They are trained to say what stands in the
cell even under noise, so that kinds and colours lie far apart. The decoder reads them as soft
choices among a bank of layered drawings and of colours: a clear code gives a crisp picture, and an
unclear one a mixture. FLUX packs 2 x 2 latent pixels into one token: one token a cell.
"""

from __future__ import annotations

from itertools import product

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from npcorrect.mini.everyday.scene import CELL, COLORS, GROUNDS, KINDS, SIZES, layers
from npcorrect.mini.parts import Decoded
from npcorrect.mini.tensors import pack, unpack

LATENT_CHANNELS = 8
CODE = 4 * LATENT_CHANNELS
"""Numbers a cell."""


class CellCodec(ModelMixin, ConfigMixin):
    """Pixels in -1..1, ``(B, 3, H, W)``, to latents ``(B, C, H/32, W/32)`` and back.

    Latents have zero mean and unit variance by construction (a batch norm without affine part), so
    ``scaling_factor`` is 1 and ``shift_factor`` is 0.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = LATENT_CHANNELS,
        block_out_channels: tuple[int, ...] = (192,) * 6,
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

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of ``pixels`` ``(B, 3, side, side)`` in -1..1, of the same shape."""
        return self.decode(self.encode(pixels)).sample


class CellDecoder(nn.Module):
    """Draws a cell as a mixture of all drawings in all colours, by how likely its code is each.

    A drawing has three layers: what keeps its colours, how much of each pixel the body's colour
    takes, and how much of it the thing covers. The ground is read from all of a picture's codes.
    """

    layers: Tensor
    colors: Tensor
    grounds: Tensor

    def __init__(self, code: int) -> None:
        super().__init__()
        drawings = len(KINDS) * len(SIZES) + 1
        self.split = (drawings, len(COLORS))
        self.choices = nn.Sequential(
            nn.Linear(code, 256), nn.GELU(), nn.Linear(256, sum(self.split))
        )
        self.ground = nn.Sequential(nn.Linear(code, 64), nn.GELU(), nn.Linear(64, len(GROUNDS)))
        self.register_buffer("layers", torch.zeros(drawings, 5, CELL, CELL))
        self.register_buffer("colors", torch.tensor([*COLORS.values()]) / 255)
        self.register_buffer("grounds", torch.tensor([*GROUNDS.values()]) / 255)

    def draw_bank(self) -> None:
        """Fill the bank of drawings; the last one is empty. Trained weights bring it along."""
        for i, (kind, size) in enumerate(product(KINDS, SIZES)):
            self.layers[i] = torch.from_numpy(layers(kind, size)).permute(2, 0, 1)

    def logits(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of drawings and colours, ``(B, cells, ...)``, and of grounds, ``(B, ...)``."""
        drawing, color = self.choices(codes).split(self.split, dim=-1)
        return drawing, color, self.ground(codes.mean(1))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``(B, cells, CODE)`` to pixels ``(B * cells, 3, 64, 64)`` in -1..1."""
        drawing, color, ground = (logits.softmax(-1) for logits in self.logits(codes))
        drawn = (drawing.flatten(0, 1) @ self.layers.flatten(1)).unflatten(1, self.layers.shape[1:])
        fixed, body, cover = drawn.split((3, 1, 1), dim=1)
        tint = (color @ self.colors).flatten(0, 1)[..., None, None]
        tone = (ground @ self.grounds).repeat_interleave(codes.shape[1], 0)[..., None, None]
        pixels: Tensor = 2 * (fixed + body * tint + (1 - cover) * tone).clamp(0, 1) - 1
        return pixels
