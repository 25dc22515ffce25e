"""How servers behave whose models think: what they refuse, and where their thought goes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any


def token(text: str, sure: float, answers: bool) -> dict[str, Any]:
    """A token of a reply, as servers list it, with what else was likely where it answers."""
    likely = [{"token": text, "logprob": math.log(sure), "bytes": None}]
    if answers:
        other = "no" if text.strip().lower().startswith("y") else "yes"
        likely.append({"token": other, "logprob": math.log(1 - sure), "bytes": None})
        likely.append({"token": "\n", "logprob": -20.0, "bytes": None})
    return {**likely[0], "top_logprobs": likely}


@dataclass(frozen=True)
class Said:
    """A reply of a model that may think: its message, and what else its server says."""

    message: dict[str, Any]
    finish: str
    usage: dict[str, Any] = field(default_factory=dict)
    thought_tokens: list[dict[str, Any]] = field(default_factory=list)


THOUGHT = 'Let me see. A draft: {"word": "draft", "correct": 0} or no. Hmm, yes.'
THOUGHT_TOKENS = 1500


class Thinking:
    """A model that does not think."""

    def refuses(self, body: dict[str, Any]) -> str:
        """A parameter that the server does not know."""
        return next((p for p in ("reasoning_effort", "chat_template_kwargs") if p in body), "")

    def said(self, text: Any, body: dict[str, Any], finish: str) -> Said:
        """The reply with this answer."""
        return Said({"content": text}, finish)


class Thinker(Thinking, ABC):
    """A model that thinks unless it is told not to, and may spend all its tokens on it."""

    def refuses(self, body: dict[str, Any]) -> str:
        return ""

    @abstractmethod
    def is_off(self, body: dict[str, Any]) -> bool: ...

    @abstractmethod
    def thought(self, text: str) -> Said: ...

    @abstractmethod
    def cut_off(self) -> Said: ...

    def said(self, text: Any, body: dict[str, Any], finish: str) -> Said:
        if self.is_off(body):
            return super().said(text, body, finish)
        limit = body.get("max_tokens", body.get("max_completion_tokens", 0))
        return self.thought(str(text)) if limit > THOUGHT_TOKENS else self.cut_off()


class Ollama(Thinker):
    """A thinking build: ``reasoning``, which ``reasoning_effort`` "none" turns off."""

    def is_off(self, body: dict[str, Any]) -> bool:
        return bool(body.get("reasoning_effort") == "none")

    def thought(self, text: str) -> Said:
        return Said({"content": text, "reasoning": THOUGHT}, "stop")

    def cut_off(self) -> Said:
        return Said({"content": "", "reasoning": THOUGHT}, "length")


class OllamaAlways(Ollama):
    """A thinking build whose template cannot be told not to think."""

    def is_off(self, body: dict[str, Any]) -> bool:
        return False


class VLLM(Thinker):
    """Qwen3-VL with a reasoning parser: a switch of the chat template turns thought off."""

    def refuses(self, body: dict[str, Any]) -> str:
        known = ("low", "medium", "high")
        return "" if body.get("reasoning_effort", "low") in known else "reasoning_effort"

    def is_off(self, body: dict[str, Any]) -> bool:
        return body.get("chat_template_kwargs", {}).get("enable_thinking") is False

    def thought(self, text: str) -> Said:
        tokens = [token(piece, 1.0, answers=False) for piece in THOUGHT.split(" ")]
        return Said({"content": text, "reasoning": THOUGHT}, "stop", thought_tokens=tokens)

    def cut_off(self) -> Said:
        return Said({"content": None, "reasoning_content": THOUGHT}, "length")


class VLLMRaw(VLLM):
    """The same without a parser; its template writes the opening mark itself."""

    def thought(self, text: str) -> Said:
        tokens = [token(THOUGHT, 1.0, False), token("</think>", 1.0, False)]
        return Said({"content": f"{THOUGHT}</think>\n\n{text}"}, "stop", thought_tokens=tokens)

    def cut_off(self) -> Said:
        return Said({"content": THOUGHT}, "length")


class OpenAI(Thinker):
    """Of the gpt-5 class: it hides its thought and counts it, and refuses what it does not know."""

    def refuses(self, body: dict[str, Any]) -> str:
        unknown = ("temperature", "max_tokens", "logprobs", "chat_template_kwargs")
        if body.get("reasoning_effort", "low") not in ("minimal", "low", "medium", "high"):
            return "reasoning_effort"
        return next((parameter for parameter in unknown if parameter in body), "")

    def is_off(self, body: dict[str, Any]) -> bool:
        return bool(body.get("reasoning_effort") == "minimal")

    def thought(self, text: str) -> Said:
        return Said({"content": text}, "stop", self._usage())

    def cut_off(self) -> Said:
        return Said({"content": ""}, "length", self._usage())

    def _usage(self) -> dict[str, Any]:
        return {"completion_tokens_details": {"reasoning_tokens": THOUGHT_TOKENS}}


THINKING: dict[str, Thinking] = {
    "": Thinking(),
    "ollama": Ollama(),
    "ollama-always": OllamaAlways(),
    "vllm": VLLM(),
    "vllm-raw": VLLMRaw(),
    "openai": OpenAI(),
}
