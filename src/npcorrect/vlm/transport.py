"""One request to a server: bounded in time, in size and in retries."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from math import isfinite
from socket import gaierror
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from npcorrect.errors import SettingsError
from npcorrect.vlm.addresses import Server, sendable
from npcorrect.vlm.base import Question, Usage
from npcorrect.vlm.budget import Till
from npcorrect.vlm.completion import Completion, error_in, parse
from npcorrect.vlm.redaction import Redactor
from npcorrect.vlm.settings import RetryPolicy

T = TypeVar("T")
MAX_REPLY_BYTES = 2**22
_SETTLING = 0.02
"""Seconds between looks at whether the budget has room again."""
_PASSING = frozenset({408, 409, 425, 429})
_PLAIN = ("", "identity")
_SPENT = "insufficient_quota"
"""What OpenAI's servers say with 429 where waiting does not help."""
_OPENAI_HEADERS = {
    "OPENAI_ORG_ID": "OpenAI-Organization",
    "OPENAI_PROJECT_ID": "OpenAI-Project",
}
"""What OpenAI's own client reads from the environment; sent to OpenAI's own server alone."""
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (gaierror, "its name is not known"),
    (ssl.SSLError, "its certificate is not trusted, or it does not speak TLS"),
    (ConnectionRefusedError, "the connection was refused"),
    (ConnectionError, "the connection broke"),
    (httpx2.ProxyError, "the proxy refused"),
    (httpx2.InvalidURL, "its address cannot be read"),
    (httpx2.ProtocolError, "the connection broke, or it does not speak HTTP"),
)


class SendingError(Exception):
    """A request that brought no answer. ``fatal``: no request can: no server, no key, no model.

    ``refused``: the server takes the request for a bad one. ``broke``: it broke at the request,
    which may be a bad one for it.
    """

    def __init__(
        self,
        message: str,
        usage: Usage,
        *,
        fatal: bool = False,
        refused: bool = False,
        broke: bool = False,
    ) -> None:
        super().__init__(message)
        self.usage, self.fatal, self.refused, self.broke = usage, fatal, refused, broke

    def adding(self, remedy: str) -> SendingError:
        """The same failure with a further sentence."""
        kind = {"fatal": self.fatal, "refused": self.refused, "broke": self.broke}
        return SendingError(f"{self} {remedy}", self.usage, **kind)


@dataclass(frozen=True)
class Answer:
    """A server's reply: its raw text, what it means where it means anything, and what it took."""

    raw: str
    completion: Completion | None
    usage: Usage


class _StatusError(Exception):
    """A reply whose status is no success."""

    def __init__(self, code: int, said: str, kind: str, wait: float | None) -> None:
        super().__init__(code)
        self.code, self.said, self.kind, self.wait = code, said, kind, wait


class _BodyError(Exception):
    """A reply that would not end, or that cannot be read."""


_FAILURES = (
    _StatusError, _BodyError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError,
)  # fmt: skip


