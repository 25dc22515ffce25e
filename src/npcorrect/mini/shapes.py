"""The few shapes that every drawing is made of, on a canvas of 100 x 100 units, y downwards.

A fill is one of the body's tones (``body``, ``shade``, ``light``), which follow the colour that is
asked for, or a fixed tone of :data:`TONES`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Point = tuple[float, float]

TONES: dict[str, tuple[int, int, int]] = {
    "ink": (44, 46, 56),
    "white": (250, 250, 248),
    "cream": (252, 232, 200),
    "steel": (176, 184, 194),
    "glass": (176, 216, 238),
    "screen": (58, 84, 116),
    "wood": (150, 98, 56),
    "tan": (222, 172, 104),
    "skin": (240, 194, 156),
    "leaf": (88, 162, 70),
    "pine": (48, 112, 62),
    "red": (212, 54, 48),
    "gold": (246, 196, 52),
    "rose": (238, 142, 156),
    "navy": (62, 88, 150),
}
"""Colours of the details that stay as they are, whatever colour a thing has."""


@dataclass(frozen=True)
class Shape:
    """A filled polygon, or with a ``width`` an open line with round ends."""

    fill: str
    points: tuple[Point, ...]
    width: float = 0.0


def poly(fill: str, *numbers: float) -> Shape:
    """A polygon; its corners as ``x, y, x, y, ...``."""
    return Shape(fill, _pairs(numbers))


def line(fill: str, width: float, *numbers: float) -> Shape:
    """A line of ``width`` units through the points ``x, y, x, y, ...``."""
    return Shape(fill, _pairs(numbers), width)


def points(text: str) -> tuple[float, ...]:
    """Numbers from a long list in the manner of SVG: ``"6,56 12,36"``."""
    return tuple(float(number) for number in text.replace(",", " ").split())


def oval(fill: str, x: float, y: float, rx: float, ry: float) -> Shape:
    """An ellipse around ``(x, y)`` with radii ``rx`` and ``ry`` units."""
    return Shape(fill, _arc(x, y, rx, ry, 0, 360))


def sector(fill: str, x: float, y: float, rx: float, ry: float, start: float, stop: float) -> Shape:
    """The segment of an ellipse between two angles in degrees, clockwise from the right."""
    return Shape(fill, _arc(x, y, rx, ry, start, stop))


def arc(
    fill: str, width: float, x: float, y: float, rx: float, ry: float, start: float, stop: float
) -> Shape:
    """A line along an ellipse between two angles in degrees, clockwise from the right."""
    return Shape(fill, _arc(x, y, rx, ry, start, stop), width)


def box(fill: str, x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Shape:
    """A rectangle from ``(x0, y0)`` to ``(x1, y1)`` whose corners have this radius."""
    if not radius:
        return poly(fill, x0, y0, x1, y0, x1, y1, x0, y1)
    corners = ((x1, y0, -90), (x1, y1, 0), (x0, y1, 90), (x0, y0, 180))
    points: list[Point] = []
    for x, y, start in corners:
        cx = min(max(x, x0 + radius), x1 - radius)
        cy = min(max(y, y0 + radius), y1 - radius)
        points += _arc(cx, cy, radius, radius, start, start + 90, 8)
    return Shape(fill, tuple(points))


def blob(fill: str, *numbers: float) -> Shape:
    """A smooth closed curve through the points (a uniform Catmull-Rom spline)."""
    return Shape(fill, _spline(_pairs(numbers)))


def turned(degrees: float, *shapes: Shape) -> tuple[Shape, ...]:
    """The shapes turned clockwise around the canvas's centre."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def turn(point: Point) -> Point:
        x, y = point[0] - 50, point[1] - 50
        return 50 + c * x - s * y, 50 + s * x + c * y

    return tuple(replace(shape, points=tuple(map(turn, shape.points))) for shape in shapes)


def resized(factor: float, *shapes: Shape) -> tuple[Shape, ...]:
    """The shapes made larger or smaller around the canvas's centre."""
    return tuple(
        Shape(
            shape.fill,
            tuple((50 + factor * (x - 50), 50 + factor * (y - 50)) for x, y in shape.points),
            factor * shape.width,
        )
        for shape in shapes
    )


def mirrored(*shapes: Shape) -> tuple[Shape, ...]:
    """The shapes and their reflections in the canvas's vertical axis."""
    return tuple(
        each
        for shape in shapes
        for each in (shape, replace(shape, points=tuple((100 - x, y) for x, y in shape.points)))
    )


def _pairs(numbers: tuple[float, ...]) -> tuple[Point, ...]:
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _arc(
    x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 40
) -> tuple[Point, ...]:
    angles = (math.radians(start + (stop - start) * i / steps) for i in range(steps + 1))
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def _spline(points: tuple[Point, ...], steps: int = 8) -> tuple[Point, ...]:
    n = len(points)
    curve = []
    for i in range(n):
        before, here, there, after = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            curve.append(
                (
                    _catmull_rom(before[0], here[0], there[0], after[0], t),
                    _catmull_rom(before[1], here[1], there[1], after[1], t),
                )
            )
    return tuple(curve)


def _catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
