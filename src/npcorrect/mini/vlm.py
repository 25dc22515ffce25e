"""The embedded roles: the grammar reads prompts, a small learned network looks at pictures.

The network is never the benchmark's judge, which is :mod:`npcorrect.mini.reader`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from npcorrect.errors import VLMError
from npcorrect.mini.autoencoder import to_pixels
from npcorrect.mini.data import describe
from npcorrect.mini.grammar import PLURALS, RELATIONS, Group, Place, holds, parse, satisfied
from npcorrect.mini.model import WEIGHTS, load_weights
from npcorrect.mini.network import ReaderNetwork
from npcorrect.mini.scene import IMAGE_SIZE, PATTERNS, Scene
from npcorrect.proposing import RuleProposer
from npcorrect.records import Caption, Check, Checklist, Requirement, Verdict
from npcorrect.vlm.roles import Roles

FALLBACK = ("a striped background", "a checkered background", "two crosses", "five hearts")
"""Last-resort negatives in the only words that the miniature model knows."""


class Reader(Protocol):
    """Sees scenes in pixels ``(B, 3, 96, 96)`` in -1..1; :class:`ReaderNetwork` does."""

    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        """The scene of each picture, and how certain it is, 0 to 1."""
        ...


class MiniChecklister:
    """Takes prompts of the miniature world apart, by its grammar."""

    def checklist(self, prompt: str) -> Checklist:
        """Raises PromptError where the prompt is not of the miniature world."""
        return Checklist(prompt, parse(prompt).requirements())


class MiniEyes:
    """Verifies and captions pictures of the miniature world; looks at each picture once."""

    def __init__(self, network: Reader) -> None:
        self._network = network
        self._last: tuple[bytes, tuple[Scene, float]] | None = None

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement.

        A claim that depends on a failed one is moot: it fails too, and observes nothing.
        """
        scene, certainty = self._look(image)
        checks: dict[str, Check] = {}
        for claim in checklist.requirements:
            moot = any(not checks[needed].passed for needed in claim.depends_on)
            passed = not moot and satisfied(claim, scene)
            observed = "" if passed or moot else _observed(claim, scene)
            checks[claim.id] = Check(claim, passed, observed, certainty)
        return Verdict(tuple(checks.values()))

    def caption(self, image: Image) -> Caption:
        """The picture in the words that the miniature model was trained on."""
        spec = describe(self._look(image)[0])
        place = (spec.place.text(),) if spec.place else ()
        return Caption(spec.text(), (*(group.text() for group in spec.groups), *place))

    def _look(self, image: Image) -> tuple[Scene, float]:
        if image.size != (IMAGE_SIZE, IMAGE_SIZE):
            raise VLMError(
                f"The embedded eyes read pictures of {IMAGE_SIZE} x {IMAGE_SIZE} pixels, not "
                f"{image.width} x {image.height}; use another verifier for this picture."
            )
        picture = image.convert("RGB")
        key = picture.tobytes()
        if self._last is None or self._last[0] != key:
            pixels = to_pixels(torch.from_numpy(np.array(picture)[None]))
            self._last = key, self._network.read(pixels)[0]
        return self._last[1]


def embedded_roles(weights: Path = WEIGHTS) -> Roles:
    """All four roles of the miniature world.

    Raises:
        ModelError: the weights are missing or corrupt.
    """
    network = ReaderNetwork()
    load_weights(network, weights / "reader.safetensors")
    eyes = MiniEyes(network.eval().requires_grad_(False))
    return Roles(MiniChecklister(), eyes, eyes, RuleProposer(FALLBACK))


def _observed(claim: Requirement, scene: Scene) -> str:
    """The bare phrase of what is seen where a claim fails; empty where nothing can be named."""
    mine = [thing for thing in scene.things if thing.shape == claim.subject]
    group = Group(claim.subject)
    if claim.kind == "count":
        return replace(group, count=len(mine)).text()
    if claim.kind == "attribute":
        colors = dict.fromkeys(thing.color for thing in mine if thing.color != claim.value)
        return " and ".join(replace(group, color=color).text() for color in colors)
    if claim.kind == "size":
        sizes = dict.fromkeys(thing.size for thing in mine if thing.size != claim.value)
        return " and ".join(replace(group, size=size).text() for size in sizes)
    if claim.kind == "relation":
        return _seen_relation(claim, scene)
    if claim.kind == "only":
        shapes = [t.shape for t in scene.things if t.shape not in claim.value.split("|")]
        counts = {shape: shapes.count(shape) for shape in shapes}
        return " and ".join(Group(shape, count).text() for shape, count in counts.items())
    if claim.kind == "scene":
        ground = scene.background
        patterned = claim.value in PATTERNS
        return (Place(ground.pattern) if patterned else Place(None, ground.color)).text()
    return ""


def _seen_relation(claim: Requirement, scene: Scene) -> str:
    """How the two shapes do stand to each other, where there is one word for it."""
    first, second = (
        [thing for thing in scene.things if thing.shape == shape]
        for shape in (claim.subject, claim.object)
    )
    nouns = [
        shape if len(things) == 1 else PLURALS[shape]
        for shape, things in ((claim.subject, first), (claim.object, second))
    ]
    true = (relation for relation in RELATIONS if holds(relation, first, second))
    return next((f"{nouns[0]} {relation} {nouns[1]}" for relation in true), "")
