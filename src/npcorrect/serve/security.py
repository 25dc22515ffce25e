"""Who may ask, and how much: everything that holds for each request before anything else.

A browser that shows a foreign page must not reach the server, neither by a name that points here
(Host) nor by a script or a form (Origin). Nothing is read beyond the limit of a body.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
BODY_SECONDS = 20.0
"""How long a client may take to send its body."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Access:
    """Whom the server answers: under which host name, and with which token where there is one.

    A server on all addresses cannot know its names; its token keeps foreign pages out.
    """

    host: str = "127.0.0.1"
    token: str | None = None

    def knows_host(self, header: str) -> bool:
        """Whether a Host header is one of the server's names."""
        name = _host_name(header)
        return bool(name) and (self.host in WILDCARDS or name in LOOPBACK | {self.host.lower()})

    def knows_token(self, header: str) -> bool:
        """Whether an Authorization header has the token, as a bearer's or as a password."""
        scheme, _, value = header.partition(" ")
        given = _password(value) if scheme.lower() == "basic" else value.strip()
        known = scheme.lower() in ("basic", "bearer")
        return self.token is None or (known and compare_digest(given.encode(), self.token.encode()))


class Guard:
    """Middleware that refuses whom :class:`Access` does not know, and bodies above a limit.

    ``uploads`` are the limits of paths that have their own.
    """

    def __init__(self, app: ASGIApp, access: Access, body: int, uploads: Mapping[str, int]) -> None:
        self._app, self._access, self._body, self._uploads = app, access, body, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the application's place, or let it answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        limit = self._uploads.get(scope["path"], self._body)
        answer = refused(self._access, Headers(scope=scope)) or await _body(receive, limit)
        if isinstance(answer, JSONResponse):
            await answer(scope, receive, guarded)
        else:
            await self._app(scope, _replayed(answer, receive), guarded)


def refused(access: Access, headers: Headers) -> JSONResponse | None:
    """The answer to a request that may not be made; None for one that may."""
    host, origin = headers.get("host", "").lower(), headers.get("origin")
    if not access.knows_host(host):
        return problem(
            400, f"The host {host[:60]!r} is not this server's name; ask for {access.host!r}."
        )
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return problem(403, f"The page {origin[:60]!r} may not ask this server.")
    if not access.knows_token(headers.get("authorization", "")):
        return problem(
            401,
            "The token is missing or wrong; send it as 'Authorization: Bearer TOKEN', or as the "
            "password in a browser.",
            {"WWW-Authenticate": 'Basic realm="npc", charset="UTF-8"'},
        )
    return None


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A JSON reply with this status whose body is :func:`error_record` of the sentence."""
    return JSONResponse(error_record(status, message), status, headers)


def error_record(status: int, message: str) -> dict[str, Any]:
    """An error in the form of OpenAI's API: an object whose ``error`` has message and type."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


async def _body(receive: Receive, limit: int) -> bytes | JSONResponse:
    """The whole body, or the refusal of one that is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) <= limit:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return problem(408, f"The body did not arrive in {BODY_SECONDS:.0f} seconds.")
    if len(body) > limit:
        return problem(413, f"The body is too large; send at most {limit} bytes.")
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read already, then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _host_name(header: str) -> str:
    """The name in a Host header, without its port; empty where it is malformed."""
    try:
        parts = urlsplit(f"//{header}")
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.netloc == header and "@" not in header else ""


def _password(value: str) -> str:
    """The password of basic credentials; empty where they are malformed."""
    try:
        return b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except (Base64Error, ValueError):
        return ""
