"""A server on loopback that answers each request as a function says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.http_server import serving_http

Body = dict[str, Any]


@dataclass
class Reply:
    """What is sent back."""

    body: Any = None
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Scripted:
    """A running server, and what it was asked."""

    url: str = ""
    asked: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def completion(content: Any = "yes", **more: Any) -> Body:
    """A chat completion."""
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, **more}


def error(message: str, code: int) -> Reply:
    """An error as OpenAI words it."""
    return Reply({"error": {"message": message}}, code)


@contextmanager
def scripted(answer: Callable[[Body], Reply]) -> Iterator[Scripted]:
    """A server that answers as the function says."""
    server = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.asked.append(body)
            server.headers.append({k.lower(): v for k, v in self.headers.items()})
            reply = answer(body)
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            self.send_response(reply.code)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    with serving_http(Handler) as server.url:
        yield server
