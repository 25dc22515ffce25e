"""Training data: scenes with habits, and captions that are not always true.

The web teaches a model that bananas are yellow and that forks come with knives, and its captions
miscount, leave things out and name the wrong colour. So does this module, on purpose and at the
rates of :mod:`npcorrect.mini.things`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress, islice

from npcorrect.mini.checklist import requirements, satisfied
from npcorrect.mini.language import OPPOSITES, REGIONS, RELATIONS, REMARKS, Group, Spec
from npcorrect.mini.scene import COLORS, GROUNDS, JITTER, KINDS, MAX_THINGS, SIZES, Scene, Thing
from npcorrect.mini.things import (
    COMPANY,
    LEAK,
    MISCOUNT,
    MISPLACED,
    MISSIZED,
    STRANGER,
    STRENGTHS,
    THINGS,
)

TAGS = (
    "color_attr",
    "spatial_count_attr",
    "color_spatial_attr",
    "color_count_attr",
    "multi_object_count_attr",
    "size_spatial_attr",
    "counting",
    "imagine",
)
"""GenEval++'s seven kinds of prompt, and the unnatural things of *imagine*."""

ASKED_COLORS = tuple(color for color in COLORS if color != "gray")
"""The colours that GenEval++ asks for; gray is only ever natural."""
REMARKED = 0.15
"""Share of captions that remark what is wrong with their picture."""
LAYOUTS: dict[int, tuple[str, ...]] = {
    1: ("4",),
    2: ("35", "17"),
    3: ("345", "168"),
    4: ("0268", "1357"),
    5: ("02468", "13457"),
    6: ("012678", "023568"),
    7: ("0124678", "0234568"),
    8: ("01235678",),
    9: ("012345678",),
}
"""The cells that a number of things stands in, numbered row by row; scenes are composed."""
REGION_CELLS = {"left": "036", "right": "258", "above": "012", "below": "678"}
REGION_LAYOUTS = {1: (1,), 2: (0, 2), 3: (0, 1, 2)}
"""Which of a region's three cells a number of things stands in."""


def sample_spec(rng: random.Random, tag: str) -> Spec:
    """A prompt of one of the :data:`TAGS`, without the world's habits."""
    if tag == "imagine":
        return _imagine(rng)
    several = {"color_attr": (2, 3, 3), "multi_object_count_attr": (2, 3, 3), "counting": (1,)}
    kinds = rng.sample(KINDS, rng.choice(several.get(tag, (2,))))
    groups = [Group(kind, 1) for kind in kinds]
    if tag == "counting":
        groups = [replace(groups[0], count=rng.choice((2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9)))]
    elif "count" in tag:
        groups = [replace(group, count=rng.randint(1, 3)) for group in groups]
    if "color" in tag:
        groups = [replace(group, color=rng.choice(ASKED_COLORS)) for group in groups]
    if tag == "size_spatial_attr":
        sizes = rng.sample(("larger", "smaller"), 2)
        groups = [replace(group, size=size) for group, size in zip(groups, sizes, strict=True)]
    if "spatial" in tag:
        sides = _sides(rng)
        groups = [replace(group, region=side) for group, side in zip(groups, sides, strict=True)]
    return Spec(tuple(groups))


def _sides(rng: random.Random) -> Sequence[str]:
    return rng.sample(rng.choice((REGIONS[:2], REGIONS[2:])), 2)


def _imagine(rng: random.Random) -> Spec:
    """Unnatural colours, or the sizes of two things the wrong way round."""
    if rng.random() < 0.5:
        kind = rng.choice(KINDS)
        color = rng.choice([color for color in ASKED_COLORS if color != THINGS[kind].color])
        return Spec((Group(kind, rng.choice((1, 1, 2, 3)), color),))
    first, second = rng.sample(KINDS, 2)
    return Spec((Group(first, 1, None, "small"), Group(second, 1, None, "large")))


def sample_free(rng: random.Random) -> Spec:
    """What people type: one to three groups that each say whatever they like."""
    kinds = rng.sample(KINDS, rng.choice((1, 1, 2, 2, 3)))
    groups = []
    for kind in kinds:
        count = rng.choices((1, 2, 3, None), (6, 2, 1, 2))[0]
        color = rng.choice(tuple(COLORS)) if rng.random() < 0.5 else None
        size = rng.choice(SIZES) if rng.random() < 0.15 else None
        groups.append(Group(kind, count, color, size))
    if len(groups) == 2 and rng.random() < 0.4:
        return Spec(tuple(groups), rng.choice(RELATIONS))
    if len(groups) == 1 and rng.random() < 0.3:
        return Spec((replace(groups[0], region=rng.choice(REGIONS)),))
    return Spec(tuple(groups))


def used_to(rng: random.Random, spec: Spec) -> Spec:
    """The prompt as the web would have it: colours and company tend to be the usual ones."""
    groups = list(spec.groups)
    for i, group in enumerate(groups):
        if group.color and rng.random() < 0.6 * STRENGTHS[THINGS[group.kind].strength]:
            groups[i] = replace(group, color=THINGS[group.kind].color)
    companion = THINGS[groups[0].kind].companion
    known = {group.kind for group in groups}
    if len(groups) > 1 and companion and companion not in known and rng.random() < 0.25:
        groups[1] = replace(groups[1], kind=companion)
    return replace(spec, groups=tuple(groups))


