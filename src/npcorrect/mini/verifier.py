"""The verifier's network: what stands in each cell, seen by a small convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from npcorrect.mini.labels import CELL_CLASSES, EMPTY, reading_loss
from npcorrect.mini.scene import CELL, COLORS, GRID, GROUNDS, KINDS, SIZES, Scene, Thing


class CellReader(nn.Module):
    """Cells ``(N, 3, 64, 64)`` in -1..1 to logits of kind, colour, size and ground."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 3 * width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(48 * width, 256),
            nn.GELU(),
            nn.Linear(256, sum(CELL_CLASSES)),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Logits ``(N, sum(CELL_CLASSES))`` of cells ``(N, 3, side, side)`` in -1..1."""
        logits: Tensor = self.layers(cells)
        return logits

    def loss(self, cells: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy against the true classes ``(N, 4)``."""
        return reading_loss(self(cells), labels)

    @torch.inference_mode()
    def read(self, pixels: Tensor) -> list[tuple[Scene, float]]:
        """The likeliest scene of each picture ``(B, 3, 192, 192)``, and the probability of its
        least certain cell's kind.
        """
        b = len(pixels)
        cells = pixels.view(b, 3, GRID, CELL, GRID, CELL).permute(0, 2, 4, 1, 3, 5)
        logits = self(cells.reshape(-1, 3, CELL, CELL)).view(b, GRID**2, -1)
        return [_scene(picture) for picture in logits]


def _scene(logits: Tensor) -> tuple[Scene, float]:
    """The scene that the logits of nine cells ``(9, sum(CELL_CLASSES))`` speak for."""
    kind, color, size, ground = (part.softmax(-1) for part in logits.split(CELL_CLASSES, dim=-1))
    kinds, colors, sizes = (part.argmax(-1).tolist() for part in (kind, color, size))
    things = tuple(
        Thing(cell // GRID, cell % GRID, KINDS[k], tuple(COLORS)[c], SIZES[s])
        for cell, (k, c, s) in enumerate(zip(kinds, colors, sizes, strict=True))
        if k != EMPTY
    )
    name = tuple(GROUNDS)[int(ground.mean(0).argmax())]
    return Scene(things, name), float(kind.max(-1).values.min())
