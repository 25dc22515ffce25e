"""The judge: picture to scene by classical vision. The loop never consults it.

Pixels are segmented by the nearest colour of the world's palette, which says where objects are and
of what colour; the background is the one that the remaining pixels are closest to. How much of a
pixel an object covers is how far the pixel has gone from the background's colour to the object's;
what stands in a cell is the template whose overlap with that coverage is best, so that soft rims
count for what they are. Nothing here is learned, so nothing is shared with the verifier's network.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from npcorrect.errors import InputError
from npcorrect.mini.grammar import Spec, satisfied
from npcorrect.mini.scene import (
    BACKGROUND_COLORS,
    CELL,
    COLORS,
    GRID,
    IMAGE_SIZE,
    PATTERNS,
    SHAPES,
    SIZES,
    Background,
    Scene,
    Thing,
    background_pixels,
    shape_mask,
)

_REACH = 3
"""Largest displacement from a cell's centre at which an object is looked for, in pixels."""
_WINDOW = CELL + 2 + 2 * _REACH
_SOFTNESS = 0.5
"""Standard deviation of the templates' blur in pixels: generated rims are softer than drawn."""
_MIN_OVERLAP = 0.5
_MIN_PIXELS = 25


def read(image: Image.Image) -> Scene:
    """The scene that a picture shows.

    Raises:
        InputError: the picture has another size than the miniature world's.
    """
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        raise InputError(
            f"The judge reads {IMAGE_SIZE} x {IMAGE_SIZE} pixels and this picture has "
            f"{image.width} x {image.height}."
        )
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    segments = _segment(pixels)
    free = ~ndimage.binary_dilation(segments.any(axis=0), iterations=2)
    background = _background(pixels, free)
    coverage = _coverage(pixels, background_pixels(background), segments)
    things = [
        thing
        for row, column in product(range(GRID), repeat=2)
        if (thing := _thing(segments, coverage, row, column)) is not None
    ]
    return Scene(tuple(sorted(things)), background)


def judge(spec: Spec, image: Image.Image) -> bool:
    """Whether a picture meets every requirement of a prompt."""
    scene = read(image)
    return all(satisfied(claim, scene) for claim in spec.requirements())


def _segment(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """One mask for each object colour, ``(colours, H, W)``, without rims too thin to be objects."""
    palette = np.array(
        [*COLORS.values(), *BACKGROUND_COLORS.values(), *_dark_tones()], dtype=np.float32
    )
    smooth = ndimage.uniform_filter(pixels, size=(2, 2, 1))
    nearest = ((smooth[:, :, None, :] - palette) ** 2).sum(-1).argmin(-1)
    masks = nearest == np.arange(len(COLORS))[:, None, None]
    block = np.ones((1, 3, 3), dtype=bool)
    kept: NDArray[np.bool_] = masks & ndimage.binary_dilation(
        ndimage.binary_erosion(masks, block), block, iterations=3
    )
    return kept


def _coverage(
    pixels: NDArray[np.float32], ground: NDArray[np.float32], segments: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How far each pixel is on its way from the background to each colour, ``(colours, H, W)``.

    0 on the background, 1 on the colour, and 0 where another colour's segment lies.
    """
    way = np.array(list(COLORS.values()), dtype=np.float32)[:, None, None] - ground
    share = ((pixels - ground) * way).sum(-1) / (way**2).sum(-1)
    others = segments.any(axis=0) & ~segments
    coverage: NDArray[np.float32] = np.where(others, 0, share.clip(0, 1)).astype(np.float32)
    return coverage


def _dark_tones() -> list[NDArray[np.float32]]:
    return [
        background_pixels(Background("striped", color)).reshape(-1, 3).min(axis=0)
        for color in BACKGROUND_COLORS
    ]


@cache
def _templates() -> tuple[
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    list[tuple[str, str, int, int]],
]:
    """Every shape, size and displacement in a cell's window.

    Their coverage, the sum of its squares, the box around each, and their names.
    """
    shapes, boxes, names = [], [], []
    span = range(-_REACH, _REACH + 1)
    for shape, size, dy, dx in product(SHAPES, SIZES, span, span):
        window = np.zeros((_WINDOW, _WINDOW), dtype=np.float32)
        top, left = _REACH + dy, _REACH + dx
        window[top : top + CELL + 2, left : left + CELL + 2] = ndimage.gaussian_filter(
            shape_mask(shape, size), _SOFTNESS
        )
        ys, xs = np.nonzero(window > 0.5)
        box = np.zeros_like(window)
        box[max(ys.min() - 3, 0) : ys.max() + 4, max(xs.min() - 3, 0) : xs.max() + 4] = 1
        shapes.append(window.ravel())
        boxes.append(box.ravel())
        names.append((shape, size, dx, dy))
    coverage = np.stack(shapes)
    return coverage, (coverage**2).sum(axis=1), np.stack(boxes), names


def _thing(
    segments: NDArray[np.bool_], coverage: NDArray[np.float32], row: int, column: int
) -> Thing | None:
    """The object whose centre is in a cell, or None."""
    cell = segments[:, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    counts = cell.sum(axis=(1, 2))
    color = int(counts.argmax())
    if counts[color] < _MIN_PIXELS:
        return None
    pad = (_WINDOW - CELL) // 2
    padded = np.pad(coverage[color], pad)
    top, left = row * CELL, column * CELL
    seen = padded[top : top + _WINDOW, left : left + _WINDOW].ravel()
    shapes, squares, boxes, names = _templates()
    both = shapes @ seen
    overlap = both / (squares + boxes @ seen**2 - both)
    best = int(overlap.argmax())
    if overlap[best] < _MIN_OVERLAP:
        return None
    shape, size, dx, dy = names[best]
    return Thing(row, column, shape, tuple(COLORS)[color], size, dx, dy)


def _background(pixels: NDArray[np.float32], free: NDArray[np.bool_]) -> Background:
    """The background that is closest to the pixels that belong to no object."""
    candidates = [Background(pattern, color) for pattern in PATTERNS for color in BACKGROUND_COLORS]
    errors = [
        float(np.abs(pixels - background_pixels(ground))[free].mean()) for ground in candidates
    ]
    return candidates[int(np.argmin(errors))]
