"""One request to an OpenAI-compatible server: bounded in time, in size and in retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from npcorrect.vlm.base import Question, Usage
from npcorrect.vlm.budget import Till
from npcorrect.vlm.settings import RetryPolicy

MAX_REPLY_BYTES = 2**22
RAW_KEPT = 2000
"""Characters of a raw reply that are kept."""
_SETTLING = 0.02
"""Seconds between looks at whether the budget has room again."""
_PASSING = frozenset({408, 409, 425, 429})


class SendingError(Exception):
    """A request that brought no answer. ``fatal``: no request can: no server, no key, no model.

    ``refused``: the server takes the request for a bad one.
    """

    def __init__(
        self, message: str, usage: Usage, *, fatal: bool = False, refused: bool = False
    ) -> None:
        super().__init__(message)
        self.usage, self.fatal, self.refused = usage, fatal, refused


class _Likely(BaseModel):
    token: str
    logprob: float


class _Place(_Likely):
    top_logprobs: list[_Likely] = []


class _Logprobs(BaseModel):
    content: list[_Place] | None = None


class _Said(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Tokens(BaseModel):
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class Completion(BaseModel):
    """What a server answers, as far as it is read here."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens | None = None

    @property
    def said(self) -> _Said:
        """The message."""
        return self.choices[0].message

    @property
    def cut_off(self) -> bool:
        """Whether the text ended at the limit of tokens."""
        return self.choices[0].finish_reason == "length"

    @property
    def likely(self) -> list[dict[str, float]]:
        """The likeliest tokens at each place, with their log-probabilities."""
        logprobs = self.choices[0].logprobs
        return [
            {entry.token: entry.logprob for entry in (place, *place.top_logprobs)}
            for place in (logprobs.content or [] if logprobs else [])
        ]


@dataclass(frozen=True)
class Answer:
    """A server's reply: its raw text, what it means where it means anything, and what it took."""

    raw: str
    completion: Completion | None
    usage: Usage


class _TooLarge(openai.OpenAIError):
    """A reply that would not end."""


class _Bounded(httpx2.AsyncByteStream):
    """A body that is read up to a limit."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_REPLY_BYTES:
                raise _TooLarge(f"sent more than {MAX_REPLY_BYTES >> 20} MB")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _TooLarge("sent a compressed reply, which was not asked for")
    response.stream = _Bounded(response.stream)


class Sender:
    """Sends requests for one model to one server.

    The key goes to this server alone: redirects are not followed, and messages never show it.
    """

    def __init__(
        self, base_url: str, key: str, model: str, retry_policy: RetryPolicy, till: Till
    ) -> None:
        self._where, self._key, self._model = base_url, key, model
        self._patience, self._till = retry_policy, till
        self._slots = asyncio.Semaphore(retry_policy.parallel)
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=retry_policy.timeout,
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [_bound]}
            ),
        )

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.close()

    def redacted(self, text: str) -> str:
        """The text without the key, should a server have repeated it."""
        return text.replace(self._key, "[key]") if self._key else text

    async def send(self, body: Mapping[str, Any], question: Question) -> Answer:
        """Send a request, and again where what went wrong can pass.

        Raises:
            SendingError: there was no answer.
            BudgetError: the budget does not allow it.
        """
        tries: list[Usage] = []
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._patience.tries),
            wait=self._wait,
            retry=retry_if_exception(self._can_pass),
            reraise=True,
        )
        try:
            answer: Answer = await retrying(self._try, body, question, tries)
        except (openai.OpenAIError, TimeoutError) as error:
            raise self._failure(error, _sum(tries)) from None
        return replace(answer, usage=_sum(tries))

    async def _try(self, body: Mapping[str, Any], question: Question, tries: list[Usage]) -> Answer:
        async with self._slots:
            while (worst := self._till.hold(question)) is None:
                await asyncio.sleep(_SETTLING)
            used, start = Usage(calls=1), perf_counter()
            try:
                async with asyncio.timeout(self._patience.timeout):
                    response = await self._client.chat.completions.with_raw_response.create(
                        model=self._model, **body
                    )
                raw = self.redacted(response.content.decode("utf-8", "replace"))
                completion = _parse(raw)
                if completion and completion.usage:
                    tokens = completion.usage
                    used = Usage(1, tokens.prompt_tokens, tokens.completion_tokens)
            finally:
                used = replace(used, seconds=perf_counter() - start, retries=int(bool(tries)))
                tries.append(self._till.settle(question, worst, used))
        return Answer(raw[:RAW_KEPT] if completion is None else raw, completion, used)

    def _can_pass(self, error: BaseException) -> bool:
        """Whether trying again may help."""
        if isinstance(error, openai.APIStatusError):
            passing = error.status_code in _PASSING or error.status_code >= 500
            patient = (_named_wait(error) or 0.0) <= self._patience.longest_wait
            return passing and patient and error.code != "insufficient_quota"
        return isinstance(error, openai.APIConnectionError | TimeoutError)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        named = _named_wait(error) if isinstance(error, openai.APIStatusError) else None
        if named is not None:
            return named
        wait = wait_random_exponential(self._patience.first_wait, self._patience.longest_wait)
        return wait(state)

    def _failure(self, error: Exception, usage: Usage) -> SendingError:
        where = f"The server at {self._where}"
        again = f" in {usage.calls} tries" if usage.calls > 1 else ""
        if isinstance(error, openai.APIStatusError):
            code, said = error.status_code, self.redacted(error.message)[:300]
            if code in (401, 403):
                text = f"{where} refused the key ({code}); set the right one in the environment."
                return SendingError(text, usage, fatal=True)
            if code == 404:
                text = f"{where} has no model {self._model!r} (404: {said}); check the name."
                return SendingError(text, usage, fatal=True)
            if self._can_pass(error):
                return SendingError(f"{where} gave no answer{again} ({code}: {said}).", usage)
            return SendingError(
                f"{where} refused the request ({code}: {said}).", usage, refused=True
            )
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            text = f"{where} did not answer within {self._patience.timeout:g} s{again}."
            return SendingError(text, usage)
        if isinstance(error, openai.APIConnectionError):
            reason = self.redacted(str(error.__cause__ or error))
            refused = isinstance(error.__cause__, httpx2.ConnectError)
            return SendingError(
                f"{where} cannot be reached{again} ({reason}); is it running?", usage, fatal=refused
            )
        return SendingError(f"{where} {self.redacted(str(error))}.", usage)


def _parse(raw: str) -> Completion | None:
    try:
        return Completion.model_validate_json(raw)
    except ValidationError:
        return None


def _named_wait(error: openai.APIStatusError) -> float | None:
    """The seconds that a server asks to wait, where it says so in seconds."""
    try:
        return max(float(error.response.headers["retry-after"]), 0.0)
    except (KeyError, ValueError):
        return None


def _sum(tries: list[Usage]) -> Usage:
    return sum(tries, Usage())
