"""Text-space scores: which negative to try first, judged without drawing anything.

The score is that of Negative Prompting for Image Correction (arXiv 2512.07702). With ``e`` the mean
of a text's token states, special tokens included, ``v`` the same without them, and
``D = e(prompt) - e(negative)``::

    score = mean_q cos(D, v(q)) + mean_o cos(D, v(o)) - cos(D, v(negative))

over quantity phrases q and object phrases o. Higher is better: the negative leads away from itself
and towards what the prompt is about. A mean over nothing, and a cosine with a zero vector, is 0.

Our default, :class:`SalientRanker`, leaves the last term out: over the failed pictures of
docs/why-it-works.md it hurt the order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npcorrect.diffusion.base import TextEncoder, TokenStates
from npcorrect.english import NUMBERS, in_words, plural, singular
from npcorrect.errors import SettingsError
from npcorrect.records import Candidate, Checklist, Ranked, Requirement

Vector = NDArray[np.float64]
CACHED_TEXTS = 4096
"""Texts whose vectors a ranker remembers; beyond them it starts anew."""
SALIENT_PARTS = ("quantity", "object")
ALL_PARTS = (*SALIENT_PARTS, "negative")
_NUMBER_AND_NEXT = re.compile(rf"\b({'|'.join(NUMBERS[1:])}|\d+)\s+([a-z]+)")
_MADE_UP_QUANTITIES = NUMBERS[1:4]


class Ranker(Protocol):
    """Puts candidates in the order in which they are worth drawing."""

    name: str

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """All candidates, best first; ties keep their order. The parts add up to the score."""
        ...


@dataclass(frozen=True)
class Salient:
    """The phrases of a prompt that a picture must not lose."""

    quantities: tuple[str, ...]
    objects: tuple[str, ...]


@dataclass(frozen=True)
class _Vectors:
    """A text's mean with special tokens (``e``) and without (``v``), ``(D,)`` each."""

    e: Vector
    v: Vector


