"""New seeds, each with the negative prompt that everyone pastes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from npcorrect.diffusion.base import Drawing, ImageModel, Look, OnStep
from npcorrect.evaluation.method import Task, seeds
from npcorrect.types import Attempt, Generation, Request

NEGATIVE = "lowres, blurry, bad anatomy, deformed, extra limbs, watermark, text, worst quality"


def attempts(task: Task) -> Generator[Attempt]:
    """A picture from each seed in turn, with the same negative in all steps."""
    yield from seeds(task, _Pasting(task.tools.model))


@dataclass(frozen=True)
class _Pasting:
    """Draws everything with one negative prompt, in the empty prompt's place."""

    model: ImageModel

    @property
    def name(self) -> str:
        return self.model.name

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        plain = replace(request, rule="paper", window=1.0, looks=None)
        return self.model.resolve(plain, NEGATIVE, attempt)

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
    ) -> list[Generation]:
        return self.model.draw(drawings, on_step, look)
