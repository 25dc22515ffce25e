"""New seeds, each with the negative prompt that everyone pastes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from npcorrect.diffusion.base import UNWATCHED, ImageModel, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.evaluation.methods.base import Task, seeds
from npcorrect.evaluation.methods.npc_paper import released
from npcorrect.plan import Plan
from npcorrect.records import Attempt, Drawing, Generation, Request

NEGATIVE = "lowres, blurry, bad anatomy, deformed, extra limbs, watermark, text, worst quality"
EMBEDDED = "extra objects, wrong color"
"""What comes closest to it in the words that the embedded model knows."""


def attempts(task: Task) -> Generator[Attempt]:
    """A picture from each seed in turn, with the same negative in all steps."""
    negative = EMBEDDED if task.session.settings.embedded else NEGATIVE
    yield from seeds(task.around(_Pasting(task.session.model, negative)))


def pasted(request: Request) -> Request:
    """A request by rule ``paper`` in all steps, at the scale of the run."""
    return replace(released(request), scale=request.scale, negative=1.0)


class _Pasting(Wrapper):
    """Draws everything with one negative prompt, in the unconditional branch's place."""

    def __init__(self, inner: ImageModel, negative: str) -> None:
        super().__init__(inner)
        self._negative = negative

    def plan(self, request: Request) -> Plan:
        return super().plan(pasted(request))

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        pasted = [replace(drawing, negative_prompt=self._negative) for drawing in drawings]
        return super().draw(pasted, watch)
