"""Pictures and latents as the embedded models' networks take them; imports no diffusers."""

from __future__ import annotations

from torch import Tensor, float32


def to_pixels(images: Tensor) -> Tensor:
    """RGB bytes ``(B, H, W, 3)`` to a codec's ``(B, 3, H, W)`` in -1..1."""
    return images.permute(0, 3, 1, 2).to(float32) / 127.5 - 1


def pack(latents: Tensor) -> Tensor:
    """FLUX's packing: latents ``(B, C, 2h, 2w)`` to tokens ``(B, h * w, 4 C)``."""
    b, c, h, w = latents.shape
    grid = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(b, (h // 2) * (w // 2), 4 * c)


def unpack(tokens: Tensor, rows: int) -> Tensor:
    """The inverse of :func:`pack` for a picture of ``rows`` rows of tokens."""
    b, count, width = tokens.shape
    grid = tokens.view(b, rows, count // rows, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, width // 4, 2 * rows, 2 * count // rows)
