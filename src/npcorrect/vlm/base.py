"""What the roles and the judges ask of a vision-language model. Imports no client and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL.Image import Image

from npcorrect.records import Usage as Usage


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; pictures come before the text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[Image, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Question:
    """One call of a model.

    With ``schema``, a JSON schema, the reply's text is a JSON object that meets it. With
    ``choices``, the reply is one of these words, and its probabilities are asked for.
    """

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None


@dataclass(frozen=True)
class Reply:
    """A model's answer: a proposal, never a fact.

    ``error`` says why there is no usable answer; ``text`` then holds whatever raw text came.
    ``probabilities`` are those of the question's choices, renormalised to 1, where the model gives
    them. ``cached`` replies came from the cache and took nothing. ``stopped`` is set where the
    question was not asked because the budget does not allow it.
    """

    text: str
    error: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    cached: bool = False
    stopped: bool = False


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
