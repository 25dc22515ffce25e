"""The judge: picture to scene by template matching. The loop never consults it.

The ground is the one that the cells' rims are closest to. What stands in a cell is the nearest of
all drawings in all colours and sizes, on that ground, within the displacements that scenes have;
a cell that is nearer to the bare ground is empty, and one that is far from everything shows nothing
that can be named. Nothing here is learned, so nothing is shared with the verifier's network.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npcorrect.errors import InputError
from npcorrect.mini.checklist import meets
from npcorrect.mini.language import Spec
from npcorrect.mini.scene import (
    CELL,
    COLORS,
    GRID,
    GROUNDS,
    IMAGE_SIZE,
    KINDS,
    SIZES,
    Scene,
    Thing,
    draw_cell,
)

_SIDE = 32
"""Pixels of a cell as the judge compares it."""
_SHIFTS = tuple(product((-2, 0, 2), repeat=2))
"""Displacements that are tried, in pixels of a 64-pixel cell."""
_MAX_RESIDUAL = 0.5
"""Largest squared distance to the nearest drawing, relative to the drawing's contrast."""

Pixels = NDArray[np.float32]


def read(image: Image.Image) -> Scene:
    """The scene that a picture shows.

    Raises:
        InputError: the picture has another size than the embedded world's.
    """
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"The judge reads {IMAGE_SIZE} x {IMAGE_SIZE} pixels and this picture has "
            f"{image.width} x {image.height}."
        )
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    cells = pixels.reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2).reshape(-1, CELL, CELL, 3)
    ground = _ground(cells)
    things = [
        Thing(number // GRID, number % GRID, *name)
        for number, name in enumerate(_names(cells, ground))
        if name
    ]
    return Scene(tuple(things), ground)


def judge(spec: Spec, image: Image.Image) -> bool:
    """Whether a picture meets every claim of a prompt."""
    return meets(spec, read(image))


def _ground(cells: Pixels) -> str:
    """The ground that the cells' outermost pixels are closest to."""
    rims = np.concatenate([cells[:, :2].reshape(-1, 3), cells[:, -2:].reshape(-1, 3)])
    tone = np.median(rims, axis=0)
    return min(GROUNDS, key=lambda name: float(np.abs(tone - GROUNDS[name]).sum()))


def _names(cells: Pixels, ground: str) -> list[tuple[str, str, str] | None]:
    """Kind, colour and size of what stands in each cell; None where nothing can be named."""
    templates, energy, names = _templates(ground)
    shifted = np.stack([np.roll(cells, (-dy, -dx), axis=(1, 2)) for dy, dx in _SHIFTS])
    seen = _contrast(shifted.reshape(-1, CELL, CELL, 3), ground)
    distances = energy - 2 * seen @ templates.T + (seen**2).sum(axis=1, keepdims=True)
    distances = distances.reshape(len(_SHIFTS), len(cells), -1).min(axis=0)
    empty = (_contrast(cells, ground) ** 2).sum(axis=1)
    best = distances.argmin(axis=1)
    nearest = distances[np.arange(len(cells)), best]
    return [
        names[b] if d < min(e, _MAX_RESIDUAL * energy[b]) else None
        for b, d, e in zip(best, nearest, empty, strict=True)
    ]


@lru_cache(maxsize=len(GROUNDS))
def _templates(ground: str) -> tuple[Pixels, Pixels, list[tuple[str, str, str]]]:
    """The contrast of every drawing on a ground, its squared length, and its names."""
    names = list(product(KINDS, COLORS, SIZES))
    cells = np.stack([draw_cell(Thing(0, 0, *name), ground, _SIDE) for name in names])
    contrast = _contrast(cells.astype(np.float32), ground)
    return contrast, (contrast**2).sum(axis=1), names


def _contrast(cells: Pixels, ground: str) -> Pixels:
    """Square cells ``(N, side, side, 3)`` less the ground, scaled down and flattened."""
    block = cells.shape[1] // _SIDE
    small = cells.reshape(-1, _SIDE, block, _SIDE, block, 3).mean(axis=(2, 4))
    tone = np.array(GROUNDS[ground], dtype=np.float32)
    contrast: Pixels = ((small - tone) / 255).reshape(len(cells), -1)
    return contrast
