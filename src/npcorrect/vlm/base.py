"""What the roles and the judges ask of a vision-language model. Imports no client and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL.Image import Image

from npcorrect.records import add_money


@dataclass(frozen=True)
class Encoding:
    """How a server is sent a picture, where that is not left to the client.

    ``format`` and ``quality`` are Pillow's, ``media_type`` is what the picture is declared as.
    """

    format: Literal["JPEG", "PNG"]
    quality: int | None = None
    media_type: str = "image/jpeg"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Pictures come before the text, unless ``text_first``. With ``encoding`` they are sent at full
    size and as it says; without, the client chooses a size and a format.
    """

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[Image, ...] = field(default=(), repr=False)
    text_first: bool = False
    encoding: Encoding | None = None


@dataclass(frozen=True)
class Question:
    """One call of a model.

    With ``schema``, a JSON schema, the reply's text is a JSON object that meets it. With
    ``choices``, the reply is one of these words, and its probabilities are asked for. With
    ``tokens``, the reply is whatever the model begins with, and the probabilities of its likeliest
    first tokens are asked for; nothing is added to the messages.
    """

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    tokens: bool = False


@dataclass(frozen=True)
class Usage:
    """What a reply took.

    ``calls`` counts every request that was sent; ``retries`` those of them that were sent again.
    ``money`` is in the currency of the user's price table, and None where it has no price.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    retries: int = 0
    money: float | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.seconds + other.seconds,
            self.retries + other.retries,
            add_money(self.money, other.money),
        )


@dataclass(frozen=True)
class Reply:
    """A model's answer: a proposal, never a fact.

    ``error`` says why there is no usable answer; ``text`` then holds whatever raw text came.
    ``probabilities`` are those of the question's choices, renormalised to 1, where the model gives
    them. ``tokens`` are the likeliest first tokens with their probabilities among *all* tokens:
    what they lack to 1 belongs to tokens that the model did not tell of. ``cached`` replies came
    from the cache and took nothing. ``stopped`` is set where the question was not asked because the
    budget does not allow it.
    """

    text: str
    error: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = Usage()
    model: str = ""
    cached: bool = False
    stopped: bool = False
    tokens: Mapping[str, float] = field(default_factory=dict)


class VLM(Protocol):
    """A vision-language model, wherever it runs."""

    @property
    def name(self) -> str:
        """What the user calls the model, for example ``openai:gpt-4.1``."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer all questions, in order; a failure of one is that reply's ``error``.

        Raises:
            InputError: nothing can be asked at all: no such model, no key, no server.
        """
        ...
