"""Cells drawn on any device, many at a time: the drawings of :mod:`.scene` as one network.

Training draws millions of cells; this draws the same pixels as :func:`.scene.draw_cell`.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from npcorrect.mini.labels import EMPTY
from npcorrect.mini.scene import CELL, COLORS, GROUNDS, JITTER, KINDS, SIZES, layers


class Renderer(nn.Module):
    """Labels of cells ``(N, 4)`` to pixels ``(N, 3, 64, 64)`` in -1..1."""

    bank: Tensor
    colors: Tensor
    grounds: Tensor

    def __init__(self) -> None:
        super().__init__()
        drawings = [torch.from_numpy(layers(*name)) for name in product(KINDS, SIZES)]
        empty = torch.zeros(1, CELL, CELL, 5)
        self.register_buffer("bank", torch.cat([torch.stack(drawings), empty]))
        self.register_buffer("colors", torch.tensor([*COLORS.values()]) / 255)
        self.register_buffer("grounds", torch.tensor([*GROUNDS.values()]) / 255)

    def forward(self, labels: Tensor, shifts: Tensor | None = None) -> Tensor:
        """The cells, displaced by ``shifts`` ``(N, 2)``: pixels down and to the right."""
        kind, color, size, ground = labels.unbind(-1)
        number = torch.where(kind == EMPTY, len(self.bank) - 1, len(SIZES) * kind + size)
        drawn = self.bank[number] if shifts is None else self._displaced(number, shifts)
        fixed, body, cover = drawn.split((3, 1, 1), dim=-1)
        tint, tone = (part[:, None, None] for part in (self.colors[color], self.grounds[ground]))
        pixels = torch.minimum(fixed + body * tint, cover) + (1 - cover) * tone
        cells: Tensor = 2 * pixels.permute(0, 3, 1, 2) - 1
        return cells

    def _displaced(self, number: Tensor, shifts: Tensor) -> Tensor:
        places = torch.arange(CELL, device=number.device)
        rows, columns = ((places - shift[:, None]) % CELL for shift in shifts.unbind(-1))
        return self.bank[number[:, None, None], rows[:, :, None], columns[:, None, :]]

    def random_shifts(self, count: int) -> Tensor:
        """Displacements ``(count, 2)`` as scenes have them."""
        return torch.randint(-JITTER, JITTER + 1, (count, 2), device=self.bank.device)


def random_labels(pictures: int, cells: int, full: float, device: str) -> Tensor:
    """Labels ``(pictures * cells, 4)`` of cells of pictures with one ground each.

    ``full`` is the share of cells in which something stands.
    """
    shape = pictures, cells

    def one_of(count: int, *shape: int) -> Tensor:
        return torch.randint(count, shape, device=device)

    kind, color, size = one_of(len(KINDS), *shape), one_of(len(COLORS), *shape), one_of(3, *shape)
    ground = one_of(len(GROUNDS), pictures, 1).expand(shape)
    empty = torch.rand(shape, device=device) >= full
    labels = torch.stack([kind.masked_fill(empty, EMPTY), color, size, ground], -1)
    labels[..., 1:3].masked_fill_(empty[..., None], 0)
    return labels.flatten(0, 1)
