"""Text-space scores: which negative to try first, judged without drawing anything.

The score is that of Negative Prompting for Image Correction (arXiv 2512.07702). With ``e`` the
vector of a whole text, ``v`` that of a phrase, and ``D = e(prompt) - e(negative)``::

    score = mean_q cos(D, v(q)) + mean_o cos(D, v(o)) - cos(D, v(negative))

over quantity phrases q and object phrases o. Higher is better: the negative leads away from itself
and towards what the prompt is about. A mean over nothing, and a cosine with a zero vector, is 0.

The rankers differ in words, vectors and terms:

==============  ================================  ====================  =====================
name            words                             vectors               terms
==============  ================================  ====================  =====================
paper           :mod:`npcorrect.paper_words`      :class:`PaperSpace`   all
requirements    :func:`requirement_salient`       :class:`DrawnSpace`   all
salient         :func:`requirement_salient`       :class:`DrawnSpace`   all but the last
source          none: the proposer's order
==============  ================================  ====================  =====================

``paper`` is the released score; ``requirements`` and ``salient``, the default, are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from npcorrect import paper_words
from npcorrect.diffusion.base import Reading, TextEncoder, TokenStates
from npcorrect.english import in_words
from npcorrect.errors import SettingsError
from npcorrect.lexicon import plural
from npcorrect.records import Candidate, Checklist, Ranked, Requirement

Vector = NDArray[np.float64]
CACHED_TEXTS = 4096
"""Texts whose vectors a ranker remembers; beyond them it starts anew."""
SALIENT_PARTS = ("quantity", "object")
ALL_PARTS = (*SALIENT_PARTS, "negative")


class Ranker(Protocol):
    """Puts candidates in the order in which they are worth drawing."""

    @property
    def name(self) -> str:
        """The name by which the user chooses the ranker, the value of ``--ranker``."""
        ...

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """All candidates, best first; ties keep their order. The parts add up to the score."""
        ...


@dataclass(frozen=True)
class Salient:
    """The phrases of a prompt that a picture must not lose."""

    quantities: tuple[str, ...]
    objects: tuple[str, ...]


class Space(Protocol):
    """Vectors of texts and phrases, all of one text encoder."""

    def vectors(
        self, texts: Iterable[str], phrases: Iterable[str]
    ) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
        """``e`` of each text and ``v`` of each phrase, ``(D,)`` each."""
        ...


class _Memory:
    """Token states of texts under one reading, remembered."""

    def __init__(self, encoder: TextEncoder, reading: Reading) -> None:
        self._encoder, self._reading = encoder, reading
        self._known: dict[str, TokenStates] = {}

    def states(self, texts: Iterable[str]) -> dict[str, TokenStates]:
        """The states of all texts, in at most one call of the encoder."""
        wanted = tuple(dict.fromkeys(texts))
        if len(self._known) + len(wanted) > CACHED_TEXTS:
            self._known.clear()
        new = [text for text in wanted if text not in self._known]
        if new:
            states = self._encoder.encode(new, self._reading)
            self._known.update(zip(new, states, strict=True))
        return {text: self._known[text] for text in wanted}


class PaperSpace:
    """The released vectors.

    ``e`` is the mean over the tokens of the text, special ones included, with the padding hidden
    from the encoder; ``v`` the mean over those of the phrase encoded without special tokens.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._texts, self._phrases = _Memory(encoder, "masked"), _Memory(encoder, "alone")

    def vectors(
        self, texts: Iterable[str], phrases: Iterable[str]
    ) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
        """The vectors ``(D,)`` of texts and of phrases, in at most two calls of the encoder."""
        whole, alone = self._texts.states(texts), self._phrases.states(phrases)
        return (
            {text: _mean(states.states) for text, states in whole.items()},
            {text: _mean(states.states) for text, states in alone.items()},
        )