class Transport:
    """Sends requests to one server.

    The key goes to this server alone: redirects are not followed, and messages never show it.
    ``takes`` names what the server is asked, for messages; ``largest`` bounds a reply, in bytes.

    Raises:
        SettingsError: the environment names a proxy that cannot be used.
    """

    takes = "questions"

    def __init__(
        self, server: Server, key: str, retry_policy: RetryPolicy, largest: int = MAX_REPLY_BYTES
    ) -> None:
        self._server, self._policy, self._largest = server, retry_policy, largest
        self.redact = Redactor(key)
        self._slots = asyncio.Semaphore(retry_policy.parallel)
        self._proxy = proxy_variable(server.address)
        self._client = _client(_headers(server, key), retry_policy.timeout)

    async def close(self) -> None:
        """Close the client and all its connections; nothing can be sent afterwards."""
        await self._client.aclose()

    async def request(self, method: str, path: str, **content: Any) -> str:
        """The body of the reply to a request, sent again where what went wrong can pass.

        ``path`` is added to the server's address, ``content`` is that of ``httpx2``.

        Raises:
            SendingError: there was no answer.
        """
        tries: list[Usage] = []

        async def once() -> str:
            async with self._slots:
                tries.append(Usage(calls=1, retries=int(bool(tries))))
                async with asyncio.timeout(self._policy.timeout):
                    return await self._fetch(method, path, **content)

        return await self._retried(once, tries)

    async def _retried(self, once: Callable[[], Awaitable[T]], tries: list[Usage]) -> T:
        """What a try brings, or the one after it; each notes in ``tries`` what it took.

        Raises:
            SendingError: none brought an answer.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._policy.tries),
            wait=self._wait,
            retry=retry_if_exception(self._can_pass),
            reraise=True,
        )
        try:
            answer: T = await retrying(once)
        except _FAILURES as error:
            raise self._failure(error, _sum(tries)) from None
        return answer

    async def _fetch(self, method: str, path: str, **content: Any) -> str:
        """The body of the server's reply to one request."""
        url = self._server.address.rstrip("/") + path
        async with self._client.stream(method, url, **content) as response:
            if response.headers.get("content-encoding", "").strip().lower() not in _PLAIN:
                raise _BodyError("sent a compressed reply, which was not asked for")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._largest:
                    raise _BodyError(f"sent more than {self._largest >> 20} MB")
        raw = body.decode("utf-8", "replace")
        if not response.is_success:
            said, kind = error_in(raw)
            raise _StatusError(response.status_code, said, kind, _named_wait(response.headers))
        return raw

    def _can_pass(self, error: BaseException) -> bool:
        """Whether trying again may help."""
        if isinstance(error, _StatusError):
            passing = error.code in _PASSING or error.code >= 500
            short_wait = (error.wait or 0.0) <= self._policy.longest_wait
            return passing and short_wait and error.kind != _SPENT
        return isinstance(error, httpx2.TransportError | TimeoutError | OSError)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _StatusError) and error.wait is not None:
            return error.wait
        return wait_random_exponential(self._policy.first_wait, self._policy.longest_wait)(state)

    def _failure(self, error: Exception, usage: Usage) -> SendingError:
        """What went wrong, in our own words: a library's may repeat what was sent."""
        where = f"The server at {self._server.address}"
        if not self._proxy:
            return self._told(error, where, usage)
        where += f", asked through the proxy that {self._proxy} names,"
        host = urlsplit(self._server.address).hostname
        directly = f"Add {host!r} to NO_PROXY to ask the server directly, or unset {self._proxy}."
        return self._told(error, where, usage).adding(directly)

    def _told(self, error: Exception, where: str, usage: Usage) -> SendingError:
        again = f" in {usage.calls} tries" if usage.calls > 1 else ""
        if isinstance(error, _StatusError):
            return self._refusal(error, where, again, usage)
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            text = f"{where} did not answer within {self._policy.timeout:g} s{again}."
            return SendingError(text, usage)
        if isinstance(error, _BodyError):
            return SendingError(f"{where} {error}.", usage)
        fatal = isinstance(error, httpx2.ConnectError | httpx2.InvalidURL)
        reason = _reason(error)
        text = f"{where} cannot be reached{again} ({reason}); is it running?"
        if self._proxy and _is_of_proxy(error):
            text = f"{where} was not asked: the proxy cannot be used{again} ({reason})."
        return SendingError(text, usage, fatal=fatal)

    def _refusal(self, error: _StatusError, where: str, again: str, usage: Usage) -> SendingError:
        code, said = error.code, self.redact.line(error.said) or "it says nothing more"
        if code == 401:
            text = f"{where} refused the key (401); set the right one in the environment."
            return SendingError(text, usage, fatal=True)
        if code == 403:  # also what a moderated request gets, where the next one is answered
            text = f"{where} refused the key or this request (403: {said}); see to what it says."
            return SendingError(text, usage)
        if code == 404:
            return SendingError(f"{where} {self._absent(said)}.", usage, fatal=True)
        if code == 407:
            text = f"{where} was not asked: the proxy wants a name and a password (407)."
            return SendingError(text, usage, fatal=True)
        if code == 402 or error.kind == _SPENT:
            text = f"{where} wants to be paid first ({code}: {said}); see to the account."
            return SendingError(text, usage, fatal=True)
        if 300 <= code < 400 or code == 405:
            text = f"{where} takes no {self.takes} there ({code}); {self.likely_address}."
            return SendingError(text, usage, fatal=True)
        if code in _PASSING or code >= 500:
            text = f"{where} gave no answer{again} ({code}: {said})."
            return SendingError(text, usage, broke=code in (500, 501))
        return SendingError(f"{where} refused the request ({code}: {said}).", usage, refused=True)

    def _absent(self, said: str) -> str:
        """What a 404 means, in words, and what to do."""
        return f"has no model {self._server.model!r} (404: {said}); check the name"

    @property
    def likely_address(self) -> str:
        """What to do about an address that does not answer as it should."""
        address = self._server.address
        if address.endswith("/v1"):
            return "check the address, also whether it is http or https"
        return f"try {address.rstrip('/')}/v1"


