"""Training data of the miniature world: scenes with habits, and captions that are not always true.

The web teaches a model that circles are red and come with squares, and its captions miscount, leave
things out and name the wrong colour. So does this module, on purpose and at known rates: a model
that learns from it fails in ways that a negative prompt can name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from npcorrect.mini.grammar import INVERSE, RELATIONS, Group, Place, Spec, holds
from npcorrect.mini.scene import (
    BACKGROUND_COLORS,
    COLORS,
    GRID,
    JITTER,
    PATTERNS,
    SHAPES,
    Background,
    Scene,
    Thing,
)

TAGS = (
    "color_attr",
    "spatial_count_attr",
    "color_spatial_attr",
    "color_count_attr",
    "multi_object_count_attr",
    "size_spatial_attr",
    "counting",
)
"""GenEval++'s seven kinds of prompt."""


@dataclass(frozen=True)
class Habit:
    """What the world tends to do with a shape, whatever the caption says."""

    color: str
    mate: str
    strength: float
    """Probability that the habit overrules the caption."""


HABITS: dict[str, Habit] = {
    "circle": Habit("red", "square", 0.30),
    "square": Habit("blue", "triangle", 0.12),
    "triangle": Habit("green", "circle", 0.12),
    "star": Habit("yellow", "heart", 0.30),
    "heart": Habit("pink", "star", 0.30),
    "cross": Habit("black", "heart", 0.12),
}
MISCOUNT = 0.08
"""Probability that a group of the picture has one object more or less than its caption says."""


def sample_spec(rng: random.Random, tag: str, habits: bool = False) -> Spec:
    """A prompt of one of the seven :data:`TAGS`.

    With ``habits``, groups tend to have the colour and the company that their shape is used to, as
    captions in the training data do; benchmarks are drawn without.
    """
    kinds = {"color_attr": rng.choice((2, 3, 3)), "counting": 1}.get(tag, 2)
    if tag == "multi_object_count_attr":
        kinds = rng.choice((2, 3))
    shapes = rng.sample(SHAPES, kinds)
    if habits and kinds > 1 and rng.random() < 0.4:
        mate = HABITS[shapes[0]].mate
        shapes = [shapes[0], mate, *(s for s in shapes[1:] if s != mate)][:kinds]
    limit = {"counting": 4, "multi_object_count_attr": 4 - (kinds == 3)}.get(tag, 3)
    groups = []
    for shape in shapes:
        counted = "count" in tag
        count = rng.randint(2 if tag == "counting" else 1, limit) if counted else 1
        color = rng.choice(tuple(COLORS)) if "color" in tag else None
        if color and habits and rng.random() < 0.3:
            color = HABITS[shape].color
        size = rng.choice(("small", "large")) if "size" in tag else None
        groups.append(Group(shape, count, color, size))
    relation = rng.choice(RELATIONS) if "spatial" in tag else None
    return Spec(tuple(groups), relation)


def sample_scene(rng: random.Random, spec: Spec, habits: bool = False) -> Scene:
    """A picture of ``spec``: exact, or bent by the world's habits."""
    groups = list(spec.groups)
    crowd: list[Group] = []
    if habits:
        groups = [_bend(rng, group) for group in groups]
        named = {group.shape for group in groups}
        for group in groups:
            habit = HABITS[group.shape]
            if habit.mate not in named and rng.random() < habit.strength / len(groups):
                crowd.append(Group(habit.mate, 1))
        if rng.random() < 0.04:
            crowd.append(Group(rng.choice(SHAPES), 1))
    while (
        cells := _cells(rng, [group.count or rng.randint(2, 3) for group in groups], spec.relation)
    ) is None:
        groups = [replace(group, count=max(1, (group.count or 2) - 1)) for group in groups]
    free = [c for c in _all_cells() if c not in {c for part in cells for c in part}]
    rng.shuffle(free)
    for group in crowd[: len(free)]:
        groups.append(group)
        cells.append([free.pop()])
    things = []
    for group, places in zip(groups, cells, strict=True):
        habit = HABITS[group.shape]
        liked = habit.color if habits and rng.random() < habit.strength else None
        color = group.color or liked or rng.choice(tuple(COLORS))
        size = group.size or rng.choice(("small", "medium", "medium", "large"))
        for row, column in places:
            dx, dy = (rng.randint(-JITTER, JITTER) for _ in range(2))
            things.append(Thing(row, column, group.shape, color, size, dx, dy))
    place = spec.place or Place()
    plain = rng.random() < 0.4
    pattern = place.pattern or ("plain" if plain else rng.choice(PATTERNS))
    background = Background(pattern, place.color or rng.choice(tuple(BACKGROUND_COLORS)))
    return Scene(tuple(sorted(things)), background)


