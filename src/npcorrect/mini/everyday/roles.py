"""The embedded VLM roles: the grammar reads prompts, a small learned network looks at pictures.

The network is never the benchmark's judge, which is :mod:`npcorrect.mini.everyday.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from npcorrect.mini.everyday.checklist import (
    REGION_OF,
    in_half,
    requirements,
    satisfied,
    stands,
)
from npcorrect.mini.everyday.data import describe
from npcorrect.mini.everyday.grammar import parse
from npcorrect.mini.everyday.language import REGIONS, RELATIONS, Group
from npcorrect.mini.everyday.model import WEIGHTS
from npcorrect.mini.everyday.scene import IMAGE_SIZE, Scene, Thing
from npcorrect.mini.everyday.verifier import CellReader
from npcorrect.mini.eyes import Eyes
from npcorrect.mini.parts import load_weights
from npcorrect.records import Caption, Checklist, Requirement


class EverydayChecklister:
    """Takes prompts of the world apart, by its grammar."""

    def checklist(self, prompt: str) -> Checklist:
        """Raises PromptError where the prompt is not of the world."""
        return Checklist(prompt, requirements(parse(prompt)))


class EverydayVerifier(Eyes[Scene]):
    """Verifies and captions pictures of the world."""

    side = IMAGE_SIZE

    def caption(self, image: Image) -> Caption:
        """The picture in the words that the model was trained on."""
        spec = describe(self.look(image)[0])
        return Caption(spec.text(), tuple(group.text() for group in spec.groups))

    def satisfied(self, claim: Requirement, scene: Scene, checklist: Checklist) -> bool:
        """Whether a claim holds; some depend on which kinds the checklist names."""
        named = frozenset(c.subject for c in checklist.requirements if c.kind == "object")
        return satisfied(claim, scene, named)

    def observed(self, claim: Requirement, scene: Scene) -> str:
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


def load_verifier(weights: Path = WEIGHTS) -> EverydayVerifier:
    """The trained verifier.

    Raises:
        ModelError: the weights are missing or corrupt.
    """
    network = CellReader()
    load_weights(network, weights / "verifier.safetensors")
    return EverydayVerifier(network.eval().requires_grad_(False))


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
