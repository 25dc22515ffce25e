"""The reader network: what stands in each cell, seen by a small convolutional network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from npcorrect.mini.scene import (
    BACKGROUND_COLORS,
    COLORS,
    GRID,
    PATTERNS,
    SHAPES,
    SIZES,
    Background,
    Scene,
    Thing,
)

EMPTY = len(SHAPES)
_SPLIT = (len(SHAPES) + 1, len(COLORS), len(SIZES))
_PLACE_SPLIT = (len(PATTERNS), len(BACKGROUND_COLORS))


def cell_labels(scene: Scene) -> Tensor:
    """Classes of shape (or :data:`EMPTY`), colour and size for each cell, ``(GRID**2, 3)``."""
    labels = torch.zeros(GRID, GRID, 3, dtype=torch.long)
    labels[..., 0] = EMPTY
    for thing in scene.things:
        classes = (
            SHAPES.index(thing.shape),
            tuple(COLORS).index(thing.color),
            SIZES.index(thing.size),
        )
        labels[thing.row, thing.column] = torch.tensor(classes)
    return labels.view(-1, 3)


def reading_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of cells: logits ``(B, cells, classes)``, labels ``(B, cells, 3)``."""
    shape, color, size = logits.split(_SPLIT, dim=-1)
    full = labels[..., 0] != EMPTY
    return (
        F.cross_entropy(shape.flatten(0, 1), labels[..., 0].flatten())
        + F.cross_entropy(color[full], labels[..., 1][full])
        + F.cross_entropy(size[full], labels[..., 2][full])
    )


class ReaderNetwork(nn.Module):
    """Pixels ``(B, 3, 96, 96)`` in -1..1 to logits for each cell and for the background."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        w1, w2, w3 = width, 2 * width, 4 * width
        self.features = nn.Sequential(
            nn.Conv2d(3, w1, 4, 4),
            nn.GELU(),
            nn.Conv2d(w1, w1, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(w1, w2, 2, 2),
            nn.GELU(),
            nn.Conv2d(w2, w3, 4, 4),
            nn.GELU(),
            nn.Conv2d(w3, w3, 3, padding=1),
            nn.GELU(),
        )
        self.cells = nn.Conv2d(w3, sum(_SPLIT), 1)
        self.place = nn.Linear(w3, sum(_PLACE_SPLIT))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of cells ``(B, GRID**2, classes)`` and of the background ``(B, classes)``."""
        features = self.features(pixels)
        return self.cells(features).flatten(2).transpose(1, 2), self.place(features.mean((2, 3)))

    def loss(self, pixels: Tensor, scenes: list[Scene]) -> Tensor:
        """The cross-entropy, a scalar, of reading ``pixels`` ``(B, 3, 96, 96)`` as the scenes."""
        cells, place = self(pixels)
        labels = torch.stack([cell_labels(scene) for scene in scenes]).to(pixels.device)
        pattern, color = place.float().split(_PLACE_SPLIT, dim=-1)
        grounds = [scene.background for scene in scenes]
        patterns = torch.tensor([PATTERNS.index(g.pattern) for g in grounds], device=pixels.device)
        names = tuple(BACKGROUND_COLORS)
        colors = torch.tensor([names.index(g.color) for g in grounds], device=pixels.device)
        return (
            reading_loss(cells.float(), labels)
            + F.cross_entropy(pattern, patterns)
            + F.cross_entropy(color, colors)
        )

    @torch.inference_mode()
    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        """The likeliest scene of each picture, and the probability of its least certain part.

        ``pixels`` are ``(B, 3, 96, 96)`` in -1..1.
        """
        cells, place = self(pixels)
        shape, color, size = (part.softmax(-1).max(-1) for part in cells.split(_SPLIT, dim=-1))
        pattern, tone = (part.softmax(-1).max(-1) for part in place.split(_PLACE_SPLIT, dim=-1))
        readings = []
        for b in range(len(pixels)):
            things = tuple(
                Thing(
                    cell // GRID,
                    cell % GRID,
                    SHAPES[int(shape.indices[b, cell])],
                    tuple(COLORS)[int(color.indices[b, cell])],
                    SIZES[int(size.indices[b, cell])],
                )
                for cell in range(GRID**2)
                if shape.indices[b, cell] != EMPTY
            )
            ground = Background(
                PATTERNS[int(pattern.indices[b])],
                tuple(BACKGROUND_COLORS)[int(tone.indices[b])],
            )
            certainty = min(float(shape.values[b].min()), float(pattern.values[b]))
            readings.append((Scene(things, ground), certainty))
        return readings