class Sender(Transport):
    """Sends questions for one model to an OpenAI-compatible server, within the budget."""

    def __init__(self, server: Server, key: str, retry_policy: RetryPolicy, till: Till) -> None:
        super().__init__(server, key, retry_policy)
        self._till = till

    async def send(self, body: Mapping[str, Any], question: Question) -> Answer:
        """Send a request, and again where what went wrong can pass.

        Raises:
            SendingError: there was no answer.
            BudgetError: the budget does not allow it.
        """
        tries: list[Usage] = []
        answer = await self._retried(partial(self._try, body, question, tries), tries)
        return replace(answer, usage=_sum(tries))

    async def _try(self, body: Mapping[str, Any], question: Question, tries: list[Usage]) -> Answer:
        async with self._slots:
            while (worst := self._till.hold(question)) is None:
                await asyncio.sleep(_SETTLING)
            used, start, counted = Usage(calls=1), perf_counter(), True
            try:
                async with asyncio.timeout(self._policy.timeout):
                    raw = await self._post(body)
                completion = parse(raw)
                tokens = completion.tokens if completion else None
                used, counted = Usage(1, *(tokens or ())), tokens is not None
            finally:
                used = replace(used, seconds=perf_counter() - start, retries=int(bool(tries)))
                tries.append(self._till.settle(question, worst, used, counted=counted))
        return Answer(raw, completion, used)

    async def _post(self, body: Mapping[str, Any]) -> str:
        """The body of the server's reply to a question."""
        whole = {"model": self._server.model, "stream": False, **body}
        return await self._fetch("POST", "/chat/completions", json=whole)


def _headers(server: Server, key: str) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if server.is_openai:
        for name, header in _OPENAI_HEADERS.items():
            if value := sendable(os.environ.get(name, ""), name):
                headers[header] = value
    return headers


@lru_cache(maxsize=4)
def _trusted(*certificates: str | None) -> ssl.SSLContext:
    """What is trusted under these values of the environment; to read it takes a while."""
    return httpx2.create_ssl_context()


def _client(headers: Mapping[str, str], timeout: float) -> httpx2.AsyncClient:
    try:
        trusted = _trusted(*map(os.environ.get, _CERTIFICATES))
        return httpx2.AsyncClient(
            headers=headers, timeout=timeout, follow_redirects=False, verify=trusted
        )
    except OSError:
        raise SettingsError(
            f"The file that the environment names in {_set(_CERTIFICATES)} cannot be "
            "used; name one that can be read, or unset the variable."
        ) from None
    except (ValueError, ImportError, httpx2.InvalidURL):
        raise SettingsError(
            f"The proxy that the environment names in {_set(_PROXIES)} cannot be used; give "
            "an http:// address, install httpx2[socks] for socks5://, or unset the variable."
        ) from None


def proxy_variable(address: str) -> str:
    """The environment variable whose proxy stands before a server; empty where none does."""
    parts = urlsplit(address)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    names = (f"{parts.scheme}_proxy", "all_proxy")
    spellings = (spelling for name in names for spelling in (name, name.upper()))
    return next((name for name in spellings if os.environ.get(name)), "")


def _is_of_proxy(error: BaseException) -> bool:
    """Whether a failure to connect is one to connect to the proxy: a certificate is not its own."""
    encrypted = any(isinstance(link, ssl.SSLError) for link in _chain(error))
    return isinstance(error, httpx2.ConnectError | httpx2.ProxyError) and not encrypted


def _set(names: Iterable[str]) -> str:
    """Those of some environment variables that are set, in upper or in lower case."""
    present = (name for name in names if os.environ.get(name) or os.environ.get(name.lower()))
    return " or ".join(present)


def _reason(error: BaseException) -> str:
    """Why a connection failed, as far as it is told by the kinds of the errors behind it."""
    chain = list(_chain(error))
    return next(
        (text for kind, text in _REASONS if any(isinstance(link, kind) for link in chain)),
        type(error).__name__,
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and all that it comes from."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for one in error.exceptions:
                yield from _chain(one)
        error = error.__cause__ or error.__context__


def _named_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait, where it says so: as a number or as a date."""
    named = headers.get("retry-after", "").strip()
    try:
        seconds = float(named)
    except ValueError:
        seconds = _seconds_until(named)
    return max(seconds, 0.0) if isfinite(seconds) else None


def _seconds_until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return float("nan")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def _sum(tries: list[Usage]) -> Usage:
    return sum(tries, Usage())
