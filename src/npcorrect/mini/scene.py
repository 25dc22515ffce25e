"""The miniature world: coloured shapes on a 3 x 3 grid, and how they are drawn.

A :class:`Scene` is the ground truth of one picture. :func:`render` turns it into pixels; it is the
only place that knows what a star looks like. Language lives in :mod:`npcorrect.mini.grammar`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

GRID = 3
CELL = 32
IMAGE_SIZE = GRID * CELL
JITTER = 2
"""Largest displacement of an object from the centre of its cell, in pixels."""

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 40),
    "orange": (255, 140, 0),
    "yellow": (248, 215, 20),
    "green": (30, 140, 55),
    "blue": (35, 80, 225),
    "purple": (130, 45, 170),
    "pink": (255, 120, 195),
    "black": (25, 25, 30),
}
RADII: dict[str, float] = {"small": 7.0, "medium": 10.5, "large": 14.5}
SIZES = tuple(RADII)
PATTERNS = ("plain", "striped", "checkered")
BACKGROUND_COLORS: dict[str, tuple[int, int, int]] = {
    "white": (248, 248, 248),
    "gray": (178, 182, 188),
    "beige": (236, 216, 178),
    "mint": (188, 230, 206),
}
_SHADE = 0.86
"""The second tone of a striped or checkered background, relative to the first."""
_SUPERSAMPLING = 8


@dataclass(frozen=True, order=True)
class Thing:
    """One object. ``row`` and ``column`` name its cell, ``dx`` and ``dy`` its jitter in pixels."""

    row: int
    column: int
    shape: str
    color: str
    size: str
    dx: int = 0
    dy: int = 0

    @property
    def center(self) -> tuple[int, int]:
        """The thing's centre ``(x, y)`` in pixels, its shift within the cell included."""
        return (
            self.column * CELL + CELL // 2 + self.dx,
            self.row * CELL + CELL // 2 + self.dy,
        )


@dataclass(frozen=True)
class Background:
    """What the objects stand on: a pattern in two tones of one colour."""

    pattern: str = "plain"
    color: str = "white"


@dataclass(frozen=True)
class Scene:
    """A whole picture: at most one object per cell, on one background."""

    things: tuple[Thing, ...]
    background: Background = Background()


@cache
def shape_mask(shape: str, size: str) -> NDArray[np.float32]:
    """Coverage of a shape in 0..1, ``(CELL + 2, CELL + 2)`` pixels, centred.

    Raises:
        ValueError: the shape is none of the miniature world's.
    """
    side = (CELL + 2) * _SUPERSAMPLING
    c, r = side / 2, RADII[size] * _SUPERSAMPLING
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse((c - r, c - r, c + r, c + r), fill=255)
    elif shape == "square":
        h = 0.88 * r
        draw.rectangle((c - h, c - h, c + h, c + h), fill=255)
    elif shape == "triangle":
        draw.polygon([(c, c - r), (c + r, c + 0.85 * r), (c - r, c + 0.85 * r)], fill=255)
    elif shape == "star":
        angles = -np.pi / 2 + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 1.08 * r, 0.46 * r)
        points = zip(c + radii * np.cos(angles), c + radii * np.sin(angles), strict=True)
        draw.polygon([(float(x), float(y)) for x, y in points], fill=255)
    elif shape == "heart":
        t = np.linspace(0, 2 * np.pi, 120)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        outline = zip(c + x / 16 * r, c - (y + 2.5) / 15 * r, strict=True)
        draw.polygon([(float(a), float(b)) for a, b in outline], fill=255)
    elif shape == "cross":
        w = 0.34 * r
        draw.rectangle((c - w, c - r, c + w, c + r), fill=255)
        draw.rectangle((c - r, c - w, c + r, c + w), fill=255)
    else:
        raise ValueError(f"unknown shape {shape!r}; the shapes are {', '.join(SHAPES)}")
    small = image.resize((CELL + 2, CELL + 2), Image.Resampling.BOX)
    coverage: NDArray[np.float32] = np.asarray(small, dtype=np.float32) / np.float32(255)
    return coverage


@cache
def background_pixels(background: Background) -> NDArray[np.float32]:
    """The empty background, ``(IMAGE_SIZE, IMAGE_SIZE, 3)`` in 0..255.

    Raises:
        ValueError: the pattern is none of the miniature world's.
    """
    tone = np.array(BACKGROUND_COLORS[background.color], dtype=np.float32)
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    if background.pattern == "plain":
        dark = np.zeros_like(x, dtype=bool)
    elif background.pattern == "striped":
        dark = x // 8 % 2 == 1
    elif background.pattern == "checkered":
        dark = (x // 16 + y // 16) % 2 == 1
    else:
        raise ValueError(f"unknown pattern {background.pattern!r}; use {', '.join(PATTERNS)}")
    pixels: NDArray[np.float32] = np.where(dark[..., None], tone * _SHADE, tone).astype(np.float32)
    return pixels


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw a scene: ``(IMAGE_SIZE, IMAGE_SIZE, 3)`` RGB bytes. Later things cover earlier ones."""
    pixels = background_pixels(scene.background).copy()
    half = CELL // 2 + 1
    for thing in scene.things:
        mask = shape_mask(thing.shape, thing.size)
        x, y = thing.center
        left, top = max(x - half, 0), max(y - half, 0)
        right, bottom = min(x + half, IMAGE_SIZE), min(y + half, IMAGE_SIZE)
        part = mask[top - y + half : bottom - y + half, left - x + half : right - x + half, None]
        window = pixels[top:bottom, left:right]
        window += part * (np.array(COLORS[thing.color], dtype=np.float32) - window)
    return pixels.round().astype(np.uint8)


def to_image(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB picture of ``IMAGE_SIZE`` pixels a side."""
    return Image.fromarray(render(scene))
