"""What networks are trained to read: classes of cells, and what words mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from npcorrect.mini.language import REGIONS, RELATIONS, SIZE_WORDS, Spec
from npcorrect.mini.scene import COLORS, GRID, GROUNDS, KINDS, SIZES, Scene
from npcorrect.mini.things import THINGS

EMPTY = len(KINDS)
CELL_CLASSES = (len(KINDS) + 1, len(COLORS), len(SIZES), len(GROUNDS))
WORD_CLASSES = (11, len(COLORS) + 1, len(SIZE_WORDS) + 1, len(REGIONS) + 1, 2 * len(RELATIONS) + 1)
MAX_TOTAL = 10

_KIND_IDS = {kind: i for i, kind in enumerate(KINDS)}
_COLOR_IDS = {color: i for i, color in enumerate(COLORS)}
_GROUND_IDS = {ground: i for i, ground in enumerate(GROUNDS)}


def cell_labels(scene: Scene) -> list[list[int]]:
    """Kind (or :data:`EMPTY`), colour, size and ground of each cell, row by row."""
    ground = _GROUND_IDS[scene.ground]
    labels = [[EMPTY, 0, 0, ground] for _ in range(GRID**2)]
    for thing in scene.things:
        labels[GRID * thing.row + thing.column] = [
            _KIND_IDS[thing.kind],
            _COLOR_IDS[thing.color],
            SIZES.index(thing.size),
            ground,
        ]
    return labels


def reading_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of cells: logits ``(N, sum(CELL_CLASSES))``, labels ``(N, 4)``."""
    kind, color, size, ground = logits.float().split(CELL_CLASSES, dim=-1)
    full = labels[:, 0] != EMPTY
    return (
        F.cross_entropy(kind, labels[:, 0])
        + F.cross_entropy(color[full], labels[full, 1])
        + 0.5 * F.cross_entropy(size[full], labels[full, 2])
        + 0.5 * F.cross_entropy(ground, labels[:, 3])
    )


def word_labels(spec: Spec) -> list[list[int]]:
    """For each noun in order: its count, colour, size, region, and side of the relation."""
    labels = []
    for i, group in enumerate(spec.groups):
        side = 0
        if spec.relation and i < 2:
            side = 1 + RELATIONS.index(spec.relation) + len(RELATIONS) * i
        labels.append(
            [
                10 if group.count is None else group.count,
                1 + _COLOR_IDS[group.color] if group.color else 0,
                1 + SIZE_WORDS.index(group.size) if group.size else 0,
                1 + REGIONS.index(group.region) if group.region else 0,
                side,
            ]
        )
    return labels


def text_labels(spec: Spec) -> tuple[list[float], int]:
    """Which kinds a text names, 0 or 1 each, and how many things in all."""
    named = {group.kind for group in spec.groups}
    total = sum(group.count or 3 for group in spec.groups)
    return [float(name in named) for name in THINGS], min(total, MAX_TOTAL)


def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of nouns: logits ``(N, sum(WORD_CLASSES))``, labels ``(N, 5)``."""
    parts = logits.split(WORD_CLASSES, dim=-1)
    return torch.stack([F.cross_entropy(part, labels[:, i]) for i, part in enumerate(parts)]).sum()
