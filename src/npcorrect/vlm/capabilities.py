"""What a server can do: probed once for each model and remembered, never assumed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from npcorrect.vlm.base import Message, Question
from npcorrect.vlm.replies import UnusableError, object_in

WORD = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}
OBJECT = Question((Message("user", "Say hello."),), schema=WORD, max_tokens=200, seed=0)
"""Says nothing of JSON, so that an object in the reply shows that the server made it one."""
CHOICE = Question((Message("user", "Is one more than zero?"),), choices=("yes", "no"))


@dataclass(frozen=True)
class Capabilities:
    """What requests to a model may contain.

    ``limit`` is the name under which the server takes the number of tokens to write.
    ``structure`` is how it is held to an object: by JSON schema, by JSON mode, or by words alone.
    ``likely`` is how many tokens' log-probabilities it gives at each place; 0 for none.
    """

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    seed: bool = True
    structure: Literal["schema", "json", "words"] = "schema"
    likely: int = 20


Try = Callable[[Question, Capabilities], Awaitable[tuple[str, bool] | None]]
"""Asks with these capabilities: the reply's text and whether log-probabilities came, or None where
the server refused the request."""


async def probe(ask: Try) -> Capabilities:
    """The capabilities of a model: with all of them at first, and one by one where that is refused.

    Takes two requests where the server has all capabilities, and up to ten where it has few.
    """
    able = Capabilities()
    if not await _structures(ask, able):
        able = await _parameters(ask)
        able = await _structure(ask, able)
    for likely in (20, 5):
        reply = await ask(CHOICE, replace(able, likely=likely))
        if reply and reply[1]:
            return replace(able, likely=likely)
    return replace(able, likely=0)


async def _parameters(ask: Try) -> Capabilities:
    """Names and parameters that are not refused. The request without any must not be either."""
    bare = Capabilities(temperature=False, seed=False, structure="words", likely=0)
    plain = replace(OBJECT, schema=None, seed=0)
    if not await ask(plain, bare):
        bare = replace(bare, limit="max_completion_tokens")
        await ask(plain, bare)
    for more in (replace(bare, temperature=True), replace(bare, seed=True)):
        if await ask(plain, more):
            bare = replace(
                bare, temperature=bare.temperature or more.temperature, seed=bare.seed or more.seed
            )
    return bare


async def _structure(ask: Try, able: Capabilities) -> Capabilities:
    if await _structures(ask, replace(able, structure="schema")):
        return replace(able, structure="schema")
    reply = await ask(OBJECT, replace(able, structure="json"))
    return replace(able, structure="json" if reply else "words")


async def _structures(ask: Try, able: Capabilities) -> bool:
    """Whether the model is held to a schema that nobody told it in words."""
    reply = await ask(OBJECT, able)
    if reply is None:
        return False
    try:
        object_in(reply[0], WORD)
    except UnusableError:
        return False
    return True
