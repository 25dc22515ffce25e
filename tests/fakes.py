"""A session of fakes that knows nothing but apples; instant, and it remembers what was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from npcorrect.diffusion.base import UNWATCHED, Watch
from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeImageModel
from npcorrect.errors import VLMError
from npcorrect.plan import Defaults
from npcorrect.records import (
    Candidate,
    Caption,
    Check,
    Checklist,
    Drawing,
    Generation,
    Requirement,
    Verdict,
)
from npcorrect.session import Session, SessionSettings
from npcorrect.vlm.roles import Roles
from tests.timing import until

EXISTS = Requirement("r1", "object", "at least one apple is visible", "apple", "apple")
COUNT = Requirement("r2", "count", "exactly three apples", "apple", "3", depends_on=("r1",))


def shade(drawing: Drawing) -> Image.Image:
    """A picture in which seed and negative can be told: the same drawing, the same pixels."""
    red = drawing.seed % 256
    green = sum(map(ord, drawing.negative_prompt or "")) % 256
    return Image.new("RGB", (drawing.width, drawing.height), (red, green, 0))


Holds = Callable[[Drawing, int], bool]
"""Whether a drawing waits after so many steps."""


class HeldModel(FakeImageModel):
    """Takes no step as long as one of its drawings is held and none is cancelled."""

    def __init__(self, holds: Holds, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._holds = holds

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        def wait(step: int) -> None:
            until(lambda: watch.cancelled() or not any(self._holds(one, step) for one in drawings))

        def on_step(step: int, total: int) -> None:
            watch.on_step(step, total)
            wait(step)

        wait(0)
        return super().draw(drawings, replace(watch, on_step=on_step))


@dataclass
class FakeViewer:
    """Sees what it is told to, one answer for each picture; the last for all that follow.

    An answer is what is seen in place of three apples, "" for a right picture, None for no answer.
    """

    sees: Sequence[str | None] = ("four apples",)
    asked: list[Image.Image] = field(default_factory=list)

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        seen = self.sees[min(len(self.asked), len(self.sees) - 1)]
        self.asked.append(image)
        if seen is None:
            raise VLMError("The server is gone.")
        exists, count = checklist.requirements
        return Verdict((Check(exists, True), Check(count, not seen, seen)))

    def caption(self, image: Image.Image) -> Caption:
        return Caption("four apples on a table", ("four apples", "a table"))

    def checklist(self, prompt: str) -> Checklist:
        return Checklist(prompt, (EXISTS, COUNT))


class ManyFaults:
    """Proposes as many negatives as are wanted."""

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        return tuple(Candidate(f"{n} apples", "targeted") for n in range(4, 4 + limit))


def session(
    viewer: FakeViewer | None = None,
    defaults: Defaults = FAKE_DEFAULTS,
    on_draw: Callable[[Drawing], object] = lambda drawing: None,
    settings: SessionSettings | None = None,
) -> Session:
    viewer = viewer or FakeViewer()
    model = FakeImageModel(replace(defaults, sizes=(16,)), paint=shade, on_draw=on_draw)
    return Session(
        model, Roles(viewer, viewer, viewer, ManyFaults()), settings or SessionSettings()
    )
