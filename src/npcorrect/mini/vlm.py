"""The embedded roles: the grammar reads prompts, a small learned network looks at pictures.

The network is never the benchmark's judge, which is :mod:`npcorrect.mini.reader`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL.Image import Image

from npcorrect.mini.data import describe
from npcorrect.mini.eyes import Eyes
from npcorrect.mini.grammar import PLURALS, RELATIONS, Group, Place, holds, parse, satisfied
from npcorrect.mini.model import WEIGHTS
from npcorrect.mini.network import ReaderNetwork
from npcorrect.mini.parts import load_weights
from npcorrect.mini.scene import IMAGE_SIZE, PATTERNS, Scene
from npcorrect.proposing import RuleProposer
from npcorrect.records import Caption, Checklist, Requirement
from npcorrect.vlm.roles import Roles

FALLBACK = ("a striped background", "a checkered background", "two crosses", "five hearts")
"""Last-resort negatives in the only words that the miniature model knows."""


class MiniChecklister:
    """Takes prompts of the miniature world apart, by its grammar."""

    def checklist(self, prompt: str) -> Checklist:
        """Raises PromptError where the prompt is not of the miniature world."""
        return Checklist(prompt, parse(prompt).requirements())


class MiniEyes(Eyes[Scene]):
    """Verifies and captions pictures of the miniature world."""

    side = IMAGE_SIZE

    def caption(self, image: Image) -> Caption:
        """The picture in the words that the miniature model was trained on."""
        spec = describe(self.look(image)[0])
        place = (spec.place.text(),) if spec.place else ()
        return Caption(spec.text(), (*(group.text() for group in spec.groups), *place))

    def satisfied(self, claim: Requirement, scene: Scene, checklist: Checklist) -> bool:
        """Whether a claim holds, whatever else is claimed."""
        return satisfied(claim, scene)

    def observed(self, claim: Requirement, scene: Scene) -> str:
        """The bare phrase of what is seen where a claim fails; empty where nothing can be named."""
        things = [thing for thing in scene.things if thing.shape == claim.subject]
        group = Group(claim.subject)
        if claim.kind == "count":
            return replace(group, count=len(things)).text()
        if claim.kind == "attribute":
            colors = dict.fromkeys(thing.color for thing in things if thing.color != claim.value)
            return " and ".join(replace(group, color=color).text() for color in colors)
        if claim.kind == "size":
            sizes = dict.fromkeys(thing.size for thing in things if thing.size != claim.value)
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


def embedded_roles(weights: Path = WEIGHTS) -> Roles:
    """All four roles of the miniature world.

    Raises:
        ModelError: the weights are missing or corrupt.
    """
    network = ReaderNetwork()
    load_weights(network, weights / "reader.safetensors")
    viewer = MiniEyes(network.eval().requires_grad_(False))
    return Roles(MiniChecklister(), viewer, viewer, RuleProposer(FALLBACK))


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
