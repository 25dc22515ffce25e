"""An OpenAI-compatible server on loopback whose eyes are the miniature ones, and that can fail.

Tokens are counted as four characters of text each, and 28 x 28 pixels of a picture each.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

from PIL import Image

from npcorrect.english import NUMBERS
from npcorrect.mini.checklist import requirements
from npcorrect.mini.grammar import parse
from npcorrect.mini.language import RELATIONS, SIZE_WORDS
from npcorrect.mini.roles import embedded_roles
from npcorrect.mini.scene import COLORS, IMAGE_SIZE
from npcorrect.mini.things import THINGS
from npcorrect.mini.viewer import MiniViewer
from npcorrect.records import Check, Checklist, Requirement
from npcorrect.vlm.capabilities import CLAIMS, PICTURE, SYSTEM
from npcorrect.vlm.pictures import Encoder
from npcorrect.vlm.questions import instructions
from tests.http_server import serving_http
from tests.vlm.thinking import THINKING, token

MODEL = "mini-viewer"
TRANSIENT = ("busy", "burst", "hung", "slow", "reset", "half")
"""Faults that the client must try again after."""
UNUSABLE = ("truncated", "wrong_types", "missing_fields", "empty", "wrong_language", "not_json")
"""Replies that the client must ask again about."""
FINAL = ("refusal", "huge", "gzip", "bad_request", "moderated", "long_wait", "quota")
"""Faults that trying again does not help against."""
HARMLESS = ("prose", "fenced", "thoughts")
"""Ways to write a usable answer."""
FAULTS = (*TRANSIENT, *UNUSABLE, *FINAL)

_SINGULAR = {kind.plural: kind.name for kind in THINGS.values()}
_HALVES = {"left": "on the left", "right": "on the right", "top": "above", "bottom": "below"}


@dataclass
class Asked:
    """A request as it came: its body, its headers, and how often the same was asked before."""

    body: dict[str, Any]
    headers: dict[str, str]
    again: int

    @property
    def system(self) -> str:
        """The instructions, wherever they stand."""
        first = _text(self.body["messages"][0]["content"])
        known = (instructions(role) for role in _ROLES)
        return next((text for text in (*known, SYSTEM.text) if first.startswith(text)), "")

    @property
    def role(self) -> str:
        """The role that is asked, "" for a probe of what the server can do."""
        role = next((role for role in _ROLES if instructions(role) == self.system), "")
        probing = any(f">{claim}<" in self.text for claim in CLAIMS.values())
        return "" if probing and self.images[:1] == [_probe()] else role

    @property
    def text(self) -> str:
        return _text(self._user["content"]).removeprefix(self.system).lstrip()

    @property
    def images(self) -> list[str]:
        content = self._user["content"]
        parts = content if isinstance(content, list) else []
        return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]

    @property
    def key(self) -> str:
        return self.system + self.text + "".join(self.images) + str(self.body.get("seed"))

    @property
    def _user(self) -> dict[str, Any]:
        turns = [m for m in self.body["messages"] if m["role"] == "user"]
        user: dict[str, Any] = turns[0]
        return user


@dataclass
class Server:
    """What the server can do, what it is told to do wrong, and what it saw."""

    structure: str = "schema"
    likely: int = 20
    limit: str = "max_tokens"
    temperature: bool = True
    system: bool = True
    sees: bool = True
    thinks: str = ""
    failing: dict[str, int] = field(default_factory=dict)
    fault: Callable[[Asked], str | None] = lambda asked: None
    key: str = ""
    wait: float = 0.0
    ollama: bool = False
    loaded: bool = False
    unloaded: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return f"{self.url}#{MODEL}"

    def questions(self) -> list[Asked]:
        """The requests that are no probes."""
        return [asked for asked in self.asked if asked.role]

    def accept(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[Asked, str | None]:
        asked = Asked(body, headers, 0)
        with self.lock:
            asked.again = self.seen[asked.key]
            self.seen[asked.key] += 1
            self.asked.append(asked)
            fault = self.fault(asked) if asked.role else None
            if fault:
                self.injected[fault] += 1
        return asked, fault

    def refusal(self, body: dict[str, Any]) -> str | None:
        """Why a request is a bad one for this server."""
        if not self.system and body["messages"][0]["role"] == "system":
            return "System role not supported"
        if not self.sees and "image_url" in json.dumps(body["messages"]):
            return "image input is not supported"
        if refused := THINKING[self.thinks].refuses(body):
            return f"Unsupported parameter: {refused}"
        other = {"max_tokens", "max_completion_tokens"} - {self.limit}
        if other & body.keys():
            return f"Unsupported parameter: {other.pop()}"
        if "temperature" in body and not self.temperature:
            return "Unsupported parameter: temperature"
        kind = body.get("response_format", {}).get("type")
        allowed = {"schema": {"json_schema", "json_object"}, "json": {"json_object"}}
        if kind and self.structure != "ignores" and kind not in allowed.get(self.structure, set()):
            return f"Unsupported response_format: {kind}"
        if body.get("top_logprobs", 0) > self.likely:
            return "Unsupported: top_logprobs"
        return None


@contextmanager
def loopback(**options: Any) -> Iterator[Server]:
    """A running server."""
    server = Server(**options)
    handler = type("Handler", (_Handler,), {"server_state": server})
    with serving_http(handler) as address:
        server.url = f"{address}/v1"
        try:
            yield server
        finally:
            server.stopping.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        """What Ollama says of itself, and of the models that are loaded."""
        state = self.server_state
        loaded = [{"name": f"{MODEL}:latest"}] if state.loaded else []
        said = {"/api/version": {"version": "0.12.0"}, "/api/ps": {"models": loaded}}
        if not state.ollama or self.path not in said:
            return self._error(404, "not found")
        return self._send(200, json.dumps(said[self.path]).encode())

    def do_POST(self) -> None:
        state = self.server_state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if state.ollama and self.path == "/api/generate":
            state.unloaded.append(body)
            state.loaded = body.get("keep_alive") != 0
            return self._send(200, json.dumps({"done_reason": "unload"}).encode())
        asked, fault = state.accept(
            body, {name.lower(): value for name, value in self.headers.items()}
        )
        if state.key and self.headers["authorization"] != f"Bearer {state.key}":
            return self._error(401, f"Incorrect API key: {self.headers['authorization']}")
        if self.path != "/v1/chat/completions" or body["model"] != MODEL:
            return self._error(404, f"The model {body['model']} does not exist")
        if refusal := state.refusal(body):
            return self._error(400, refusal)
        if code := next((c for name, c in state.failing.items() if name in body), 0):
            return self._error(code, "Internal error")
        state.stopping.wait(state.wait)
        state.loaded = True
        if fault:
            getattr(self, f"_{fault}")(asked)
            return None
        return self._say(_answer(state, asked), asked)

    def _say(self, text: Any, asked: Asked, finish: str = "stop", **more: Any) -> None:
        thought = THINKING[self.server_state.thinks]
        said = thought.said(text, asked.body, finish)
        message = {"role": "assistant", **said.message, **more}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": said.finish}
        if asked.body.get("logprobs") and self.server_state.likely:
            tokens = [*said.thought_tokens, *_tokens(text, asked)]
            choice["logprobs"] = {"content": tokens}
        whole = _completion(choice, asked, text)
        whole["usage"] |= said.usage
        self._send(200, json.dumps(whole).encode())

    def _send(self, code: int, data: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, code: int, message: str, kind: str | None = None, **headers: str) -> None:
        error = {"error": {"message": message, "type": kind, "code": kind}}
        self._send(code, json.dumps(error).encode(), **headers)

    def _busy(self, asked: Asked) -> None:
        self._error(429, "Rate limit reached", retry_after="0.01")

    def _long_wait(self, asked: Asked) -> None:
        self._error(429, "Come back tomorrow", retry_after="86400")

    def _quota(self, asked: Asked) -> None:
        self._error(429, "You exceeded your quota", "insufficient_quota")

    def _burst(self, asked: Asked) -> None:
        self._error((500, 502, 503)[len(asked.key) % 3], "Internal error")

    def _unauthorized(self, asked: Asked) -> None:
        self._error(401, f"Incorrect API key: {asked.headers.get('authorization')}")

    def _no_model(self, asked: Asked) -> None:
        self._error(404, "The model does not exist")

    def _bad_request(self, asked: Asked) -> None:
        self._error(400, "Invalid image")

    def _moderated(self, asked: Asked) -> None:
        self._error(403, "flagged by moderation")

    def _hung(self, asked: Asked) -> None:
        self.server_state.stopping.wait(20)
        self.close_connection = True

    def _slow(self, asked: Asked) -> None:
        """A byte now and then: no read ever times out, but the whole must."""
        self.send_response(200)
        self.send_header("content-length", "100000")
        self.end_headers()
        for _ in range(400):
            self.wfile.write(b" ")
            self.wfile.flush()
            if self.server_state.stopping.wait(0.05):
                break
        self.close_connection = True

    def _reset(self, asked: Asked) -> None:
        self._half(asked)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _half(self, asked: Asked) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [{"mess')
        self.close_connection = True

    def _huge(self, asked: Asked) -> None:
        self._say("ja " * 3_500_000, asked)

    def _gzip(self, asked: Asked) -> None:
        self._send(200, b"\x1f\x8b", content_encoding="gzip")

    def _truncated(self, asked: Asked) -> None:
        text = _answer(self.server_state, asked)
        self._say(text[: len(text) // 2], asked, "length")

    def _wrong_types(self, asked: Asked) -> None:
        self._say({"answer": ["yes"]}, asked)

    def _missing_fields(self, asked: Asked) -> None:
        self._say("{}", asked)

    def _empty(self, asked: Asked) -> None:
        self._say("", asked)

    def _not_json(self, asked: Asked) -> None:
        self._send(200, b"<html>It works!</html>")

    def _wrong_language(self, asked: Asked) -> None:
        self._say("да, это верно", asked)

    def _refusal(self, asked: Asked) -> None:
        self._say(None, asked, refusal="I cannot help with that.")

    def _prose(self, asked: Asked) -> None:
        text = _answer(self.server_state, asked)
        choice = not text.startswith("{")
        self._say(f'"{text}."' if choice else f"Sure! Here it is: {text} Anything else?", asked)

    def _fenced(self, asked: Asked) -> None:
        self._say(f"```json\n{_answer(self.server_state, asked)}\n```".replace("json\n", "", 1)
                  if asked.body.get("logprobs") else
                  f"```json\n{_answer(self.server_state, asked)}\n```", asked)  # fmt: skip

    def _thoughts(self, asked: Asked) -> None:
        self._say(f"<think>no {{}}</think>\n{_answer(self.server_state, asked)}", asked)


def text_tokens(asked: Asked) -> int:
    """The tokens that a request's text is counted as."""
    return sum(len(_text(message["content"])) for message in asked.body["messages"]) // 4


