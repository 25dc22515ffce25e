"""Ollama's own interface, for the one thing that OpenAI's lacks: to give the card back.

As Ollama documents it, a request to ``/api/generate`` with ``keep_alive`` 0 and no prompt unloads a
model; the next question loads it again. ``/v1/chat/completions`` ignores ``keep_alive``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

import httpx2

from npcorrect.files import read_json
from npcorrect.vlm.addresses import Server
from npcorrect.vlm.transport import MAX_REPLY_BYTES

TIMEOUT = 10.0
"""Seconds for a request, and for a model to be gone."""
_PAUSE = 0.1
_log = logging.getLogger(__name__)


class Ollama:
    """A model of an Ollama server, which leaves the card on demand."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._model = server.model
        self._root = server.address.rstrip("/").removesuffix("/v1")

    def answers(self) -> bool:
        """Whether the server is Ollama at all."""
        return isinstance(self._asked("GET", "/api/version").get("version"), str)

    def enter(self) -> None:
        """Do nothing: the next question loads the model."""

    def leave(self) -> None:
        """Unload the model, and wait until it is gone; a warning says where it is not."""
        self._asked("POST", "/api/generate", {"model": self._model, "keep_alive": 0})
        end = monotonic() + TIMEOUT
        while self._loaded():
            if monotonic() > end:
                _log.warning("%s is still on the card after %g s.", self.name, TIMEOUT)
                return
            sleep(_PAUSE)

    def _loaded(self) -> bool:
        models = self._asked("GET", "/api/ps").get("models")
        names = [one.get("name") for one in models or () if isinstance(one, dict)]
        return not {self._model, f"{self._model}:latest"}.isdisjoint(names)

    def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """The object that the server answers with; empty where it gives none."""
        try:
            with (
                httpx2.Client(trust_env=False, timeout=TIMEOUT) as client,
                client.stream(method, f"{self._root}{path}", json=body) as response,
            ):
                content = b""
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > MAX_REPLY_BYTES:
                        return {}
            answer = read_json(content.decode()) if response.is_success else {}
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
            return {}
        return answer if isinstance(answer, dict) else {}