class _Space:
    """Vectors of texts under one encoder, remembered."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, _Vectors] = {}

    def vectors(self, texts: Iterable[str]) -> dict[str, _Vectors]:
        """The vectors of all texts, in at most one call of the encoder."""
        wanted = tuple(dict.fromkeys(texts))
        if len(self._known) + len(wanted) > CACHED_TEXTS:
            self._known.clear()
        new = [text for text in wanted if text not in self._known]
        if new:
            states = self._encoder.encode(new)
            self._known.update(zip(new, map(_pool, states), strict=True))
        return {text: self._known[text] for text in wanted}


class SourceRanker:
    """No score at all: keeps the proposer's order, as the baseline to beat.

    The "score" is minus the place in that order, so that higher is still better.
    """

    name = "source"

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """The candidates as they came."""
        return tuple(
            Ranked(candidate, float(-place), (("order", float(-place)),))
            for place, candidate in enumerate(candidates)
        )


class PaperRanker:
    """The score with the salient words of :func:`paper_salient`, the faithful baseline."""

    name = "paper"

    def __init__(self, encoder: TextEncoder) -> None:
        self._space = _Space(encoder)

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """Best first, in at most one call of the encoder."""
        return _rank(self._space, checklist.prompt, paper_salient(checklist.prompt), candidates)


class RequirementRanker:
    """The score with the salient phrases of :func:`requirement_salient`."""

    name = "requirements"

    def __init__(self, encoder: TextEncoder) -> None:
        self._space = _Space(encoder)

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """Best first, in at most one call of the encoder."""
        return _rank(self._space, checklist.prompt, requirement_salient(checklist), candidates)


class SalientRanker:
    """The score with the salient phrases of :func:`requirement_salient`, but not its last term."""

    name = "salient"

    def __init__(self, encoder: TextEncoder) -> None:
        self._space = _Space(encoder)

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """Best first, in at most one call of the encoder."""
        salient = requirement_salient(checklist)
        return _rank(self._space, checklist.prompt, salient, candidates, SALIENT_PARTS)


RANKERS: Mapping[str, Callable[[TextEncoder], Ranker]] = {
    "salient": SalientRanker,
    "requirements": RequirementRanker,
    "paper": PaperRanker,
    "source": lambda encoder: SourceRanker(),
}
"""Makes each ranker, by its name."""
DEFAULT_RANKER = "salient"


def ranker_maker(name: str | None) -> Callable[[TextEncoder], Ranker]:
    """What makes the ranker of this name, or the default one.

    Raises:
        SettingsError: there is none of this name.
    """
    if name is None:
        name = DEFAULT_RANKER
    if name not in RANKERS:
        raise SettingsError(f"The ranker {name!r} is unknown; use {', '.join(RANKERS)}.")
    return RANKERS[name]


def paper_salient(prompt: str) -> Salient:
    """Numbers, and the word after each in singular and plural, as the released code finds them.

    Faithful to its faults: an adjective passes for the object ("three red circles" gives "red"),
    and a prompt without numbers is taken to ask for one, two and three.
    """
    pairs = _NUMBER_AND_NEXT.findall(prompt.lower())
    quantities = tuple(dict.fromkeys(number for number, _ in pairs))
    nouns = (singular(word) for _, word in pairs)
    objects = dict.fromkeys(form for noun in nouns for form in (noun, plural(noun)))
    return Salient(quantities or _MADE_UP_QUANTITIES, tuple(objects))


def requirement_salient(checklist: Checklist) -> Salient:
    """What the requirements name: counted nouns, nouns, and their colours, sizes and relations."""
    quantities: list[str] = []
    objects: list[str] = []
    for claim in checklist.requirements:
        if not claim.subject or (claim.kind == "count" and claim.value == "0"):
            continue
        if claim.kind == "count":
            quantities.append(_counted(claim))
        elif claim.kind == "object":
            objects += (claim.subject, plural(claim.subject))
        else:
            objects.append(_described(claim))
    return Salient(tuple(dict.fromkeys(quantities)), tuple(dict.fromkeys(objects)))


def _counted(claim: Requirement) -> str:
    noun = claim.subject if claim.value == "1" else plural(claim.subject)
    return f"{in_words(claim.value)} {noun}"


def _described(claim: Requirement) -> str:
    if claim.object:
        return f"{claim.subject} {claim.value} {claim.object}"
    return f"{claim.value} {claim.subject}".strip()


def _rank(
    space: _Space,
    prompt: str,
    salient: Salient,
    candidates: Sequence[Candidate],
    counted: Sequence[str] = ALL_PARTS,
) -> tuple[Ranked, ...]:
    if not candidates:
        return ()
    negatives = (candidate.negative_prompt for candidate in candidates)
    of = space.vectors((prompt, *salient.quantities, *salient.objects, *negatives))
    ranked = []
    for candidate in candidates:
        negative = of[candidate.negative_prompt]
        delta = of[prompt].e - negative.e
        terms = (
            ("quantity", _mean_cosine(delta, [of[text].v for text in salient.quantities])),
            ("object", _mean_cosine(delta, [of[text].v for text in salient.objects])),
            ("negative", -_mean_cosine(delta, [negative.v])),
        )
        parts = tuple(term for term in terms if term[0] in counted)
        ranked.append(Ranked(candidate, sum(value for _, value in parts), parts))
    return tuple(sorted(ranked, key=lambda entry: -entry.score))


def _pool(states: TokenStates) -> _Vectors:
    """Means over the tokens, which are the first axis."""
    tokens = np.asarray(states.states, dtype=np.float64)
    return _Vectors(_mean(tokens), _mean(tokens[~np.asarray(states.special, dtype=bool)]))


def _mean(tokens: Vector) -> Vector:
    mean: Vector = tokens.sum(axis=0) / max(len(tokens), 1)
    return mean


def _mean_cosine(delta: Vector, phrases: Sequence[Vector]) -> float:
    return sum(_cosine(delta, phrase) for phrase in phrases) / max(len(phrases), 1)


def _cosine(a: Vector, b: Vector) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0
