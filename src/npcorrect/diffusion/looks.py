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
    :class:`~npcorrect.records.Generation` has it, and ``answers`` what was said of each. ``count``
    looks were taken, and the pictures went back ``rewinds`` times.
    """

    def __init__(self, drawings: Sequence[Drawing], look: Look | None, first: int = 0) -> None:
        self.first = first
        self.negatives = [drawing.branch_text for drawing in drawings]
        self.changes: list[list[tuple[int, str | None]]] = [[] for _ in drawings]
        self.answers: list[list[tuple[str | None, bool]]] = [[] for _ in drawings]
        self.count = self.rewinds = 0
        self._drawing, self._look = drawings[0], look

    @property
    def wanted(self) -> bool:
        """Whether the watch asks to look at emerging pictures; if not, none is decoded."""
        return self._look is not None

    def take(self, step: int, images: Sequence[Image], acts: int) -> bool:
        """Have the pictures that emerge before ``step`` looked at, and renew their negatives.

        A new text acts from step ``acts`` on, none from ``step``, and where they go back either
        from where they begin again. Returns whether they do: this was the last look, all of them
        are wrong, and they may.
        """
        assert self._look is not None
        glances = self._look(self.first, images, self.negatives)
        self.count += 1
        back = (
            step == self._drawing.look_steps[-1]
            and self.rewinds < self._drawing.max_rewinds
            and all(glance.wrong for glance in glances)
        )
        begin = self._drawing.restart_step if back else None
        for row, glance in enumerate(glances):
            self.answers[row].append((glance.negative, glance.wrong))
            if back or glance.negative != self.negatives[row]:
                at = step if glance.negative is None else acts
                self._change(row, step, at if begin is None else begin, glance.negative)
        self.negatives = [glance.negative for glance in glances]
        self.rewinds += back
        return back

    def _change(self, row: int, step: int, acts: int, negative: str | None) -> None:
        """Note what acts on a picture from now on; what was to act, and did not yet, never will."""
        start, stop = self._drawing.window
        changes, acts = self.changes[row], max(acts, start)
        if changes and step <= changes[-1][0]:
            changes.pop()
        if acts < stop:
            changes.append((acts, negative))
