"""What attention says: pure functions on the tensors of :class:`trace.Attention`.

With ``A_hbt(i, k)`` the attention probability, at step t, in head h of block b, from image token i
to key k, a text's mass is the mean over heads and image tokens::

    m_tb(k) = 1 / (H I)  sum_h sum_i  A_hbt(i, k)

which is ``text_SBT``. Following Negative Prompting for Image Correction (arXiv 2512.07702,
section 3), with Q the salient tokens of the prompt and P all tokens of its words::

    S_sal(t) = mean_b sum_{k in Q} m_tb(k)          S_bg(t) = mean_b sum_{k in P \\ Q} m_tb(k)
    ratio(t) = S_sal / S_bg                         fraction(t) = S_sal / (S_sal + S_bg)

This is **our** definition: the softmax is the model's own, over all keys, in all blocks; marks that
frame the prompt and padding belong to neither side.

The **released** definition (the code beside the paper) differs: its softmax is over the text tokens
alone, its blocks are the double ones alone, and all that is not salient is background, padding and
the end mark included. :func:`released_text` and :func:`released_words` give what the same measures
take to follow it. Its fractions are lower than ours, since its background has more tokens. Faults
of that code are not followed: it projects the text with the picture's key projection, and misses
the first step.

All functions work on the last axis and keep those before it, ``(..., T) -> (...)``;
``over_blocks`` takes the mean over b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

SINGLE = "single_"
"""How the names of FLUX's single blocks begin, in which text and picture share one stream."""
TAIL = 10
"""Last steps whose mean the paper reports."""


@dataclass(frozen=True)
class Words:
    """Places of a prompt's tokens: those of all its words, and of the salient ones among them."""

    prompt: tuple[int, ...]
    salient: tuple[int, ...]

    @property
    def background(self) -> tuple[int, ...]:
        """The places of the prompt's words that are not salient, in order; empty where all are."""
        return tuple(place for place in self.prompt if place not in self.salient)


Measure = Callable[[Tensor, Words], Tensor]
"""A measure of the salient words, ``(..., T) -> (...)``."""


def over_blocks(text_SBT: Tensor) -> Tensor:
    """The mean over blocks, ``(..., B, T) -> (..., T)``."""
    return text_SBT.mean(dim=-2)


def released_text(among_SBT: Tensor, blocks: Sequence[str]) -> Tensor:
    """The released ``m_t(k)``, ``(S, B, T) -> (S, T)``: the mean over the double blocks.

    ``among_SBT`` and the names of the blocks are those of :class:`trace.Attention`. Families
    without single blocks have only double ones in this sense.
    """
    double = [place for place, name in enumerate(blocks) if not name.startswith(SINGLE)]
    return over_blocks(among_SBT[:, double])


def released_words(words: Words, tokens: int) -> Words:
    """The released sides: all of the text's tokens that are not salient are background."""
    return Words(tuple(range(tokens)), words.salient)


def mass(text_T: Tensor, places: Sequence[int]) -> Tensor:
    """The attention probability of the tokens at ``places`` together, ``(..., T) -> (...)``."""
    return text_T[..., list(places)].sum(dim=-1)


def salient_score(text_T: Tensor, words: Words) -> Tensor:
    """``S_sal``: the attention probability of the salient words, 0 to 1, ``(..., T) -> (...)``."""
    return mass(text_T, words.salient)


def background_score(text_T: Tensor, words: Words) -> Tensor:
    """``S_bg``: the attention probability of the other words, 0 to 1, ``(..., T) -> (...)``."""
    return mass(text_T, words.background)


def ratio(text_T: Tensor, words: Words) -> Tensor:
    """``S_sal / S_bg``, ``(..., T) -> (...)``; infinite where every word is salient."""
    return salient_score(text_T, words) / background_score(text_T, words)


def fraction(text_T: Tensor, words: Words) -> Tensor:
    """``S_sal / (S_sal + S_bg)``, 0 to 1, ``(..., T) -> (...)``; 1 where every word is salient."""
    return salient_score(text_T, words) / mass(text_T, words.prompt)


def comparable(words: Words) -> tuple[str, Measure]:
    """The measure to compare negatives by, and its name.

    It is the fraction; where every word is salient that is always 1, so it is the score.
    """
    return ("fraction", fraction) if words.background else ("score", salient_score)


def entropy(text_T: Tensor, places: Sequence[int]) -> Tensor:
    """How evenly attention is spread over the tokens at ``places``, ``(..., T) -> (...)``.

    The entropy is in nats, 0 to ``log(len(places))``.
    """
    share = text_T[..., list(places)]
    share = share / share.sum(dim=-1, keepdim=True)
    return -(share * share.clamp_min(1e-12).log()).sum(dim=-1)


def tail_mean(series_S: Tensor, last: int = TAIL) -> Tensor:
    """The mean over the last steps, ``(S, ...) -> (...)``; over all where there are fewer."""
    return series_S[-last:].mean(dim=0)
