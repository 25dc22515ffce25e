"""The checkable claims of a prompt, and whether a scene meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from npcorrect.english import in_words
from npcorrect.mini.language import REGIONS, RELATIONS, Group, Spec
from npcorrect.mini.scene import SIZES, Scene, Thing
from npcorrect.mini.things import THINGS
from npcorrect.records import Requirement

_PLACES = {"left": "on the left", "right": "on the right", "above": "above", "below": "below"}
_HALVES = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
REGION_OF = {place: region for region, place in _PLACES.items()}
"""The region that the value of a claim names."""


def requirements(spec: Spec) -> tuple[Requirement, ...]:
    """What a picture must show; claims about a thing depend on the claim that it is there."""
    present = {group.kind: f"r{n}" for n, group in enumerate(spec.groups, 1)}
    claims = [_present(group, present[group.kind]) for group in spec.groups]
    others = [claim for group in spec.groups for claim in _claims(group)]
    if spec.relation:
        first, second = (group.kind for group in spec.groups)
        text = f"every {first} is {spec.relation} every {second}"
        others.append(Requirement("", "relation", text, first, spec.relation, second))
    for number, claim in enumerate(others, len(claims) + 1):
        needs = tuple(present[kind] for kind in (claim.subject, claim.object) if kind)
        claims.append(replace(claim, id=f"r{number}", depends_on=needs))
    return tuple(claims)


def _present(group: Group, number: str) -> Requirement:
    text = f"at least one {group.kind} is visible"
    return Requirement(number, "object", text, group.kind, group.kind)


def _claims(group: Group) -> Iterator[Requirement]:
    """All claims of a group but its presence."""
    kind, many = group.kind, THINGS[group.kind].plural

    def claim(name: str, text: str, value: str) -> Requirement:
        return Requirement("", name, text, kind, value)

    if group.count:
        things = kind if group.count == 1 else many
        text = f"exactly {in_words(str(group.count))} {things}"
        yield claim("count", text, str(group.count))
    if group.color:
        yield claim("attribute", f"all {many} are {group.color}", group.color)
    if group.size:
        than = " than everything else that is named" if group.size.endswith("er") else ""
        yield claim("size", f"all {many} are {group.size}{than}", group.size)
    if group.region:
        text = f"every {kind} is in the {_HALVES[group.region]} half of the picture"
        yield claim("relation", text, _PLACES[group.region])


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
    raise ValueError(f"the miniature world has no requirement of kind {claim.kind!r}")


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
