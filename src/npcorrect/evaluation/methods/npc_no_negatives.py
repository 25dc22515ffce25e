"""The correction loop going back where looks find a fault, but with no negative: a control."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from PIL.Image import Image

from npcorrect.diffusion.base import UNWATCHED, Glance, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.plan import Plan
from npcorrect.records import Attempt, Drawing, Generation, Request


def attempts(task: Task) -> Generator[Attempt]:
    """The attempts of ``npc`` with its looks and rewinds, and no negative in any of them."""
    yield from restarted(task, task.around(_Unsteered(task.session.model)).correct)


def looking(request: Request) -> Request:
    """A request that looks, since it is a look that takes a negative away."""
    return replace(request, looks=request.looks or 1)


class _Unsteered(Wrapper):
    """Looks when a redrawing begins, to take its negative away, and where it may go back."""

    def plan(self, request: Request) -> Plan:
        made = super().plan(request)
        template = made.template
        looks = (template.restart_step, *template.look_steps[-1:])
        return replace(made, template=replace(template, look_steps=looks), denies=False)

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        look = watch.look

        def unsteered(
            first: int, images: Sequence[Image], negatives: Sequence[str | None]
        ) -> list[Glance]:
            assert look is not None
            return [Glance(None, glance.wrong) for glance in look(first, images, negatives)]

        return super().draw(drawings, replace(watch, look=unsteered if look else None))
