"""The JSON that each role must return. Every field is required, so that strict servers take it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

Kind = Literal["object", "count", "attribute", "relation", "size", "text", "style", "scene"]
MAX_CLAIMS = 60
MAX_PHRASES = 60
MAX_CHARACTERS = 2000


def _plain(text: str) -> str:
    """English prose of a sane length, on one line: what a text encoder can make sense of."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS} characters")
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not character.isascii() for character in letters)
    if 5 * foreign > len(letters):
        raise ValueError("is not in English")
    return " ".join(text.split())


Plain = Annotated[str, AfterValidator(_plain)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimReply(_Strict):
    """One claim of a prompt; ``object`` is empty unless it is a relation between two things."""

    kind: Kind
    text: Plain
    subject: Plain
    value: str
    object: Plain


class ChecklistReply(_Strict):
    """What the checklister returns."""

    claims: list[ClaimReply]


class CaptionReply(_Strict):
    """What the captioner returns."""

    text: Plain
    phrases: list[Plain]


class ProposalReply(_Strict):
    """What the proposer returns."""

    faults: list[Plain]
    extras: list[Plain]


class AskedReply(_Strict):
    """Which of some phrases name what the prompt asks for."""

    asked: list[Plain]


def observed_schema(ids: tuple[str, ...]) -> dict[str, Any]:
    """The schema of the observer's reply: a phrase under the name of each failed claim."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ids},
        "required": list(ids),
        "additionalProperties": False,
    }