class DrawnSpace:
    """Our own vectors, of texts as the model reads them when it draws.

    ``e`` is the mean over the tokens of the text, special ones included; ``v`` the same without the
    special ones, which the encoder saw all the same.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._texts = _Memory(encoder, "drawn")

    def vectors(
        self, texts: Iterable[str], phrases: Iterable[str]
    ) -> tuple[Mapping[str, Vector], Mapping[str, Vector]]:
        """The vectors ``(D,)`` of texts and of phrases, in at most one call of the encoder."""
        texts, phrases = tuple(texts), tuple(phrases)
        known = self._texts.states((*texts, *phrases))
        return (
            {text: _mean(known[text].states) for text in texts},
            {text: _mean(known[text].states[~known[text].special]) for text in phrases},
        )


class SourceRanker:
    """No score at all: keeps the proposer's order, as the baseline to beat.

    The "score" is minus the place in that order, so that higher is still better.
    """

    name = "source"

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """All candidates in the order given; a score is minus the place, from 0."""
        return tuple(
            Ranked(candidate, float(-place), (("order", float(-place)),))
            for place, candidate in enumerate(candidates)
        )


@dataclass(frozen=True)
class ScoreRanker:
    """The score over some words, vectors and terms."""

    name: str
    space: Space
    salient: Callable[[Checklist], Salient]
    terms: tuple[str, ...] = ALL_PARTS

    def rank(self, checklist: Checklist, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
        """Best first, in as many calls of the encoder as the space takes."""
        if not candidates:
            return ()
        salient, prompt = self.salient(checklist), checklist.prompt
        negatives = [candidate.negative_prompt for candidate in candidates]
        phrases = (*salient.quantities, *salient.objects, *negatives)
        e, v = self.space.vectors((prompt, *negatives), phrases)
        ranked = []
        for candidate, negative in zip(candidates, negatives, strict=True):
            delta = e[prompt] - e[negative]
            parts = (
                ("quantity", _mean_cosine(delta, [v[text] for text in salient.quantities])),
                ("object", _mean_cosine(delta, [v[text] for text in salient.objects])),
                ("negative", -_cosine(delta, v[negative])),
            )
            parts_used = tuple(part for part in parts if part[0] in self.terms)
            ranked.append(Ranked(candidate, sum(value for _, value in parts_used), parts_used))
        return tuple(sorted(ranked, key=lambda entry: -entry.score))


def paper_ranker(encoder: TextEncoder) -> ScoreRanker:
    """The ranker by the score of the released code, under the image model's own text encoder."""
    return ScoreRanker("paper", PaperSpace(encoder), lambda asked: paper_salient(asked.prompt))


def requirement_ranker(encoder: TextEncoder) -> ScoreRanker:
    """The ranker by the score over what the requirements name; see the module."""
    return ScoreRanker("requirements", DrawnSpace(encoder), requirement_salient)


def salient_ranker(encoder: TextEncoder) -> ScoreRanker:
    """The score over the phrases of the requirements, without its last term."""
    return ScoreRanker("salient", DrawnSpace(encoder), requirement_salient, SALIENT_PARTS)


RANKERS: Mapping[str, Callable[[TextEncoder], Ranker]] = {
    "salient": salient_ranker,
    "requirements": requirement_ranker,
    "paper": paper_ranker,
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
    """The salient phrases by the released word lists; see :mod:`npcorrect.paper_words`."""
    return Salient(paper_words.quantities(prompt), paper_words.objects(prompt))


def requirement_salient(checklist: Checklist) -> Salient:
    """What the requirements name: counted nouns, nouns, and what is said of them, in English.

    What must be absent, and writing, are not among them.
    """
    quantities: list[str] = []
    objects: list[str] = []
    for claim in checklist.requirements:
        if not claim.subject or (claim.kind == "count" and claim.value == "0"):
            continue
        if claim.kind == "count":
            quantities.append(_counted(claim))
        elif claim.kind == "object":
            objects += (claim.subject, plural(claim.subject))
        elif claim.kind not in ("text", "only"):
            objects.append(_described(claim))
    return Salient(tuple(dict.fromkeys(quantities)), tuple(dict.fromkeys(objects)))


def _counted(claim: Requirement) -> str:
    noun = claim.subject if claim.value == "1" else plural(claim.subject)
    return f"{in_words(claim.value)} {noun}"


def _described(claim: Requirement) -> str:
    """Such as "red cup", "clock on the left", "umbrella made of seashells"."""
    follows = claim.object or claim.kind == "relation" or len(claim.value.split()) > 1
    parts = (claim.subject, claim.value) if follows else (claim.value, claim.subject)
    return " ".join(part for part in (*parts, claim.object) if part)


def _mean(states: NDArray[np.float32]) -> Vector:
    """The mean over the tokens, which are the first axis."""
    tokens: Vector = np.asarray(states, dtype=np.float64)
    mean: Vector = tokens.sum(axis=0) / max(len(tokens), 1)
    return mean


def _mean_cosine(delta: Vector, phrases: Sequence[Vector]) -> float:
    return sum(_cosine(delta, phrase) for phrase in phrases) / max(len(phrases), 1)


def _cosine(a: Vector, b: Vector) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0
