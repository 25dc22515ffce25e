"""How models are asked: the roles' instructions, and quotes that no text can leave."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any

from PIL.Image import Image
from pydantic import BaseModel

from npcorrect.errors import BudgetError
from npcorrect.vlm.base import VLM, Message, Question, Reply, Usage
from npcorrect.vlm.schemas import choices_schema, parsed
from npcorrect.vlm.usage import charge

ANSWERS = ("yes", "no")


@cache
def instructions(role: str) -> str:
    """The system message of a role."""
    return (files("npcorrect.vlm") / "prompts" / f"{role}.txt").read_text(encoding="utf-8")


def quoted(tag: str, text: str) -> str:
    """The text between tags, without any of these tags in it."""
    safe = text.replace("<", "(").replace(">", ")")
    return f"<{tag}>{safe}</{tag}>"


def question(
    role: str,
    text: str,
    image: Image | None = None,
    schema: type[BaseModel] | None = None,
    **more: Any,
) -> Question:
    """A question to a role; ``schema`` is the object that it must answer with."""
    form = schema.model_json_schema() if schema else None
    check = partial(parsed, schema) if schema else None
    return asked(role, text, image, schema=form, check=check, **more)


def asked(role: str, text: str, image: Image | None = None, **more: Any) -> Question:
    """A question to a role; ``more`` are the other fields of :class:`Question`."""
    images = (image,) if image is not None else ()
    messages = (Message("system", instructions(role)), Message("user", text, images))
    return Question(messages, **more)


def about_claim(claim: str, image: Image, **more: Any) -> Question:
    """Whether one claim holds in a picture."""
    text = f"Is this true of the picture? {quoted('claim', claim)}"
    return asked("verifier", text, image, choices=ANSWERS, **more)


def about_claims(claims: dict[str, str], image: Image, **more: Any) -> Question:
    """Whether each of several claims, by name, holds in a picture."""
    schema = choices_schema(tuple(claims), ANSWERS)
    text = listed(claims)
    return asked("verifier_together", text, image, schema=schema, choices=ANSWERS, **more)


def listed(claims: dict[str, str]) -> str:
    """The claims by their names, a line each."""
    return "\n".join(f"{name}: {quoted('claim', text)}" for name, text in claims.items())


def ask(vlm: VLM, questions: Sequence[Question]) -> list[Reply]:
    """Ask, and charge what it took.

    Raises:
        BudgetError: a question was not asked because of the budget.
    """
    replies = vlm.ask(questions) if questions else []
    charge(sum((reply.usage for reply in replies), Usage()))
    for reply in replies:
        if reply.stopped:
            raise BudgetError(reply.error)
    return replies
