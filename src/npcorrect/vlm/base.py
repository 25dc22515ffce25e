"""What the roles and the judges ask of a vision-language model. Imports no client and no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from PIL.Image import Image

from npcorrect.records import Usage as Usage


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
    ``choices``, the reply is one of these words, and its probabilities are asked for. With both,
    the reply is a flat object whose values are such words, each with its probabilities. With
    ``tokens``, the reply is whatever the model begins with, and the probabilities of its likeliest
    first tokens are asked for; nothing is added to the messages. ``check`` looks at the usable
    text and raises ValueError, with a reason that can be shown to the model, where it still is not
    what was asked for.
    """

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    tokens: bool = False
    check: Callable[[str], object] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Reply:
    """A model's answer: a proposal, never a fact.

    ``error`` says why there is no usable answer; ``text`` then holds whatever raw text came.
    ``probabilities`` are those of the question's choices, where the model gives them. A choice that
    is missing there is unknown, not impossible: the sum falls short of 1 by the most that the
    missing ones can have together. ``fields`` are the same for each field of an object of choices.
    ``tokens`` are the likeliest first tokens with their probabilities among *all* tokens: what they
    lack to 1 belongs to tokens that the model did not tell of.
    ``cached`` replies came from the cache and took nothing. ``stopped`` is set where the question
    was not asked because the budget does not allow it, ``fatal`` where the server answers nobody
    until the user acts: it is away, or refuses the key or the model.
    """

    text: str
    error: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    cached: bool = False
    stopped: bool = False
    fatal: bool = False


class VLM(Protocol):
    """Answers questions about texts and pictures, wherever the model runs."""

    @property
    def name(self) -> str:
        """The name by which the user chose the model, for example ``openai:gpt-4.1``."""
        ...

    @property
    def remote(self) -> bool:
        """Whether asking mostly means waiting for a server."""
        ...

    @property
    def together(self) -> bool:
        """Whether the claims about a picture may be asked in one question.

        True where the answers are bound to the question's schema, have probabilities, and were
        probed to agree with those to the same claims asked singly. Known once connected.
        """
        ...

    def connect(self) -> None:
        """Find out whether and how the model can be asked; not necessary before :meth:`ask`.

        Raises:
            InputError: nothing can be asked: no such model, no key, no server, or a
                model that cannot read pictures.
            BudgetError: the budget does not allow finding out.
        """
        ...

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer all questions, in order; a failure of one is that reply's ``error``.

        Raises:
            InputError: nothing was ever answered, and nothing can be.
        """
        ...


@runtime_checkable
class Forgetful(Protocol):
    """A model whose answers are kept, until they turn out to be of no use."""

    def forget(self, questions: Sequence[Question]) -> None:
        """Ask these of the model again where they come again."""
        ...


class Memory(Protocol):
    """Keeps small texts by their keys, from one run to another."""

    def recall(self, key: str) -> str | None:
        """The text kept under ``key``, or None where there is none."""
        ...

    def keep(self, key: str, value: str) -> None:
        """Keep ``value`` under ``key``, in place of what was kept there."""
        ...
