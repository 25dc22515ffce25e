"""The embedded verifier and captioner: a small learned network looks at each picture, once.

The network is never the benchmark's judge, which is :mod:`npcorrect.mini.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from npcorrect.errors import VLMError
from npcorrect.mini.checklist import REGION_OF, in_half, satisfied, stands
from npcorrect.mini.data import describe
from npcorrect.mini.language import REGIONS, RELATIONS, Group
from npcorrect.mini.scene import IMAGE_SIZE, Scene, Thing
from npcorrect.mini.tensors import to_pixels
from npcorrect.records import Caption, Check, Checklist, Requirement, Verdict


class Reader(Protocol):
    """Sees scenes in pixels ``(B, 3, side, side)`` in -1..1."""

    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        """The scene of each picture, and how certain it is, 0 to 1."""
        ...


class MiniViewer:
    """Verifies and captions pictures of the world; looks at each picture once."""

    def __init__(self, network: Reader) -> None:
        self._network = network
        self._last: tuple[bytes, tuple[Scene, float]] | None = None

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement; see :func:`checks`.

        Raises:
            VLMError: the picture has another size than the world's.
        """
        return Verdict(checks(self.look(image), checklist))

    def caption(self, image: Image) -> Caption:
        """The picture in the words that the world's model was trained on."""
        spec = describe(self.look(image)[0])
        return Caption(spec.text(), tuple(group.text() for group in spec.groups))

    def look(self, image: Image) -> tuple[Scene, float]:
        """The scene of a picture, and how certain it is, 0 to 1.

        Raises:
            VLMError: the picture has another size than the world's.
        """
        if image.size != (IMAGE_SIZE, IMAGE_SIZE):
            raise VLMError(
                f"The embedded verifier reads pictures of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, not "
                f"{image.width} x {image.height}; use another verifier for this picture."
            )
        picture = image.convert("RGB")
        key = picture.tobytes()
        if self._last is None or self._last[0] != key:
            pixels = to_pixels(torch.from_numpy(np.array(picture)[None]))
            self._last = key, self._network.read(pixels)[0]
        return self._last[1]


def checks(seen: tuple[Scene, float], checklist: Checklist) -> tuple[Check, ...]:
    """One check per requirement of a scene that was seen with a certainty of 0 to 1.

    A claim that depends on a failed one is moot: it fails too, and observes nothing.
    """
    scene, certainty = seen
    named = frozenset(c.subject for c in checklist.requirements if c.kind == "object")
    made: dict[str, Check] = {}
    for claim in checklist.requirements:
        moot = any(not made[needed].passed for needed in claim.depends_on)
        passed = not moot and satisfied(claim, scene, named)
        observed = "" if passed or moot else _observed(claim, scene)
        made[claim.id] = Check(claim, passed, observed, certainty)
    return tuple(made.values())


def _observed(claim: Requirement, scene: Scene) -> str:
    """The bare phrase of what is seen where a claim fails; empty where nothing can be named."""
    things = [thing for thing in scene.things if thing.kind == claim.subject]
    if not things:
        return ""
    if claim.kind == "count":
        return Group(claim.subject, len(things)).text()
    if claim.kind == "attribute":
        colors = dict.fromkeys(thing.color for thing in things if thing.color != claim.value)
        return " and ".join(Group(claim.subject, color=color).text() for color in colors)
    if claim.kind == "size":
        sizes = dict.fromkeys(thing.size for thing in things if thing.size != claim.value)
        return " and ".join(Group(claim.subject, size=size).text() for size in sizes)
    if claim.kind == "relation" and claim.object:
        return _seen_relation(claim, scene)
    if claim.kind == "relation":
        return _seen_region(claim, things)
    return ""


def _seen_relation(claim: Requirement, scene: Scene) -> str:
    """How the two kinds do stand to each other, where there is one word for it."""
    kinds = claim.subject, claim.object
    first, second = ([t for t in scene.things if t.kind == kind] for kind in kinds)
    for relation in RELATIONS:
        if second and all(stands(relation, a, b) for a in first for b in second):
            return f"{_noun(claim.subject, first)} {relation} {_noun(claim.object, second)}"
    return ""


def _seen_region(claim: Requirement, things: Sequence[Thing]) -> str:
    """Where things are that stand elsewhere, when they are all on one other side."""
    for region in REGIONS:
        if region != REGION_OF[claim.value] and all(in_half(region, t) for t in things):
            return Group(claim.subject, len(things), region=region).text()
    return ""


def _noun(kind: str, things: Sequence[Thing]) -> str:
    return Group(kind, 1 if len(things) == 1 else None).text().removeprefix("one ")
