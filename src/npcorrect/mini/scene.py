"""Scenes of everyday things on a 3 x 3 grid, and how they are drawn.

A :class:`Scene` is the ground truth of one picture; :func:`render` turns it into pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from npcorrect.mini.drawings import DRAWINGS
from npcorrect.mini.shapes import TONES

GRID = 3
MAX_THINGS = GRID**2
"""Things that a picture holds, one a cell."""
CELL = 64
IMAGE_SIZE = GRID * CELL
JITTER = 2
"""Largest displacement of a thing from the centre of its cell, in pixels of a 64-pixel cell."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 44, 46),
    "orange": (247, 138, 28),
    "yellow": (250, 214, 40),
    "green": (52, 158, 72),
    "blue": (44, 104, 216),
    "purple": (134, 66, 182),
    "pink": (250, 138, 186),
    "brown": (130, 84, 52),
    "black": (56, 56, 64),
    "white": (246, 246, 244),
    "gray": (150, 156, 166),
}
SCALES: dict[str, float] = {"small": 0.50, "medium": 0.70, "large": 0.90}
"""Side of a drawing's canvas as a share of the cell's."""
SIZES = tuple(SCALES)
GROUNDS: dict[str, tuple[int, int, int]] = {
    "ivory": (250, 244, 226),
    "sky": (216, 234, 250),
    "mint": (216, 242, 224),
    "lilac": (232, 224, 248),
    "blush": (252, 226, 226),
    "stone": (228, 230, 232),
}
KINDS = tuple(sorted(DRAWINGS))
_SUPERSAMPLING = 4


@dataclass(frozen=True, order=True)
class Thing:
    """One object. ``row`` and ``column`` name its cell, ``dx`` and ``dy`` its jitter in pixels."""

    row: int
    column: int
    kind: str
    color: str
    size: str
    dx: int = 0
    dy: int = 0


@dataclass(frozen=True)
class Scene:
    """A whole picture: at most one thing in a cell, on a pale ground."""

    things: tuple[Thing, ...]
    ground: str = "ivory"


def sprite(kind: str, color: str, size: str, cell: int = CELL) -> NDArray[np.float32]:
    """A drawing with its outline and shadow: ``(cell, cell, 4)``, colours times coverage, 0..1."""
    drawn = layers(kind, size, cell)
    body = np.array(COLORS[color], dtype=np.float32) / 255
    pixels = np.minimum(drawn[..., :3] + drawn[..., 3:4] * body, drawn[..., 4:])
    return np.concatenate([pixels, drawn[..., 4:]], axis=-1)


@lru_cache(maxsize=1024)
def layers(kind: str, size: str, cell: int = CELL) -> NDArray[np.float32]:
    """What a drawing is made of, whatever its colour: ``(cell, cell, 5)``, 0..1.

    Three channels of what keeps its colours, then how much of the body's colour is added, and how
    much of each pixel is covered: a picture is linear in the body's colour, so that two drawings,
    with a black body and with a white one, tell all.
    """
    unit = cell * _SUPERSAMPLING * SCALES[size] / 100
    bodies = ((0, 0, 0), (255, 255, 255))
    black, white = (_finished(_rasterized(kind, body, unit, cell), unit, cell) for body in bodies)
    light = np.linspace(1.07, 0.88, cell, dtype=np.float32)[:, None, None]
    body = (white - black)[..., :1] * light
    return np.concatenate([black[..., :3] * light, body, black[..., 3:]], axis=-1)


def _rasterized(kind: str, body: tuple[int, int, int], unit: float, cell: int) -> Image.Image:
    """The bare shapes, ``unit`` pixels a unit of the canvas, in the middle of a cell."""
    side = cell * _SUPERSAMPLING
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    tones = _tones(body)
    for shape in DRAWINGS[kind]:
        points = [(side / 2 + (x - 50) * unit, side / 2 + (y - 50) * unit) for x, y in shape.points]
        if not shape.width:
            draw.polygon(points, fill=tones[shape.fill])
            continue
        width = shape.width * unit
        draw.line(points, fill=tones[shape.fill], width=round(width), joint="curve")
        for x, y in (points[0], points[-1]):
            r = width / 2
            draw.ellipse((x - r, y - r, x + r, y + r), fill=tones[shape.fill])
    return image


def _tones(body: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    """All tones of a drawing: those of its body, and the fixed ones."""

    def tone(white: float, share: float) -> tuple[int, int, int]:
        red, green, blue = (round(share * value + 255 * white) for value in body)
        return red, green, blue

    return TONES | {"body": body, "shade": tone(0, 0.76), "light": tone(0.42, 0.58)}


def _finished(image: Image.Image, unit: float, cell: int) -> NDArray[np.float32]:
    """Adds the outline and the shadow, and scales down to the cell."""
    alpha = image.getchannel("A")
    rim = alpha.filter(ImageFilter.GaussianBlur(1.5 * unit)).point(lambda v: min(255, 4 * v))
    outline = Image.new("RGBA", image.size, (62, 58, 66, 255))
    outline.putalpha(ImageChops.lighter(rim.point(lambda v: int(0.8 * v)), alpha))
    outline.alpha_composite(image)
    blurred = alpha.filter(ImageFilter.GaussianBlur(2.5 * unit)).point(lambda v: int(0.28 * v))
    shadow = Image.new("RGBA", image.size, (50, 46, 60, 255))
    shadow.putalpha(ImageChops.offset(blurred, round(1.5 * unit), round(3 * unit)))
    shadow.alpha_composite(outline)
    pixels = np.asarray(shadow, dtype=np.float32) / np.float32(255)
    pixels[..., :3] *= pixels[..., 3:]
    blocks = pixels.reshape(cell, _SUPERSAMPLING, cell, _SUPERSAMPLING, 4)
    small: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return small


def draw_cell(thing: Thing | None, ground: str, cell: int = CELL) -> NDArray[np.uint8]:
    """One cell with what stands in it, ``(cell, cell, 3)`` RGB bytes."""
    tone = np.array(GROUNDS[ground], dtype=np.float32)
    pixels = np.broadcast_to(tone, (cell, cell, 3))
    if thing:
        layer = sprite(thing.kind, thing.color, thing.size, cell)
        shift = (round(thing.dy * cell / CELL), round(thing.dx * cell / CELL))
        layer = np.roll(layer, shift, axis=(0, 1))
        pixels = layer[..., :3] * 255 + (1 - layer[..., 3:]) * pixels
    drawn: NDArray[np.uint8] = pixels.round().astype(np.uint8)
    return drawn


def render(scene: Scene, cell: int = CELL) -> NDArray[np.uint8]:
    """Draw a scene: ``(3 cell, 3 cell, 3)`` RGB bytes."""
    things = {(thing.row, thing.column): thing for thing in scene.things}
    rows = [
        np.concatenate(
            [draw_cell(things.get((row, column)), scene.ground, cell) for column in range(GRID)],
            axis=1,
        )
        for row in range(GRID)
    ]
    return np.concatenate(rows)


def to_image(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of ``IMAGE_SIZE`` pixels a side."""
    return Image.fromarray(render(scene))
