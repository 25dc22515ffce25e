"""From a question to the body of a request, as a server takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from npcorrect.vlm.base import Message, Question
from npcorrect.vlm.capabilities import THOUGHT_ROOM, Capabilities
from npcorrect.vlm.completion import Completion
from npcorrect.vlm.pictures import Encoder
from npcorrect.vlm.redaction import RAW_KEPT


class PayloadBuilder:
    """Writes requests; remembers the last pictures that it encoded."""

    def __init__(self) -> None:
        self._pictures = Encoder()

    def body(self, question: Question, able: Capabilities, terse: bool = False) -> dict[str, Any]:
        """The request for a question. ``terse`` leaves out what words say of the form."""
        messages = [self._message(message) for message in _folded(question, able)]
        body: dict[str, Any] = {
            "messages": messages, able.limit: question.max_tokens + able.room, **able.switch
        }  # fmt: skip
        if able.temperature:
            body["temperature"] = question.temperature
        if able.seed and question.seed is not None:
            body["seed"] = question.seed
        if question.schema is not None:
            if able.structure == "schema":
                form = {"name": "reply", "schema": question.schema, "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
            elif able.structure == "json":
                body["response_format"] = {"type": "json_object"}
            if able.structure != "schema" or not terse:
                _add(messages, _in_words(question.schema, able))
        elif question.choices:
            _add(messages, f"Answer with one word alone: {' or '.join(question.choices)}.")
        if (question.choices or question.tokens) and able.likely:
            body |= {"logprobs": True, "top_logprobs": able.likely}
        return body

    def again(
        self,
        body: Mapping[str, Any],
        completion: Completion | None,
        reason: str,
        able: Capabilities,
    ) -> dict[str, Any]:
        """The request once more, with what was wrong, and with more room if there was too little.

        What a model thinks while it answers is no part of the conversation.
        """
        new = dict(body)
        if completion is None:
            return new
        if completion.cut_off:
            more = THOUGHT_ROOM if completion.thinks else 0
            new[able.limit] = max(2 * body[able.limit], body[able.limit] + more)
        said = "" if completion.thinks else completion.text.strip()
        turn = [{"role": "assistant", "content": said[:RAW_KEPT]}] if said else []
        ask = f"That answer cannot be used: {reason}. Answer again, in the form that was asked for."
        new["messages"] = [*body["messages"], *turn, {"role": "user", "content": ask}]
        return new

    def _message(self, message: Message) -> dict[str, Any]:
        if not message.images:
            return {"role": message.role, "content": message.text}
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": self._pictures.uri(image, message.encoding)}}
            for image in message.images
        ]
        text = {"type": "text", "text": message.text}
        content = [text, *parts] if message.text_first else [*parts, text]
        return {"role": message.role, "content": content}


def _folded(question: Question, able: Capabilities) -> tuple[Message, ...]:
    """The messages; instructions open the user's text where the server knows no system message."""
    first, *others = question.messages
    if able.system or first.role != "system" or not others:
        return question.messages
    user, *rest = others
    return replace(user, text=f"{first.text}\n\n{user.text}"), *rest


def _in_words(schema: Mapping[str, Any], able: Capabilities) -> str:
    if able.structure == "schema":
        return "Answer with JSON alone."
    return (
        "Answer with one JSON object alone, without any words around it. "
        f"It must meet this JSON schema: {json.dumps(schema)}"
    )


def _add(messages: list[dict[str, Any]], text: str) -> None:
    """Add a paragraph to the last message."""
    last = messages[-1]
    if isinstance(last["content"], str):
        last["content"] += f"\n\n{text}"
    else:
        part = next(part for part in last["content"] if part["type"] == "text")
        part["text"] += f"\n\n{text}"
