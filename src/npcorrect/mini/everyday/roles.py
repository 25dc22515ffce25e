"""The embedded VLM roles: the grammar reads prompts, a small learned network looks at pictures.

The network is never the benchmark's judge, which is :mod:`npcorrect.mini.everyday.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from npcorrect.errors import VLMError
from npcorrect.mini.everyday.checklist import (
    REGION_OF,
    in_half,
    requirements,
    satisfied,
    stands,
)
from npcorrect.mini.everyday.codec import to_pixels
from npcorrect.mini.everyday.data import describe
from npcorrect.mini.everyday.grammar import parse
from npcorrect.mini.everyday.language import REGIONS, RELATIONS, Group
from npcorrect.mini.everyday.model import WEIGHTS, load_weights
from npcorrect.mini.everyday.scene import IMAGE_SIZE, Scene, Thing
from npcorrect.mini.everyday.verifier import CellReader
from npcorrect.records import Caption, Check, Checklist, Requirement, Verdict


class Reader(Protocol):
    """Sees scenes in pixels ``(B, 3, 192, 192)`` in -1..1; :class:`CellReader` does."""

    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        """The scene of each picture, and how certain it is, 0 to 1."""
        ...


class EverydayChecklister:
    """Takes prompts of the world apart, by its grammar."""

    def checklist(self, prompt: str) -> Checklist:
        """Raises PromptError where the prompt is not of the world."""
        return Checklist(prompt, requirements(parse(prompt)))


class EverydayVerifier:
    """Verifies and captions pictures of the world; looks at each picture once."""

    def __init__(self, network: Reader) -> None:
        self._network = network
        self._last: tuple[bytes, tuple[Scene, float]] | None = None

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement.

        A claim that depends on a failed one is moot: it fails too, and observes nothing.
        """
        scene, certainty = self._look(image)
        named = frozenset(c.subject for c in checklist.requirements if c.kind == "object")
        checks: dict[str, Check] = {}
        for claim in checklist.requirements:
            moot = any(not checks[needed].passed for needed in claim.depends_on)
            passed = not moot and satisfied(claim, scene, named)
            seen = "" if passed or moot else observed(claim, scene)
            checks[claim.id] = Check(claim, passed, seen, certainty)
        return Verdict(tuple(checks.values()))

    def caption(self, image: Image) -> Caption:
        """The picture in the words that the model was trained on."""
        spec = describe(self._look(image)[0])
        return Caption(spec.text(), tuple(group.text() for group in spec.groups))

    def _look(self, image: Image) -> tuple[Scene, float]:
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


def load_verifier(weights: Path = WEIGHTS) -> EverydayVerifier:
    """The trained verifier.

    Raises:
        ModelError: the weights are missing or corrupt.
    """
    network = CellReader()
    load_weights(network, weights / "verifier.safetensors")
    return EverydayVerifier(network.eval().requires_grad_(False))


def observed(claim: Requirement, scene: Scene) -> str:
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