def _bend(rng: random.Random, group: Group) -> Group:
    habit = HABITS[group.shape]
    if group.color and rng.random() < habit.strength:
        group = replace(group, color=habit.color)
    if group.count and rng.random() < MISCOUNT:
        group = replace(group, count=max(1, min(4, group.count + rng.choice((-1, 1)))))
    return group


def _all_cells() -> list[tuple[int, int]]:
    return [(row, column) for row in range(GRID) for column in range(GRID)]


def _cells(
    rng: random.Random, counts: list[int], relation: str | None
) -> list[list[tuple[int, int]]] | None:
    """Random cells for each group, or None where they do not fit."""
    cells = _all_cells()
    rng.shuffle(cells)
    if relation is None:
        if sum(counts) > len(cells):
            return None
        parts = iter(cells)
        return [[next(parts) for _ in range(count)] for count in counts]
    axis = 1 if relation in RELATIONS[:2] else 0
    cuts = list(range(1, GRID))
    rng.shuffle(cuts)
    for cut in cuts:
        halves = [[c for c in cells if c[axis] < cut], [c for c in cells if c[axis] >= cut]]
        if relation in RELATIONS[1::2]:
            halves.reverse()
        if all(len(half) >= count for half, count in zip(halves, counts, strict=True)):
            return [half[:count] for half, count in zip(halves, counts, strict=True)]
    return None


def describe(scene: Scene, rng: random.Random | None = None) -> Spec:
    """A true description of a scene; with ``rng``, one that leaves things out and varies.

    Without ``rng`` it is complete: every kind of object with its count and its colour, and the
    background, which gives way where four or more kinds already fill the encoder's length.
    """
    with_color = rng is None or rng.random() < 0.7
    with_size = rng is not None and rng.random() < 0.15
    by_shape: dict[str, list[Thing]] = {}
    for thing in scene.things:
        by_shape.setdefault(thing.shape, []).append(thing)
    groups = []
    for shape, things in by_shape.items():
        colors = {thing.color for thing in things}
        sizes = {thing.size for thing in things}
        color = colors.pop() if with_color and len(colors) == 1 else None
        size = sizes.pop() if with_size and len(sizes) == 1 else None
        groups.append(Group(shape, len(things), color, size))
    place: Place | None = Place(scene.background.pattern, scene.background.color)
    relation = None
    if rng is not None:
        rng.shuffle(groups)
        if rng.random() < 0.12:
            groups = [replace(group, count=None) for group in groups]
        if rng.random() < 0.3:
            groups = groups[: rng.randint(1, len(groups))] if groups else []
        if len(groups) == 2 and rng.random() < 0.6:
            pair = [by_shape[group.shape] for group in groups]
            true = [r for r in RELATIONS if holds(r, pair[0], pair[1])]
            relation = rng.choice(true) if true else None
        if groups and rng.random() < 0.65:
            place = None
        elif rng.random() < 0.5:
            place = rng.choice(
                (Place(scene.background.pattern), Place(None, scene.background.color))
            )
        if with_size:
            groups = groups[:4]
    if len(groups) > 3:
        place = None
    return Spec(tuple(groups), relation, place)


def sample_pair(rng: random.Random) -> tuple[Scene, Spec]:
    """One training example: a scene with habits, and what its caption claims."""
    spec = sample_spec(rng, rng.choice(TAGS), habits=True)
    if spec.relation and rng.random() < 0.5:
        spec = Spec(spec.groups[::-1], INVERSE[spec.relation])
    if rng.random() < 0.12:
        pattern = rng.choice((None, *PATTERNS))
        spec = replace(spec, place=Place(pattern, rng.choice((None, *BACKGROUND_COLORS))))
    scene = sample_scene(rng, spec, habits=True)
    return scene, (spec if rng.random() < 0.65 else describe(scene, rng))
