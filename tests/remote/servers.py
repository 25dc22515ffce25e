"""Servers on loopback that draw as A1111's API and OpenAI's do, and that can fail."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tests.http_server import serving_http

Body = dict[str, Any]
SIDE = 32
MODELS = [
    {"title": "dream.safetensors [4199bcdd14]", "model_name": "dream"},
    {"title": "other.safetensors [0123456789]", "model_name": "other"},
]
A1111_NAMES = ("seed", "negative_prompt", "steps", "cfg_scale", "denoising_strength")


@dataclass
class Reply:
    """What is sent back."""

    body: Any
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Fault = Callable[[str, Body], Reply | None]
"""What is sent to a path and a body in place of a picture; None where a picture is."""
Paint = Callable[[Mapping[str, Any], tuple[int, int]], Image.Image]
"""A picture of a width and a height, by what acts of a request, by A1111's names."""


def paint(acting: Mapping[str, Any], size: tuple[int, int]) -> Image.Image:
    """Noise of the seed, of a shade that all else in the request changes."""
    rng = np.random.default_rng(acting.get("seed"))
    others = {name: value for name, value in acting.items() if name != "seed"}
    shade = sum(map(ord, json.dumps(others, sort_keys=True))) % 100
    return Image.fromarray(
        (rng.integers(0, 150, (size[1], size[0], 3)) + shade).astype(np.uint8), "RGB"
    )


@dataclass
class PictureServer:
    """A running server, and what it was asked: paths with bodies, and headers.

    ``names`` are its parameters with A1111's name of each. What it does not know it refuses where
    it is ``strict``, and else ignores. A ``size`` of its own draws every picture.
    """

    openai: bool = False
    names: Mapping[str, str] = field(default_factory=lambda: {n: n for n in A1111_NAMES})
    strict: bool = False
    sizes: tuple[int, ...] = (SIDE, 16, 64)
    paint: Paint = paint
    fault: Fault = lambda path, body: None
    key: str = ""
    url: str = ""
    address: str = ""
    asked: list[tuple[str, Body]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called as a model."""
        return f"{self.address}#gpt-image-1" if self.openai else self.address

    @property
    def drawn(self) -> list[Body]:
        """The bodies of requests for pictures."""
        return [body for path, body in self.asked if "sd-models" not in path and body]

    def answer(self, path: str, body: Body) -> Reply:
        if reply := self.fault(path, body):
            return reply
        if path == "/sdapi/v1/sd-models" and not self.openai:
            return Reply(MODELS)
        if path == "/sdapi/v1/options" and not self.openai:
            return Reply({"sd_model_checkpoint": MODELS[0]["title"]})
        begins = "/v1/images/" if self.openai else "/sdapi/v1/"
        if path not in (begins + end for end in ("txt2img", "img2img", "generations", "edits")):
            return Reply({"detail": "Not Found"}, 404)
        return self._openai(body) if self.openai else self._picture(body, "images")

    def _openai(self, body: Body) -> Reply:
        known = {"model", "prompt", "n", "size", "image", *self.names}
        if self.strict and (unknown := [name for name in body if name not in known]):
            return refusal(f"Unknown parameter: '{unknown[0]}'.")
        if body["model"] != "gpt-image-1":
            return refusal("The model does not exist", 404)
        if "size" in body:
            body["width"], body["height"] = map(int, body["size"].split("x"))
        return self._picture(body, "data")

    def _picture(self, body: Body, key: str) -> Reply:
        width, height = body.get("width", SIDE), body.get("height", SIDE)
        if {width, height} - {*self.sizes}:
            return refusal(f"Invalid size {width}x{height}")
        acting = {own: body[name] for name, own in self.names.items() if name in body}
        acting = {name: str(value) for name, value in acting.items()}
        acting["seed"] = int(acting["seed"]) if "seed" in acting else len(self.asked)
        file = BytesIO()
        self.paint(acting, (width, height)).save(file, "PNG")
        text = b64encode(file.getvalue()).decode()
        entry = text if key == "images" else {"b64_json": text}
        return Reply({"created": 0, key: [entry], "info": "{}"})


def refusal(message: str, code: int = 400) -> Reply:
    """An error as OpenAI words it."""
    return Reply({"error": {"message": message, "type": "invalid_request_error"}}, code)


@contextmanager
def drawing_server(**options: Any) -> Iterator[PictureServer]:
    """A running server."""
    server = PictureServer(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(_body(self.headers, self.rfile))

        def _answer(self, body: Body) -> None:
            server.asked.append((self.path, dict(body)))
            server.headers.append({k.lower(): v for k, v in self.headers.items()})
            given = self.headers["authorization"] or ""
            if server.key and given != server.key:
                reply = refusal(f"Incorrect API key: {given}", 401)
            else:
                reply = server.answer(self.path, body)
            whole = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.code)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)

    with serving_http(Handler) as server.url:
        server.address = f"{server.url}/v1" if server.openai else server.url
        yield server


def sent_image(body: Body) -> Image.Image:
    """The picture that a request begins with."""
    content = body["image"] if "image" in body else b64decode(body["init_images"][0])
    return Image.open(BytesIO(content))


def _body(headers: Any, stream: Any) -> Body:
    raw = stream.read(int(headers["content-length"]))
    kind = headers["content-type"]
    if kind.startswith("application/json"):
        body: Body = json.loads(raw)
        return body
    whole = message_from_bytes(f"content-type: {kind}\n\n".encode() + raw, policy=policy.HTTP)
    parts = whole.iter_parts()  # type: ignore[attr-defined, unused-ignore]
    return {
        str(part.get_param("name", header="content-disposition")): _content(part) for part in parts
    }


def _content(part: Any) -> Any:
    content = part.get_payload(decode=True)
    return content if part.get_content_type().startswith("image/") else content.decode()
