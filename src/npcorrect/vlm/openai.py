"""Any server that speaks OpenAI's chat completions: OpenAI, vLLM, SGLang, Ollama, llama.cpp, ..."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from npcorrect.errors import BudgetError, ModelError
from npcorrect.vlm.addresses import Server
from npcorrect.vlm.base import Memory, Question, Reply, Usage
from npcorrect.vlm.budget import Till
from npcorrect.vlm.capabilities import BARE, SWITCHES, Capabilities, Limit, Tried, bare, probe
from npcorrect.vlm.completion import Completion, error_in
from npcorrect.vlm.event_loop import Background
from npcorrect.vlm.payload import PayloadBuilder
from npcorrect.vlm.probabilities import of_choice, of_fields, of_first
from npcorrect.vlm.reasoning import UnfinishedError, UnusableError, thinks
from npcorrect.vlm.replies import read
from npcorrect.vlm.settings import RetryPolicy
from npcorrect.vlm.transport import Answer, Sender, SendingError

VERSION = 2
"""Of what is remembered about servers; raised where it changes its meaning."""
_CAPABILITIES = TypeAdapter(Capabilities)


class OpenAIVLM:
    """A model on an OpenAI-compatible server.

    All questions of a call are asked at once, up to ``retry_policy.parallel`` at a time. A reply
    that is not what was asked for is asked for once more, with the reason. ``probed`` is what
    finding out about the server took, which no reply's usage includes. Close it after use.
    """

    remote = True

    def __init__(
        self,
        server: Server,
        key: str = "",
        *,
        name: str = "",
        retry_policy: RetryPolicy | None = None,
        till: Till | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.name = name or f"{server.address}#{server.model}"
        self.capabilities: Capabilities | None = None
        self.probed = Usage()
        self._memory = memory
        self._remembered = _memory_key(server, key)
        self._background = Background()
        self._sender = Sender(server, key, retry_policy or RetryPolicy(), till or Till())
        self._payloads = PayloadBuilder()
        self._probing = asyncio.Lock()
        self._answered = False

    @property
    def together(self) -> bool:
        """Whether claims may be asked in one question; False until connected.

        See :attr:`npcorrect.vlm.base.VLM.together`.
        """
        return self.capabilities is not None and self.capabilities.together

    def close(self) -> None:
        """Let go of connections and of the thread that holds them."""
        self._background.run(self._sender.close())
        self._background.close()

    def connect(self) -> None:
        """Find out what the server can do, with a bare request first; see :class:`VLM`.

        What is remembered of a server that was asked with the same key is not asked again.

        Raises:
            ModelError: the bare request, with a system message and a small picture, fails.
            BudgetError: the budget does not allow finding out.
        """
        try:
            self._background.run(self._connected())
        except SendingError as failure:
            raise ModelError(str(failure)) from None

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer all questions, in order; see :class:`~npcorrect.vlm.base.VLM`.

        Raises:
            ModelError: no question was ever answered, and none can be.
        """
        return self._background.run(self._ask(questions)) if questions else []

    async def _ask(self, questions: Sequence[Question]) -> list[Reply]:
        try:
            able = await self._connected()
        except SendingError as failure:
            if failure.fatal:
                raise ModelError(str(failure)) from None
            return [Reply("", str(failure), model=self.name)] * len(questions)
        except BudgetError as error:
            return [Reply("", str(error), model=self.name, stopped=True)] * len(questions)
        asked = (self._answer(question, able) for question in questions)
        replies = list(await asyncio.gather(*asked))
        if not self._answered and all(reply.fatal for reply in replies):
            raise ModelError(replies[0].error)
        self._answered |= any(not reply.error for reply in replies)
        return replies

    async def _connected(self) -> Capabilities:
        """What the server can do, probed where it is not remembered."""
        async with self._probing:
            if self.capabilities is None:
                self.capabilities = self._recalled() or await self._probe()
            return self.capabilities

    def _recalled(self) -> Capabilities | None:
        text = self._memory.recall(self._remembered) if self._memory is not None else None
        try:
            known = _CAPABILITIES.validate_json(text) if text else None
        except ValidationError:
            return None
        return known if known and known.switch in ({}, *SWITCHES) else None

    async def _probe(self) -> Capabilities:
        """The capabilities, remembered only where every probe was answered or refused.

        Raises:
            ModelError: the bare request fails.
        """
        refusals: list[str] = []
        answered = await bare(partial(self._first, refusals))
        if answered is None:
            raise ModelError(f"{refusals[0]} It must answer questions about pictures.")
        plain, tried = answered
        self._answered = True
        able = await probe(partial(self._extra, plain), partial(self._role, plain), plain, tried)
        if self._memory is not None:
            self._memory.keep(self._remembered, _CAPABILITIES.dump_json(able).decode())
        return able

    async def _first(
        self, refusals: list[str], question: Question, able: Capabilities
    ) -> Tried | None:
        """The reply to a bare request, or None where it is refused, with the reason noted."""
        try:
            return await self._try(question, able)
        except SendingError as failure:
            if not (failure.refused or failure.broke):
                raise
            refusals.append(str(failure))
            return None

    async def _extra(
        self, plain: Capabilities, question: Question, able: Capabilities
    ) -> Tried | None:
        """The reply to a request with an extra.

        None where it fails, if the ``plain`` request without the extra is still answered.
        """
        try:
            return await self._try(question, able)
        except ModelError:
            return None
        except SendingError as failure:
            if not failure.refused:
                await self._try(BARE, plain)
            return None

    async def _role(self, plain: Capabilities, question: Question, able: Capabilities) -> Reply:
        """The reply to a question as roles ask it; a failure counts as in :meth:`_extra`."""
        reply = await self._answer(question, able)
        self.probed += reply.usage
        if reply.stopped:
            raise BudgetError(reply.error)
        if reply.error:
            await self._try(BARE, plain)
        return reply

    async def _try(self, question: Question, able: Capabilities) -> Tried:
        """The reply to a probe.

        Raises:
            SendingError: there was none.
            ModelError: it is no chat completion.
        """
        try:
            answer = await self._send(self._payloads.body(question, able, terse=True), question)
        except SendingError as failure:
            self.probed += failure.usage
            raise
        self.probed += answer.usage
        completion = answer.completion
        if completion is None:
            said = self._sender.redact.line(error_in(answer.raw)[0]) or "no chat completion"
            raise ModelError(
                f"The server of {self.name!r} answers, but not as it should ({said}); "
                f"{self._sender.likely_address}."
            )
        thought = completion.thinks or completion.cut_off
        return Tried(completion.text, bool(completion.written), thought)

    async def _send(self, body: Mapping[str, Any], question: Question) -> Answer:
        """The answer to a request, for which the budget holds as many tokens as it may write."""
        limits = (body.get(name) for name in get_args(Limit))
        limit = next(limit for limit in limits if limit)
        return await self._sender.send(body, replace(question, max_tokens=limit))

    async def _answer(self, question: Question, able: Capabilities) -> Reply:
        """The reply to a question, asked for twice where the first is not usable."""
        usage, body, raw, reason = Usage(), self._payloads.body(question, able), "", ""
        for _ in range(2):
            try:
                answer = await self._send(body, question)
            except SendingError as failure:
                usage += failure.usage
                return Reply(raw, str(failure), usage=usage, model=self.name, fatal=failure.fatal)
            except BudgetError as error:
                return Reply(raw, str(error), usage=usage, model=self.name, stopped=True)
            usage += answer.usage
            if answer.completion and answer.completion.refusal:
                said = self._sender.redact.raw(answer.completion.refusal)
                return Reply(said, "The model refused to answer.", usage=usage, model=self.name)
            try:
                reply = self._read(answer, question)
            except UnusableError as error:
                raw, reason = self._raw(answer), self._sender.redact.line(str(error))
            else:
                return replace(reply, usage=usage, model=self.name)
            body = self._payloads.again(body, answer.completion, reason, able)
        why = f"The model {self.name} gave no usable answer: {reason}."
        return Reply(raw, why, usage=usage, model=self.name)

    def _read(self, answer: Answer, question: Question) -> Reply:
        """The reply to a question.

        Raises:
            UnusableError: the answer is not what was asked for.
        """
        if question.tokens:
            return _first(answer, self._sender.redact.raw)
        said = _Said.of(answer)
        reading = read(said.text, question, self._sender.redact, whole=said.from_thought)
        if not question.choices:
            return Reply(reading.text)
        tokens, greedy = said.completion.written, question.temperature == 0
        if question.schema is None:
            likely = of_choice(said.text, reading, tokens, question.choices, greedy=greedy)
            return Reply(reading.text, probabilities=likely)
        fields = of_fields(said.text, reading, tokens, question.choices, greedy=greedy)
        return Reply(reading.text, fields=fields)

    def _raw(self, answer: Answer) -> str:
        completion = answer.completion
        said = (completion.text or completion.thought) if completion else ""
        return self._sender.redact.raw(said or answer.raw)


