"""The JSON that each role must return. Every field is required, so that strict servers take it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from npcorrect.english import is_english
from npcorrect.vlm.redaction import printable

Kind = Literal["object", "count", "attribute", "relation", "size", "text", "style", "scene"]
Schema = TypeVar("Schema", bound=BaseModel)
MAX_CLAIMS = 60
MAX_PHRASES = 60
MAX_CHARACTERS = 2000


def plain(text: str) -> str:
    """English prose of a sane length, on one printable line: what a text encoder can read.

    Raises:
        ValueError: it is too long, or not in English.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS} characters")
    if not is_english(text):
        raise ValueError("is not in English")
    return " ".join(printable(text).split())


Plain = Annotated[str, AfterValidator(plain)]


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


def observed_schema(names: tuple[str, ...]) -> dict[str, Any]:
    """The schema of the observer's reply: a phrase under the name of each failed claim."""
    return _flat({name: {"type": "string"} for name in names})


def choices_schema(names: tuple[str, ...], choices: tuple[str, ...]) -> dict[str, Any]:
    """The schema of an object that has one of the choices under each name."""
    return _flat({name: {"type": "string", "enum": list(choices)} for name in names})


def observed(text: str) -> dict[str, str]:
    """The phrases of an observer's reply.

    Raises:
        ValueError: one of them is too long, or not in English.
    """
    return {name: plain(phrase).lower() for name, phrase in json.loads(text).items()}


def parsed(schema: type[Schema], text: str) -> Schema:
    """A reply as the object that it is.

    Raises:
        ValueError: it is none, or breaks one of the object's rules; the reason is one line.
    """
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(map(str, first["loc"]))
        raise ValueError(f"{place} {first['msg']}") from None


def _flat(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
