"""Logits processors: a grammar that binds answers, and what was likeliest before it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor
from transformers import LogitsProcessor

from npcorrect.errors import ModelError
from npcorrect.vlm.base import Question

_TOP = 20


class TopTokens(LogitsProcessor):
    """Notes the likeliest tokens of each step, and changes nothing."""

    def __init__(self) -> None:
        self._steps: list[tuple[Tensor, Tensor]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores ``(B, V)`` as they are."""
        values, tokens = scores.float().log_softmax(dim=-1).topk(min(_TOP, scores.shape[-1]))
        self._steps.append((values.cpu(), tokens.cpu()))
        return scores

    def of_row(self, row: int) -> list[dict[int, float]]:
        """For each step the log-probabilities of a row's likeliest tokens."""
        return [
            dict(zip(tokens[row].tolist(), values[row].tolist(), strict=True))
            for values, tokens in self._steps
        ]


class Grammar(LogitsProcessor):
    """Allows only tokens that go on with the answer to each row's question; others are free."""

    def __init__(self, tokenizer: LLTokenizer, questions: Sequence[Question], prompt: int) -> None:
        rules = map(_rules, questions)
        self._matchers = [LLMatcher(tokenizer, rule) if rule else None for rule in rules]
        self._end, self._prompt = tokenizer.eos_token, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(B, V)`` with -inf where the grammar does not allow a token."""
        scores = scores.clone()
        for row, matcher in enumerate(self._matchers):
            if matcher is None:
                continue
            if input_ids.shape[1] > self._prompt and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if matcher.is_error():
                raise ModelError(f"The grammar of a reply failed: {matcher.get_error()}")
            scores[row, ~self._allowed(matcher, scores.shape[1]).to(scores.device)] = -torch.inf
        return scores

    def _allowed(self, matcher: LLMatcher, size: int) -> Tensor:
        """Which tokens may come next; the end alone where the answer is complete."""
        allowed = torch.zeros(size, dtype=torch.bool)
        if matcher.is_stopped():
            allowed[self._end] = True
            return allowed
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[:size].astype(bool)
        allowed[: len(mask)] = torch.from_numpy(mask)
        return allowed


def _rules(question: Question) -> str | None:
    if question.schema is not None:
        return _schema_rules(question.schema)
    if question.choices:
        words = (choice.replace("\\", "\\\\").replace('"', '\\"') for choice in question.choices)
        return str(LLMatcher.grammar_from_lark("start: " + " | ".join(f'"{w}"' for w in words)))
    return None


def _schema_rules(schema: Mapping[str, Any]) -> str:
    compact = {"x-guidance": {"whitespace_flexible": False}}
    return str(LLMatcher.grammar_from_json_schema({**schema, **compact}))
