"""New seeds of the prompt as a language model expands it, in positive words."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from npcorrect.diffusion.base import ImageModel
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.errors import NpcError
from npcorrect.evaluation.methods.base import Task, seeds
from npcorrect.plan import Plan
from npcorrect.records import Attempt, Cost, Request
from npcorrect.vlm.base import VLM, Message, Question, Reply

_SYSTEM = """You rewrite prompts for a model that draws pictures. Keep everything that the prompt
asks for: every object, number, colour, size and place. Say each of them more explicitly, add
nothing that contradicts them, and name no object that the prompt does not. Describe only what is to
be seen, in positive words, in at most 60 words. Answer with the new prompt alone."""


def attempts(task: Task) -> Generator[Attempt]:
    """A picture of the rewritten prompt from each seed in turn, verified against the original.

    Where the model gives nothing, the original prompt is drawn. The first attempt pays for it.
    """
    assert task.writer is not None
    reply = _rewritten(task.writer, task.sample.prompt)
    prompt = task.sample.prompt if reply.error else reply.text.strip() or task.sample.prompt
    for attempt in seeds(task.around(_Rewriting(task.session.model, prompt))):
        paid = Cost(seconds=reply.usage.seconds, usage=reply.usage) if not attempt.index else Cost()
        yield replace(attempt, cost=attempt.cost + paid)


class _Rewriting(Wrapper):
    """Draws one prompt, whatever it is asked for."""

    def __init__(self, model: ImageModel, prompt: str) -> None:
        super().__init__(model)
        self._prompt = prompt

    def plan(self, request: Request) -> Plan:
        made = super().plan(request)
        self.check_text(self._prompt)
        return replace(made, template=replace(made.template, prompt=self._prompt))


def _rewritten(writer: VLM, prompt: str) -> Reply:
    messages = Message("system", _SYSTEM), Message("user", prompt)
    (reply,) = writer.ask([Question(messages, max_tokens=200)])
    if reply.stopped:
        raise NpcError(reply.error)
    return reply
