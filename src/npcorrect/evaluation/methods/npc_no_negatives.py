"""The correction loop going back where looks find a fault, but with no negative: a control."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from PIL.Image import Image

from npcorrect.diffusion.base import Drawing, Glance, Look, OnStep
from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.evaluation.methods.wrapper import Wrapper
from npcorrect.loop import correct
from npcorrect.ranking import DEFAULT_RANKER
from npcorrect.records import Attempt, Generation, Request


def attempts(task: Task) -> Generator[Attempt]:
    """As ``npc``, by plain guidance alone."""
    tools = task.tools
    model, ranker = _Unsteered(tools.model), tools.rankers[DEFAULT_RANKER]
    yield from restarted(task, lambda request: correct(request, model, tools.roles, ranker))


class _Unsteered(Wrapper):
    """Looks when a redrawing begins, to take its negative away, and where it may go back."""

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        drawing = super().resolve(request, negative_prompt, attempt)
        return replace(drawing, look_steps=(drawing.start_step, *drawing.look_steps[-1:]))

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        def unsteered(
            first: int, images: Sequence[Image], negatives: Sequence[str | None]
        ) -> list[Glance]:
            assert look is not None
            return [Glance(None, glance.wrong) for glance in look(first, images, negatives)]

        return super().draw(drawings, on_step, unsteered if look else None, origin)
