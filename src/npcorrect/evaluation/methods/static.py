"""New seeds, each with the negative prompt that everyone pastes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from npcorrect.diffusion.base import Drawing
from npcorrect.evaluation.methods.base import Task, seeds
from npcorrect.evaluation.methods.wrapper import Wrapper
from npcorrect.records import Attempt, Request

NEGATIVE = "lowres, blurry, bad anatomy, deformed, extra limbs, watermark, text, worst quality"


def attempts(task: Task) -> Generator[Attempt]:
    """A picture from each seed in turn, with the same negative in all steps."""
    yield from seeds(task, _Pasting(task.tools.model))


class _Pasting(Wrapper):
    """Draws everything with one negative prompt, in the empty prompt's place."""

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        plain = replace(request, rule="paper", window=1.0, looks=None)
        return super().resolve(plain, NEGATIVE, attempt)
