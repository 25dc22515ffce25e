"""A server's reply as OpenAI's chat completions define it, read as leniently as it is safe.

What stands beside the answer (counts of tokens, log-probabilities, the reason of the end) falls
back to "unknown" one by one; it never costs an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    FiniteFloat,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from npcorrect.vlm.probabilities import Token
from npcorrect.vlm.reasoning import thinks
from npcorrect.vlm.replies import encodable

MAX_TOKENS = 10**9
"""A count of tokens above is no count."""
_LIMITS = ("length", "max", "limit")
_BREAKS = ("filter", "safety", "error", "abort", "cancel", "block", "recitation")
"""What servers' reasons for the end of a text say where it is not whole."""


def _or_none(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """The value where it is valid, else None."""
    try:
        return validate(value)
    except ValidationError:
        return None


_BEFORE = re.compile(r"[\ufeff\s]*+(?:(?:event|id|retry)?:[^\n]*+\s*+)*+(?:data:\s*+)?+")
"""What may stand before a reply: the lines of a stream that hold no data."""
Unsure = WrapValidator(_or_none)
Text = Annotated[StrictStr | None, Unsure]
Count = Annotated[int | None, Field(ge=0, le=MAX_TOKENS), Unsure]


class _Likely(BaseModel):
    token: StrictStr
    logprob: FiniteFloat


class _Place(_Likely):
    top_logprobs: Annotated[list[Annotated[_Likely | None, Unsure]] | None, Unsure] = None

    def token_read(self) -> Token:
        """The token, with the log-probabilities of the likeliest ones in its place."""
        others = {entry.token: entry.logprob for entry in self.top_logprobs or [] if entry}
        return Token(self.token, {self.token: self.logprob} | others)


class _Logprobs(BaseModel):
    content: Annotated[list[_Place] | None, Unsure] = None


class _Message(BaseModel):
    content: Any = None
    refusal: Text = None
    reasoning_content: Text = None
    reasoning: Text = None
    thinking: Text = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Text = None
    logprobs: Annotated[_Logprobs | None, Unsure] = None


class _Details(BaseModel):
    reasoning_tokens: Count = None


class _Usage(BaseModel):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    completion_tokens_details: Annotated[_Details | None, Unsure] = None


class Completion(BaseModel):
    """What a server answers, as far as it is read here."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage | None, Unsure] = None

    @property
    def text(self) -> str:
        """The text of the answer; its parts are joined, and thoughts among them left out."""
        return encodable("".join(_texts(self._message.content)))

    @property
    def thought(self) -> str:
        """What the server gives as thought, apart from the answer."""
        message = self._message
        return encodable(message.reasoning_content or message.reasoning or message.thinking or "")

    @property
    def refusal(self) -> str:
        """Why the model will not answer; empty where it does."""
        return encodable(self._message.refusal or "")

    @property
    def cut_off(self) -> bool:
        """Whether the text ended at the limit of tokens."""
        return any(word in self._end for word in _LIMITS)

    @property
    def broken_off(self) -> bool:
        """Whether the server ended the text: by a filter, by a fault, or to make room."""
        return any(word in self._end for word in _BREAKS)

    @property
    def tokens(self) -> tuple[int, int] | None:
        """The tokens read and written, or None where the server does not tell both."""
        usage = self.usage
        if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        return usage.prompt_tokens, usage.completion_tokens

    @property
    def thought_tokens(self) -> int:
        """The tokens that went into thought, 0 where the server does not tell."""
        details = self.usage.completion_tokens_details if self.usage else None
        return (details.reasoning_tokens if details else None) or 0

    @property
    def thinks(self) -> bool:
        """Whether the reply holds thought, or took some that it does not show."""
        spent = self.cut_off and not self.text.strip()
        shown = bool(self.thought.strip()) or thinks(self.text)
        return shown or spent or self.thought_tokens > 0

    @property
    def written(self) -> list[Token]:
        """The tokens that were written, where the server lists them."""
        logprobs = self.choices[0].logprobs
        return [place.token_read() for place in (logprobs.content if logprobs else None) or []]

    @property
    def _end(self) -> str:
        return (self.choices[0].finish_reason or "").casefold()

    @property
    def _message(self) -> _Message:
        return self.choices[0].message


def parse(raw: str) -> Completion | None:
    """The completion in a server's reply, or None where there is none."""
    value = _json(raw)
    try:
        return Completion.model_validate(value)
    except (ValidationError, RecursionError):
        return None


def error_in(raw: str) -> tuple[str, str]:
    """What a server says went wrong, and its code for it; empty where it says nothing readable."""
    value = _json(raw)
    if not isinstance(value, dict):
        return "", ""
    error = value.get("error", value)
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    said = next((s for k in ("message", "detail") if (s := _said(error.get(k)))), "")
    codes = (error.get(name) for name in ("code", "type"))
    return said, next((code for code in codes if isinstance(code, str)), "")


def _said(value: Any) -> str:
    """A message: a text, or FastAPI's list of what is wrong, each with its place."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else ""
    faults = (one for one in value if isinstance(one, dict) and isinstance(one.get("msg"), str))
    return "; ".join(f"{one.get('loc', '')} {one['msg']}" for one in faults)


def _json(raw: str) -> Any:
    """The first JSON value of a reply, or None; the marks of a stream around it are passed over."""
    before = _BEFORE.match(raw)
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(raw, before.end() if before else 0)
    except (ValueError, RecursionError):
        return None
    rest = raw[end:].split()
    return value if rest in ([], ["data:", "[DONE]"], ["[DONE]"]) else None


def _texts(content: Any) -> Iterator[str]:
    """The texts of a message's content: a string, or a list of parts."""
    parts = content if isinstance(content, list) else [content]
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and part.get("type") in ("text", "output_text"):
            text = part.get("text")
            if isinstance(text, str):
                yield text
