"""New seeds of the prompt as a language model expands it, in positive words."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from npcorrect.errors import NpcError
from npcorrect.evaluation.methods.base import Task, seeds
from npcorrect.records import Attempt, add_money
from npcorrect.vlm.base import VLM, Message, Question, Reply

_SYSTEM = """You rewrite prompts for a model that draws pictures. Keep everything that the prompt
asks for: every object, number, colour, size and place. Say each of them more explicitly, add
nothing that contradicts them, and name no object that the prompt does not. Describe only what is to
be seen, in positive words, in at most 60 words. Answer with the new prompt alone."""


def attempts(task: Task) -> Generator[Attempt]:
    """A picture of the rewritten prompt from each seed in turn, verified against the original.

    Where the model gives nothing, the original prompt is drawn. The first attempt pays for it.
    """
    assert task.tools.writer is not None
    reply = _rewritten(task.tools.writer, task.sample.prompt)
    prompt = task.sample.prompt if reply.error else reply.text.strip() or task.sample.prompt
    usage = reply.usage
    for attempt in seeds(task, prompt=prompt):
        if attempt.index == 0:
            cost = replace(
                attempt.cost,
                vlm_calls=attempt.cost.vlm_calls + usage.calls,
                tokens=attempt.cost.tokens + usage.input_tokens + usage.output_tokens,
                seconds=attempt.cost.seconds + usage.seconds,
                retries=attempt.cost.retries + usage.retries,
                money=add_money(attempt.cost.money, usage.money),
            )
            attempt = replace(attempt, cost=cost)
        yield attempt


def _rewritten(writer: VLM, prompt: str) -> Reply:
    messages = Message("system", _SYSTEM), Message("user", prompt)
    (reply,) = writer.ask([Question(messages, max_tokens=200)])
    if reply.stopped:
        raise NpcError(reply.error)
    return reply
