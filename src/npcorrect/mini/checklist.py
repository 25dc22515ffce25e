"""The checkable claims of a prompt, and whether a scene meets them."""

from __future__ import annotations

from npcorrect.mini.grammar import parse
from npcorrect.mini.language import REGIONS, RELATIONS, Spec
from npcorrect.mini.scene import SIZES, Scene, Thing
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.grammar import PLACES, related
from npcorrect.vlm.grammar import Group as Claimed
from npcorrect.vlm.model_roles import linked

REGION_OF = {place: region for region, place in PLACES.items()}
"""The region that the value of a claim names."""


def requirements(spec: Spec) -> tuple[Requirement, ...]:
    """What a picture must show; claims about a thing depend on the claim that it is there."""
    groups = [Claimed(g.kind, g.count, g.color, g.size, g.region) for g in spec.groups]
    claims = [claim for group in groups for claim in group.claims()]
    if spec.relation:
        first, second = spec.groups
        claims.append(related(first.kind, spec.relation, second.kind))
    return linked(claims)


def satisfied(claim: Requirement, scene: Scene, named: frozenset[str]) -> bool:
    """Whether a scene meets a claim of a prompt that names these kinds.

    Raises:
        ValueError: the world has no claim of this kind.
    """
    things = [thing for thing in scene.things if thing.kind == claim.subject]
    if not things:
        return False
    if claim.kind == "object":
        return True
    if claim.kind == "count":
        return len(things) == int(claim.value)
    if claim.kind == "attribute":
        return all(thing.color == claim.value for thing in things)
    if claim.kind == "size":
        others = [t for t in scene.things if t.kind in named - {claim.subject}]
        return all(_sized(thing, claim.value, others) for thing in things)
    if claim.kind == "relation" and claim.object:
        others = [thing for thing in scene.things if thing.kind == claim.object]
        return bool(others) and all(stands(claim.value, a, b) for a in things for b in others)
    if claim.kind == "relation":
        return all(in_half(REGION_OF[claim.value], thing) for thing in things)
    raise ValueError(f"the embedded world has no requirement of kind {claim.kind!r}")


def meets(spec: Spec, scene: Scene) -> bool:
    """Whether a scene meets every claim of a prompt."""
    named = frozenset(group.kind for group in spec.groups)
    return all(satisfied(claim, scene, named) for claim in requirements(spec))


def _sized(thing: Thing, size: str, others: list[Thing]) -> bool:
    if size in SIZES:
        return thing.size == size
    rank, ranks = SIZES.index(thing.size), [SIZES.index(other.size) for other in others]
    if size == "larger":
        return all(rank > other for other in ranks)
    return all(rank < other for other in ranks)


def in_half(region: str, thing: Thing) -> bool:
    """Whether a thing's cell lies in a half of the picture; the middle lies in none."""
    place = thing.column if region in REGIONS[:2] else thing.row
    return place == (0 if region in ("left", "above") else 2)


def stands(relation: str, first: Thing, second: Thing) -> bool:
    """Whether one thing's cell stands in a relation to another's."""
    if relation in RELATIONS[1::2]:
        first, second = second, first
    if relation in RELATIONS[:2]:
        return first.column < second.column
    return first.row < second.row


class MiniChecklister:
    """Takes prompts of the world apart, by its grammar."""

    def checklist(self, prompt: str) -> Checklist:
        """What a prompt of the world requires.

        Raises:
            PromptError: the prompt is not of the world.
        """
        return Checklist(prompt, requirements(parse(prompt)))
