"""What looks at emerging pictures change: their negatives, and whether they go back."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from npcorrect.diffusion.base import Look
from npcorrect.records import Drawing


class Looks:
    """The looks at pictures that are drawn together, and what they have changed so far.

    ``first`` is the place of the first picture among all that were asked for. ``negatives`` act
    now, one for each picture; ``changes`` are each picture's ``steering``, as
    :class:`~npcorrect.records.Generation` has it. ``count`` looks were taken, and the pictures went
    back ``rewinds`` times.
    """

    def __init__(self, drawings: Sequence[Drawing], look: Look | None, first: int = 0) -> None:
        self.first = first
        self.negatives = [drawing.branch_text for drawing in drawings]
        self.changes: list[list[tuple[int, str | None]]] = [[] for _ in drawings]
        self.count = self.rewinds = 0
        self._drawing, self._look = drawings[0], look

    @property
    def wanted(self) -> bool:
        """Whether the watch asks to look at emerging pictures; if not, none is decoded."""
        return self._look is not None

    def take(self, step: int, images: Sequence[Image]) -> bool:
        """Have the pictures that emerge before ``step`` looked at, and renew their negatives.

        Returns whether they go back: this was the last look, all of them are wrong, and they may.
        """
        assert self._look is not None
        glances = self._look(self.first, images, self.negatives)
        self.count += 1
        back = (
            step == self._drawing.look_steps[-1]
            and self.rewinds < self._drawing.max_rewinds
            and all(glance.wrong for glance in glances)
        )
        renewed = [glance.negative for glance in glances]
        start, stop = self._drawing.window
        acts = max(self._drawing.restart_step if back else step, start)
        for changes, old, new in zip(self.changes, self.negatives, renewed, strict=True):
            if (new != old or back) and acts < stop:
                changes.append((acts, new))
        self.negatives = renewed
        self.rewinds += back
        return back
