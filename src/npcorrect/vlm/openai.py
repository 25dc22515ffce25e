"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, SGLang, Ollama, llama.cpp, ..."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from npcorrect.errors import BudgetError, ModelError
from npcorrect.vlm.base import Message, Question, Reply, Usage
from npcorrect.vlm.budget import Till
from npcorrect.vlm.capabilities import Capabilities, probe
from npcorrect.vlm.event_loop import Background
from npcorrect.vlm.pictures import Encoder
from npcorrect.vlm.replies import (
    UnusableError,
    choice_in,
    first_tokens,
    object_in,
    probabilities,
)
from npcorrect.vlm.settings import RetryPolicy
from npcorrect.vlm.transport import RAW_KEPT, Answer, Sender, SendingError


class Memory(Protocol):
    """Keeps small texts between runs."""

    def recall(self, key: str) -> str | None:
        """What was kept under a key."""
        ...

    def keep(self, key: str, value: str) -> None:
        """Keep a text under a key."""
        ...


class OpenAIVLM:
    """A model on an OpenAI-compatible server.

    All questions of a call are asked at once, up to ``retry_policy.parallel`` at a time. A reply
    that is not what was asked for is asked for once more, with the reason. Close it after use.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str = "",
        *,
        name: str = "",
        retry_policy: RetryPolicy | None = None,
        till: Till | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.name = name or f"{base_url}#{model}"
        self._memory = memory
        self._background = Background()
        self._sender = Sender(base_url, key, model, retry_policy or RetryPolicy(), till or Till())
        self._pictures = Encoder()
        self._able: Capabilities | None = None
        self._probing = asyncio.Lock()
        self._answered = False
        self._probed = Usage()

    def close(self) -> None:
        """Let go of connections and of the thread that holds them."""
        self._background.run(self._sender.close())
        self._background.close()

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer all questions, in order; see :class:`~npcorrect.vlm.base.VLM`.

        Without any question, this finds out whether the model can be asked at all.

        Raises:
            ModelError: no question was ever answered, and none can be.
        """
        return self._background.run(self._ask(questions))

    async def _ask(self, questions: Sequence[Question]) -> list[Reply]:
        try:
            able = await self._abilities()
        except SendingError as failure:
            if failure.fatal and not self._answered:
                raise ModelError(str(failure)) from None
            return self._charged([Reply("", str(failure), model=self.name)] * len(questions))
        except BudgetError as error:
            stopped = Reply("", str(error), model=self.name, stopped=True)
            return self._charged([stopped] * len(questions))
        results = await asyncio.gather(*(self._answer(question, able) for question in questions))
        replies = [reply for reply, _ in results]
        if results and not self._answered and all(fatal for _, fatal in results):
            raise ModelError(replies[0].error)
        self._answered |= any(not reply.error for reply in replies)
        return self._charged(replies)

    def _charged(self, replies: list[Reply]) -> list[Reply]:
        """The replies, the first of which pays for the probing."""
        if replies:
            replies[0] = replace(replies[0], usage=replies[0].usage + self._probed)
            self._probed = Usage()
        return replies

    async def _abilities(self) -> Capabilities:
        """What the server can do; what it takes to find out is charged to the next reply."""
        async with self._probing:
            if self._able:
                return self._able
            key = f"capabilities of {self.name}"
            known = self._memory.recall(key) if self._memory else None
            if known:
                self._able = Capabilities(**json.loads(known))
                return self._able
            self._able = await probe(self._try)
            if self._memory:
                self._memory.keep(key, json.dumps(asdict(self._able)))
            return self._able

    async def _try(self, question: Question, able: Capabilities) -> tuple[str, bool] | None:
        """A request of the probing; see :data:`~npcorrect.vlm.capabilities.Try`."""
        try:
            answer = await self._sender.send(self._body(question, able, terse=True), question)
        except SendingError as failure:
            self._probed += failure.usage
            if failure.refused:
                return None
            raise
        self._probed += answer.usage
        self._answered = True
        said = answer.completion.said.content if answer.completion else None
        return said or "", bool(answer.completion and answer.completion.likely)

    async def _answer(self, question: Question, able: Capabilities) -> tuple[Reply, bool]:
        """The reply, and whether nothing can ever be answered."""
        usage, body, raw, reason = Usage(), self._body(question, able), "", ""
        for _ in range(2):
            try:
                room = replace(question, max_tokens=body[able.limit])
                answer = await self._sender.send(body, room)
            except SendingError as failure:
                usage += failure.usage
                return Reply(raw, str(failure), usage=usage, model=self.name), failure.fatal
            except BudgetError as error:
                return Reply(raw, str(error), usage=usage, model=self.name, stopped=True), False
            usage += answer.usage
            try:
                return replace(_read(answer, question), usage=usage, model=self.name), False
            except _RefusedError as refusal:
                return Reply(str(refusal), _REFUSED, usage=usage, model=self.name), False
            except UnusableError as error:
                raw, reason = _raw(answer), str(error)
            body = _again(body, answer, reason, able)
        why = f"The model {self.name} gave no usable answer: {reason}."
        return Reply(raw, why, usage=usage, model=self.name), False

    def _body(self, question: Question, able: Capabilities, terse: bool = False) -> dict[str, Any]:
        """The request for a question. ``terse`` leaves out what words say of the form."""
        messages = [self._message(message) for message in question.messages]
        body: dict[str, Any] = {"messages": messages, able.limit: question.max_tokens}
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
        if question.choices:
            _add(messages, f"Answer with one word alone: {' or '.join(question.choices)}.")
        if (question.choices or question.tokens) and able.likely:
            body |= {"logprobs": True, "top_logprobs": able.likely}
        return body

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


_REFUSED = "The model refused to answer."


class _RefusedError(Exception):
    """The model will not answer; asking again would not help."""


def _read(answer: Answer, question: Question) -> Reply:
    """The reply to a question.

    Raises:
        UnusableError: the answer is not what was asked for.
        _RefusedError: the model says that it will not answer.
    """
    completion = answer.completion
    if completion is None:
        raise UnusableError("the server's reply is not a chat completion")
    if completion.said.refusal:
        raise _RefusedError(completion.said.refusal[:RAW_KEPT])
    text = completion.said.content or ""
    if question.tokens:
        return Reply(text, tokens=first_tokens(completion.likely))
    if not text.strip():
        raise UnusableError("it is empty")
    if question.schema is not None:
        try:
            return Reply(object_in(text, question.schema))
        except UnusableError as error:
            cut = "it was cut off, and " if completion.cut_off else ""
            raise UnusableError(f"{cut}{error}") from None
    if question.choices:
        word = choice_in(text, question.choices)
        return Reply(word, probabilities=probabilities(completion.likely, question.choices))
    return Reply(text.strip())


def _raw(answer: Answer) -> str:
    said = answer.completion.said.content if answer.completion else None
    return (said or answer.raw)[:RAW_KEPT]


def _again(
    body: Mapping[str, Any], answer: Answer, reason: str, able: Capabilities
) -> dict[str, Any]:
    """The request once more, with what was wrong, and with more room where there was too little."""
    new = dict(body)
    if answer.completion is None:
        return new
    if answer.completion.cut_off:
        new[able.limit] = 2 * body[able.limit]
    said = answer.completion.said.content
    turn = [{"role": "assistant", "content": said[:RAW_KEPT]}] if said and said.strip() else []
    ask = f"That answer cannot be used: {reason}. Answer again, in the form that was asked for."
    new["messages"] = [*body["messages"], *turn, {"role": "user", "content": ask}]
    return new


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
