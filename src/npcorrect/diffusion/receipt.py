"""What negatives did while pictures were drawn, gathered into a receipt for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from npcorrect.errors import ModelError
from npcorrect.records import Receipt

if TYPE_CHECKING:
    from torch import Tensor


class Tally:
    """The guided predictions of a batch in which negatives were part, over all rewinds."""

    def __init__(self, batch: int) -> None:
        self._acts: list[list[tuple[int, Tensor]]] = [[] for _ in range(batch)]
        self._withdrawn: set[int] = set()

    def add(self, step: int, rows: Sequence[int], moved: Tensor) -> None:
        """Note one prediction: its step, the pictures whose negatives acted, how far, ``(R,)``."""
        for row, change in zip(rows, moved, strict=True):
            self._acts[row].append((step, change))

    def withdraw(self, rows: Iterable[int]) -> None:
        """Note that looks want no negative for these pictures."""
        self._withdrawn.update(rows)

    def check(self) -> None:
        """Refuse a picture whose negative never acted, unless a look has withdrawn it.

        Raises:
            ModelError: there is one.
        """
        if any(not acts and row not in self._withdrawn for row, acts in enumerate(self._acts)):
            raise ModelError(
                "The negative prompt acted in no step of a picture that was to be drawn with it; "
                "let it act longer ('negative'), or draw without it."
            )

    def receipts(self) -> list[Receipt]:
        """A receipt for each picture, in order."""
        return [_receipt(acts) for acts in self._acts]


def _receipt(acts: Sequence[tuple[int, Tensor]]) -> Receipt:
    if not acts:
        return Receipt()
    steps = [step for step, _ in acts]
    mean = sum(float(moved) for _, moved in acts) / len(acts)
    return Receipt(len(acts), min(steps), max(steps) + 1, mean if isfinite(mean) else None)
