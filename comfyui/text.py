"""Texts under a CLIP: their conditioning, their length, and their token states for the ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from npcorrect.diffusion.base import Reading, TokenStates
from npcorrect.errors import PromptError, SettingsError

Token = tuple[Any, float, int]
"""As ComfyUI's tokenizers return them: an id or an embedding, a weight, and the number of the word,
0 for marks and padding."""


def plain(text: str) -> str:
    """A text without the names of embeddings, which ComfyUI would load from files."""
    return text.replace("embedding:", "embedding ")


def text_rows(tokens: Sequence[Token]) -> tuple[int, list[bool]]:
    """How many of the first tokens are the text with its end mark, and which of them are marks."""
    words = [place for place, token in enumerate(tokens) if token[2]]
    rows = min(words[-1] + 2, len(tokens)) if words else min(1, len(tokens))
    return rows, [not token[2] for token in tokens[:rows]]


def _joined(tokens: Mapping[str, Sequence[Sequence[Token]]]) -> list[list[Token]]:
    """Each encoder's batches of tokens, one after the other."""
    return [list(chain.from_iterable(batches)) for batches in tokens.values()]


def token_states(states: Any, tokens: Mapping[str, Sequence[Sequence[Token]]]) -> TokenStates:
    """The states ``(T, D)`` that belong to a text, by the one list of tokens that has T of them.

    Raises:
        SettingsError: no list has as many.
    """
    lists = _joined(tokens)
    matching = [one for one in lists if len(one) == len(states)]
    if not matching:
        raise SettingsError(
            f"This CLIP gives {len(states)} states for {' and '.join(str(len(x)) for x in lists)} "
            "tokens, so that its texts cannot be compared; use the ranker 'source'."
        )
    rows, special = text_rows(matching[-1])
    return TokenStates(np.ascontiguousarray(states[:rows]), np.array(special))


class ClipText:
    """A :class:`~npcorrect.diffusion.base.TextEncoder` around a CLIP that reads ``limit`` tokens.

    Texts are read as they are: without weights in parentheses, without embeddings.
    """

    def __init__(self, clip: Any, limit: int) -> None:
        self._clip, self._limit = clip, limit
        self._conditioning: dict[str, Any] = {}

    def conditioning(self, text: str) -> Any:
        """What the sampler is conditioned with, made once."""
        if text not in self._conditioning:
            tokens = self._clip.tokenize(plain(text), disable_weights=True)
            self._conditioning[text] = self._clip.encode_from_tokens_scheduled(tokens)
        return self._conditioning[text]

    def check(self, text: str) -> None:
        """Raises PromptError where a text is longer than the model reads."""
        length = max(text_rows(tokens)[0] for tokens in _joined(self._tokens(text)))
        if length > self._limit:
            raise PromptError(
                f"The text {text[:60]!r} has {length} tokens and the model reads {self._limit}; "
                "shorten it."
            )

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """Token states of each text, as the model reads it when it draws.

        Raises:
            SettingsError: they are wanted as a CLIP of ComfyUI does not read them.
        """
        if reading != "drawn":
            raise SettingsError(
                "The ranker 'paper' reads texts without their padding, which a CLIP of ComfyUI "
                "does not; use the ranker 'salient', 'requirements' or 'source'."
            )
        return [self._states(text) for text in texts]

    def _states(self, text: str) -> TokenStates:
        tokens = self._tokens(text)
        bare = {name: [[t[:2] for t in b] for b in batches] for name, batches in tokens.items()}
        states = self._clip.encode_from_tokens(bare)[0]
        return token_states(states.float().cpu().numpy(), tokens)

    def _tokens(self, text: str) -> dict[str, list[list[Token]]]:
        tokens: dict[str, list[list[Token]]] = self._clip.tokenize(
            plain(text), return_word_ids=True, disable_weights=True
        )
        return tokens