@dataclass(frozen=True)
class _Said:
    """The text that holds an answer, and whether the server gives it as thought."""

    completion: Completion
    text: str
    from_thought: bool

    @classmethod
    def of(cls, answer: Answer) -> _Said:
        """What an answer says; thought only where there is nothing else and it ended by itself.

        Raises:
            UnusableError: there is nothing, or it was cut off.
        """
        completion = answer.completion
        if completion is None:
            raise UnusableError("the server's reply is not a chat completion")
        if completion.cut_off:
            raise UnfinishedError(_cut_off(completion))
        if completion.broken_off:
            raise UnfinishedError("the server broke it off")
        if completion.text.strip():
            return cls(completion, completion.text, from_thought=False)
        if completion.thought.strip():
            return cls(completion, completion.thought, from_thought=True)
        raise UnusableError("it is empty")


def _first(answer: Answer, redact: Callable[[str], str]) -> Reply:
    """What the model begins with; no more was asked for, so that being cut off is no fault.

    Raises:
        UnusableError: it begins with thought or with no word, or the reply is no completion.
    """
    completion = answer.completion
    if completion is None:
        raise UnusableError("the server's reply is not a chat completion")
    if completion.thought.strip() or completion.thought_tokens or thinks(completion.text):
        raise UnusableError("it begins with thought")
    if not completion.text.strip()[:1].isalnum():
        raise UnusableError("it begins with no word")
    return Reply(redact(completion.text), tokens=of_first(completion.text, completion.written))


def _cut_off(completion: Completion) -> str:
    if completion.thinks:
        return (
            "the limit of tokens was spent on thought; choose a model or a setting of the server "
            "that does not think"
        )
    return "it was cut off at the limit of tokens"


def _memory_key(server: Server, key: str) -> str:
    """Under what a server's capabilities are remembered; another key is another server."""
    digest = sha256(key.encode()).hexdigest()[:16]
    return f"capabilities {VERSION} of {server.identity} for {digest}"