def picture_tokens(asked: Asked) -> int:
    """The tokens that a request's pictures are counted as."""
    return sum(math.prod(_picture(uri).size) // 28**2 for uri in asked.images)


def _completion(choice: dict[str, Any], asked: Asked, text: Any) -> dict[str, Any]:
    read = text_tokens(asked) + picture_tokens(asked)
    usage = {"prompt_tokens": read, "completion_tokens": len(str(text)) // 4 + 1}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL,
            "choices": [choice], "usage": usage}  # fmt: skip


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _tokens(text: Any, asked: Asked) -> list[dict[str, Any]]:
    """The tokens of a reply, with what else was likely at its answers."""
    if asked.body.get("response_format"):
        pieces = re.findall(r"\w+|[^\w]+", str(text))
        each = iter([_sure(check) for check in _checks(asked)])
        return [
            token(p, next(each, 0.9) if p in ("yes", "no") else 1.0, p in ("yes", "no"))
            for p in pieces
        ]
    sure = _sure(_checks(asked)[0]) if asked.images else 0.9
    return [token(f" {text}", sure, answers=True)]


def _sure(check: Check) -> float:
    return min(max(check.confidence or 0.5, 0.51), 0.99)


def _checks(asked: Asked) -> tuple[Check, ...]:
    return _look(asked.images[0], asked.text) if asked.images else ()


def _answer(state: Server, asked: Asked) -> str:
    """What an honest server says."""
    for role, answer in _ROLES.items():
        if asked.system == instructions(role):
            return answer(asked)
    if "Say hello" in asked.text:
        held = asked.body.get("response_format", {}).get("type") == "json_schema"
        return '{"word": "hello"}' if held and state.structure == "schema" else "Hello!"
    return "A red circle and a blue square."


def _verify(asked: Asked) -> str:
    (check,) = _look(asked.images[0], asked.text)
    return "Yes" if check.passed else "no."


def _verify_together(asked: Asked) -> str:
    names = re.findall(r"^(\w+): <claim>", asked.text, re.MULTILINE)
    checks = _look(asked.images[0], asked.text)
    said = zip(names, checks, strict=True)
    return json.dumps({name: "yes" if check.passed else "no" for name, check in said})


def _observe(asked: Asked) -> str:
    names = re.findall(r"^(\w+): <claim>", asked.text, re.MULTILINE)
    checks = _look(asked.images[0], asked.text)
    return json.dumps({name: check.observed for name, check in zip(names, checks, strict=True)})


def _caption(asked: Asked) -> str:
    with _LOOKING:
        caption = _viewer().caption(_fitting(asked.images[0]))
    return json.dumps({"text": caption.text, "phrases": caption.phrases})


def _propose(asked: Asked) -> str:
    seen = re.findall(r"seen instead: ([^<]+)</failed>", asked.text)
    return json.dumps({"faults": seen, "extras": []})


def _find_none_asked(asked: Asked) -> str:
    return json.dumps({"asked": []})


def _take_apart(asked: Asked) -> str:
    prompt = re.findall(r"<prompt>(.*)</prompt>", asked.text)[0]
    claims = [
        {"kind": c.kind, "text": c.text, "subject": c.subject, "value": c.value, "object": c.object}
        for c in requirements(parse(prompt))
    ]
    return json.dumps({"claims": claims})


_ROLES: dict[str, Callable[[Asked], str]] = {
    "verifier": _verify,
    "verifier_together": _verify_together,
    "observer": _observe,
    "captioner": _caption,
    "proposer": _propose,
    "asked": _find_none_asked,
    "checklister": _take_apart,
}


@cache
def _look(uri: str, text: str) -> tuple[Check, ...]:
    """What the miniature eyes say of the claims in a text."""
    with _LOOKING:
        return _viewer().verify(_fitting(uri), Checklist("", tuple(_claims(text)))).checks


_LOOKING = threading.Lock()


@cache
def _probe() -> str:
    return Encoder().uri(PICTURE)


@cache
def _viewer() -> MiniViewer:
    eyes = embedded_roles().verifier
    assert isinstance(eyes, MiniViewer)
    return eyes


@cache
def _picture(uri: str) -> Image.Image:
    assert uri.startswith("data:image/"), uri
    return Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB")


def _fitting(uri: str) -> Image.Image:
    """The picture in the one size that the miniature eyes see."""
    return _picture(uri).resize((IMAGE_SIZE, IMAGE_SIZE))


def _claims(text: str) -> list[Requirement]:
    found = re.findall(r"<claim>(.*?)</claim>", text)
    return [_claim(f"c{number}", claim) for number, claim in enumerate(found)]


def _claim(name: str, text: str) -> Requirement:
    """The requirement that a sentence of the embedded world states."""

    def of(kind: str, subject: str, value: str, other: str = "") -> Requirement:
        subject, other = _SINGULAR.get(subject, subject), _SINGULAR.get(other, other)
        return Requirement(name, kind, text, subject, value, other)

    if match := re.fullmatch(r"at least one (.+) is visible", text):
        return of("object", match[1], match[1])
    if match := re.fullmatch(r"exactly (\w+) (.+)", text):
        return of("count", match[2], str(NUMBERS.index(match[1])))
    if match := re.fullmatch(rf"all (.+) are ({'|'.join(COLORS)})", text):
        return of("attribute", match[1], match[2])
    if match := re.fullmatch(rf"all (.+?) are ({'|'.join(SIZE_WORDS)})( than .*)?", text):
        return of("size", match[1], match[2])
    if match := re.fullmatch(r"every (.+) is in the (\w+) half of the picture", text):
        return of("relation", match[1], _HALVES[match[2]])
    if match := re.fullmatch(rf"every (.+) is ({'|'.join(RELATIONS)}) every (.+)", text):
        return of("relation", match[1], match[2], match[3])
    raise AssertionError(f"the loopback eyes cannot check {text!r}")
