"""From a request to a picture, as tests of models write it."""

from __future__ import annotations

from dataclasses import replace

from npcorrect.diffusion.base import UNWATCHED, ImageModel, Watch
from npcorrect.records import Drawing, Generation, Origin, Request


def resolved(
    model: ImageModel,
    request: Request,
    negative: str | None = None,
    *,
    attempt: int = 0,
    origin: Origin | None = None,
    first_steps: int | None = None,
) -> Drawing:
    """The drawing of an attempt; with ``first_steps`` the negative acts in so many, also in 0."""
    drawing = model.plan(request).drawing(attempt, negative, origin)
    return drawing if first_steps is None else replace(drawing, window=(0, first_steps))


def draw_one(model: ImageModel, drawing: Drawing, watch: Watch = UNWATCHED) -> Generation:
    """One drawing, drawn alone."""
    (generation,) = model.draw([drawing], watch)
    return generation
