"""What a server can do: probed once for each model and remembered, never assumed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image, ImageDraw

from npcorrect.vlm.base import Message, Question, Reply
from npcorrect.vlm.questions import about_claim, about_claims
from npcorrect.vlm.reasoning import UnusableError
from npcorrect.vlm.replies import object_in

SYSTEM = Message("system", "You answer questions about pictures.")
WORD = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}
CLAIMS = {
    "r1": "at least one circle is visible",
    "r2": "exactly two squares",
    "r3": "all squares are blue",
}
THOUGHT_ROOM = 4096
"""Tokens that a model which cannot be kept from thinking gets beside those for its answer."""
_BARE_TOKENS = 1024
SWITCHES: tuple[Mapping[str, Any], ...] = (
    {"reasoning_effort": "none"},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"reasoning_effort": "minimal"},
    {"reasoning_effort": "low"},
)
"""How servers are told to think less: Ollama and OpenAI, vLLM, SGLang and llama.cpp (two names that
chat templates use), older models of OpenAI."""


def sample(side: int) -> Image.Image:
    """A square picture of a red circle beside a blue square on white."""
    image = Image.new("RGB", (side, side), "white")
    draw, unit = ImageDraw.Draw(image), side / 8
    draw.ellipse((unit, 3 * unit, 3.5 * unit, 5.5 * unit), fill="red")
    draw.rectangle((4.5 * unit, 3 * unit, 7 * unit, 5.5 * unit), fill="blue")
    return image


PICTURE = sample(224)
BARE = Question(
    (SYSTEM, Message("user", "What does the picture show? Answer in a few words.", (PICTURE,))),
    max_tokens=_BARE_TOKENS,
)
OBJECT = Question(
    (SYSTEM, Message("user", "Say hello.")), schema=WORD, max_tokens=_BARE_TOKENS, seed=0
)
"""Says nothing of JSON, so that an object in the reply shows that the server made it one."""
TOGETHER = about_claims(CLAIMS, PICTURE)
SINGLE = tuple(about_claim(claim, PICTURE) for claim in CLAIMS.values())


Limit = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True)
class Capabilities:
    """What requests to a model may contain.

    ``limit`` is the name under which the server takes the number of tokens to write. Without
    ``system`` the instructions go before the user's text. ``structure`` is how it is held to an
    object: by JSON schema, by JSON mode, or by words alone. ``likely`` is how many tokens'
    log-probabilities it gives at each place; 0 for none. ``switch`` is what keeps it from thinking,
    as far as it can be, and ``thinks`` whether it thinks all the same. ``together`` says that
    claims asked together got the answers, with probabilities, that they got singly.
    """

    limit: Limit = "max_tokens"
    system: bool = True
    temperature: bool = True
    seed: bool = True
    structure: Literal["schema", "json", "words"] = "schema"
    likely: int = 20
    switch: Mapping[str, Any] = field(default_factory=dict)
    thinks: bool = False
    together: bool = False

    @property
    def room(self) -> int:
        """The tokens that a question's limit is raised by, for thought."""
        return THOUGHT_ROOM if self.thinks else 0


PLAIN = Capabilities(temperature=False, seed=False, structure="words", likely=0)
"""What the bare request contains: a system message, a picture, and a limit."""


@dataclass(frozen=True)
class Tried:
    """A reply to a probe: its text, whether log-probabilities came, and whether it took thought.

    A few words that do not end within the limit are taken for thought too.
    """

    text: str
    likely: bool
    thought: bool


Try = Callable[[Question, Capabilities], Awaitable[Tried | None]]
"""Asks with these capabilities; None where the server refuses the request."""
Ask = Callable[[Question, Capabilities], Awaitable[Reply]]
"""Asks as roles do, with these capabilities."""


async def bare(attempt: Try) -> tuple[Capabilities, Tried] | None:
    """The least that a request must contain to be answered, and the answer; None without any."""
    for able in (
        PLAIN,
        replace(PLAIN, limit="max_completion_tokens"),
        replace(PLAIN, system=False),
    ):
        if tried := await attempt(BARE, able):
            return able, tried
    return None


async def probe(attempt: Try, ask: Ask, able: Capabilities, first: Tried) -> Capabilities:
    """The capabilities of a model whose ``first`` bare request succeeded with these.

    All are tried at once, and one by one where that is refused.
    """
    if first.thought:
        able = await _switched(attempt, able)
    full = replace(able, temperature=True, seed=True, structure="schema")
    if await _structures(attempt, full):
        able = full
    else:
        able = await _structure(attempt, await _parameters(attempt, able))
    able = await _likely(attempt, able)
    return replace(able, together=await _agrees(ask, able))


async def _switched(attempt: Try, able: Capabilities) -> Capabilities:
    """The first switch that keeps the model from thinking, or else the last that it takes."""
    taken = replace(able, thinks=True)
    for switch in SWITCHES:
        tried = await attempt(BARE, replace(able, switch=switch))
        if tried and not tried.thought:
            return replace(able, switch=switch)
        if tried and "reasoning_effort" in switch:
            taken = replace(taken, switch=switch)
    return taken


async def _parameters(attempt: Try, able: Capabilities) -> Capabilities:
    """The parameters that are not refused."""
    plain = replace(OBJECT, schema=None)
    if await attempt(plain, warm := replace(able, temperature=True)):
        able = warm
    if await attempt(plain, seeded := replace(able, seed=True)):
        able = seeded
    return able


async def _structure(attempt: Try, able: Capabilities) -> Capabilities:
    if await _structures(attempt, replace(able, structure="schema")):
        return replace(able, structure="schema")
    tried = await attempt(OBJECT, replace(able, structure="json"))
    return replace(able, structure="json" if tried else "words")


async def _structures(attempt: Try, able: Capabilities) -> bool:
    """Whether the model is held to a schema that nobody told it in words."""
    tried = await attempt(OBJECT, able)
    if tried is None:
        return False
    try:
        object_in(tried.text, WORD)
    except UnusableError:
        return False
    return True


async def _likely(attempt: Try, able: Capabilities) -> Capabilities:
    """As many log-probabilities as the server gives at each place."""
    for likely in (20, 5, 1):
        tried = await attempt(SINGLE[0], replace(able, likely=likely))
        if tried and tried.likely:
            return replace(able, likely=likely)
    return able


async def _agrees(ask: Ask, able: Capabilities) -> bool:
    """Whether claims asked together get the answers that they get singly, with probabilities."""
    if able.structure != "schema" or not able.likely:
        return False
    together = await ask(TOGETHER, able)
    if together.fields.keys() != CLAIMS.keys():
        return False
    return agree(together, [await ask(question, able) for question in SINGLE])


def agree(together: Reply, single: Sequence[Reply]) -> bool:
    """Whether the replies to :data:`TOGETHER` and to :data:`SINGLE` say the same, surely."""
    if together.error or together.fields.keys() != CLAIMS.keys():
        return False
    likeliest = (max(s, key=s.__getitem__) for s in map(together.fields.__getitem__, CLAIMS))
    return [reply.text for reply in single if not reply.error] == list(likeliest)
