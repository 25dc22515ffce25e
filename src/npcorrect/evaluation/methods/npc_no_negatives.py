"""The correction loop with no negative in any redrawing: a control."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from PIL.Image import Image

from npcorrect.diffusion.base import UNWATCHED, Glance, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.evaluation.methods.base import Task, restarted
from npcorrect.loop import Correction
from npcorrect.plan import Plan
from npcorrect.records import Attempt, Drawing, Generation, Request


def attempts(task: Task) -> Generator[Attempt]:
    """The attempts of ``npc`` with its strength, looks and rewinds, and without its negatives."""
    unsteered = task.around(_Unsteered(task.session.model))

    def run(request: Request) -> Correction:
        return unsteered.correct(freshly(request))

    yield from restarted(task, run)


def freshly(request: Request) -> Request:
    """A request that draws from new seeds: without a negative, the same one draws the same."""
    return replace(request, fresh=True)


class _Unsteered(Wrapper):
    """Draws without the negatives that it is given, and looks as it would with them."""

    def plan(self, request: Request) -> Plan:
        made = super().plan(request)
        template = made.template
        if made.looks:  # The first look takes away the negative that looks go with.
            looks = (template.restart_step, *template.look_steps[-1:])
            template = replace(template, look_steps=looks)
        return replace(made, template=template, denies=False)

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        look = watch.look

        def unsteered(
            first: int, images: Sequence[Image], negatives: Sequence[str | None]
        ) -> list[Glance]:
            assert look is not None
            return [Glance(None, glance.wrong) for glance in look(first, images, negatives)]

        plain = [d if d.look_steps else replace(d, negative_prompt=None) for d in drawings]
        return super().draw(plain, replace(watch, look=unsteered if look else None))