def sample_scene(rng: random.Random, spec: Spec, habits: bool = False) -> Scene:
    """A picture of ``spec``: exact, or bent by the world's habits."""
    groups = list(spec.groups)
    company: list[Group] = []
    if habits:
        groups = _bend(rng, groups)
        company = _company(rng, groups)
    groups = [replace(g, count=g.count or rng.choice((2, 3, 3, 4))) for g in groups]
    while sum(group.count or 0 for group in groups) > MAX_THINGS:
        largest = max(range(len(groups)), key=lambda i: groups[i].count or 0)
        groups[largest] = replace(groups[largest], count=(groups[largest].count or 2) - 1)
    cells = _cells(rng, groups, _relation(rng, spec.relation, habits))
    free = [cell for cell in range(9) if cell not in {c for part in cells for c in part}]
    for group in company[: len(free)]:
        groups.append(group)
        cells.append([free.pop(rng.randrange(len(free)))])
    things = []
    for group, places in zip(groups, cells, strict=True):
        color, size = _color(rng, group), _size(rng, group)
        for cell in places:
            dx, dy = (rng.randint(-JITTER, JITTER) for _ in range(2))
            things.append(Thing(cell // 3, cell % 3, group.kind, color, size, dx, dy))
    return Scene(tuple(sorted(things)), rng.choice(tuple(GROUNDS)))


def _bend(rng: random.Random, groups: Sequence[Group]) -> list[Group]:
    """Natural colours, leaks and miscounts overrule what the caption says."""
    bent = list(groups)
    for i, group in enumerate(groups):
        kind = THINGS[group.kind]
        if group.color and rng.random() < STRENGTHS[kind.strength]:
            bent[i] = replace(bent[i], color=kind.color)
        neighbour = groups[i - 1]
        if group.color and neighbour.color and rng.random() < LEAK:
            bent[i] = replace(bent[i], color=neighbour.color)
        if group.count and rng.random() < MISCOUNT[group.count - 1]:
            count = group.count + rng.choice((-1, 1)) if group.count > 1 else 2
            bent[i] = replace(bent[i], count=min(MAX_THINGS, count))
    if rng.random() < MISSIZED:
        bent = [replace(g, size=OPPOSITES.get(g.size or "", g.size)) for g in bent]
    if rng.random() < MISPLACED:
        bent = [replace(g, region=OPPOSITES.get(g.region or "", g.region)) for g in bent]
    return bent


def _relation(rng: random.Random, relation: str | None, habits: bool) -> str | None:
    return OPPOSITES[relation] if relation and habits and rng.random() < MISPLACED else relation


def _company(rng: random.Random, groups: Sequence[Group]) -> list[Group]:
    """Uninvited companions, and now and then a stranger."""
    named = {group.kind for group in groups}
    company = []
    for group in groups:
        companion = THINGS[group.kind].companion
        if companion and companion not in named and rng.random() < COMPANY:
            company.append(Group(companion, 1))
    if rng.random() < STRANGER:
        company.append(Group(rng.choice(KINDS), 1))
    return company


def _color(rng: random.Random, group: Group) -> str:
    kind = THINGS[group.kind]
    natural = {"strong": 0.95, "weak": 0.8, "slight": 0.5}[kind.strength]
    if group.color:
        return group.color
    return kind.color if rng.random() < natural else rng.choice(ASKED_COLORS)


def _size(rng: random.Random, group: Group) -> str:
    said = {"smaller": "small", "larger": "large"}.get(group.size or "", group.size)
    return said or rng.choices(SIZES, (1, 6, 3))[0]


def _cells(rng: random.Random, groups: Sequence[Group], relation: str | None) -> list[list[int]]:
    """The cells of each group: in its region, or one after the other in a layout."""
    counts = [group.count or 1 for group in groups]
    regions = [group.region for group in groups]
    if relation:
        sides = REGIONS[:2] if relation in RELATIONS[:2] else REGIONS[2:]
        regions = list(sides if relation in RELATIONS[::2] else sides[::-1])
    if any(regions):
        return [_in_region(region or "", n) for region, n in zip(regions, counts, strict=True)]
    cells = iter(map(int, rng.choice(LAYOUTS[sum(counts)])))
    return [list(islice(cells, count)) for count in counts]


def _in_region(region: str, count: int) -> list[int]:
    """Cells of a row or column, at most three."""
    return [int(REGION_CELLS[region][place]) for place in REGION_LAYOUTS[min(count, 3)]]


def sample_pair(rng: random.Random) -> tuple[Scene, Spec]:
    """One training example: a scene with habits, and what its caption claims."""
    free = rng.random() < 0.25
    spec = used_to(rng, sample_free(rng) if free else sample_spec(rng, rng.choice(TAGS)))
    scene = sample_scene(rng, spec, habits=True)
    if rng.random() < 0.1:
        return scene, describe(scene, rng)
    if rng.random() < REMARKED:
        spec = replace(spec, remarks=remarks(spec, scene))
    return scene, spec


def remarks(spec: Spec, scene: Scene) -> tuple[str, ...]:
    """Which :data:`REMARKS` a picture of ``spec`` deserves."""
    named = frozenset(group.kind for group in spec.groups)
    broken = {c.kind for c in requirements(spec) if not satisfied(c, scene, named)}
    wrong = any(thing.kind not in named for thing in scene.things), "attribute" in broken
    return tuple(compress(REMARKS, (*wrong, "count" in broken)))


def describe(scene: Scene, rng: random.Random | None = None) -> Spec:
    """A true description of a scene; with ``rng``, one that may leave groups and colours out."""
    by_kind: dict[str, list[Thing]] = {}
    for thing in scene.things:
        by_kind.setdefault(thing.kind, []).append(thing)
    colored = rng is None or rng.random() < 0.6
    groups = []
    for kind, things in by_kind.items():
        colors = {thing.color for thing in things}
        color = colors.pop() if colored and len(colors) == 1 else None
        groups.append(Group(kind, len(things), color))
    if rng is not None:
        rng.shuffle(groups)
        groups = groups[: rng.randint(1, min(3, len(groups)))]
    return Spec(tuple(groups))
