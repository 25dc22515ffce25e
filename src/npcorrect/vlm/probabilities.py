"""Probabilities of answers, read from the log-probabilities of the tokens that were written.

The tokens are walked to the word that was read in the text. Where they are not that text, or make
another answer likelier, there is no probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite
from typing import Any

from npcorrect.vlm.reasoning import UnusableError, bare
from npcorrect.vlm.replies import Answer, is_number, may_stand_beside, spellings

_MARKS = str.maketrans({"\u0120": " ", "\u010a": "\n", "\u2581": " "})
"""How byte-level and SentencePiece vocabularies write blanks and line breaks."""
_ROUNDING = 0.01
"""What the logarithm of a probability may be above 0."""
_MOST = 1.05
"""Probabilities at one place that sum to more are not probabilities."""


@dataclass(frozen=True)
class Token:
    """A token that was written, and the log-probabilities of the likeliest ones in its place.

    ``likely`` holds the token itself too.
    """

    text: str
    likely: Mapping[str, float]


def of_choice(
    text: str, answer: Answer, tokens: Sequence[Token], choices: Sequence[str], *, greedy: bool
) -> dict[str, float]:
    """The probability of each choice whose tokens are listed; empty where none can be told.

    They sum to 1, less what the choices that are not listed may have at most: unknown is not 0.
    ``greedy`` says that the likeliest token was to be written, so that another answer's being
    likelier contradicts the text.
    """
    offset = _offset(text, tokens)
    if offset is None:
        return {}
    return _at(tokens, offset + answer.start, answer.value, choices, greedy)


def of_fields(
    text: str, answer: Answer, tokens: Sequence[Token], choices: Sequence[str], *, greedy: bool
) -> dict[str, dict[str, float]]:
    """As :func:`of_choice` for each field of an object whose values are choices."""
    offset = _offset(text, tokens)
    if offset is None:
        return {}
    fields = {}
    for name, start in _places(text, answer).items():
        shares = _at(tokens, offset + start, answer.value[name], choices, greedy)
        if shares:
            fields[name] = shares
    return fields


def of_first(text: str, tokens: Sequence[Token]) -> dict[str, float]:
    """The likeliest first tokens of a reply with their probabilities among all tokens.

    Tokens that are written the same are one. Empty where none are listed, where what is listed
    cannot be probabilities, or where the first one is not what the text begins with, as a token of
    a thought is not that the server took off.
    """
    mass: dict[str, float] = {}
    begun = _plain(tokens[0].text).strip() if tokens else ""
    if not begun or not text.lstrip().startswith(begun):
        return {}
    for written, logprob in tokens[0].likely.items():
        if isfinite(logprob):
            mass[_plain(written)] = mass.get(_plain(written), 0.0) + _probability(logprob)
    total = sum(mass.values())
    if total > _MOST:
        return {}
    return {written: part / max(total, 1.0) for written, part in mass.items()}


def _offset(text: str, tokens: Sequence[Token]) -> int | None:
    """Where the text begins among the tokens, to be added to its offsets; None where it does not.

    Before it may stand thoughts that the server took off; after it, special tokens.
    """
    written = "".join(_plain(token.text) for token in tokens)
    said = text.strip()
    start = written.rfind(said) if said else -1
    try:
        after = bare(written[start + len(said) :])
    except UnusableError:
        return None
    if start < 0 or after.strip():
        return None
    return start - (len(text) - len(text.lstrip()))


def _places(text: str, answer: Answer) -> dict[str, int]:
    """Where the value of each field stands in the text of a flat object of words."""
    places: dict[str, int] = {}
    for name, value in answer.value.items():
        key = text.find(f'"{name}"', answer.start, answer.end)
        colon = text.find(":", key + len(name) + 2, answer.end) if key >= 0 else -1
        start = text.find(f'"{value}"', colon, answer.end) if colon >= 0 else -1
        if start >= 0 and not text[colon + 1 : start].strip():
            places[name] = start + 1
    return places


def _at(
    tokens: Sequence[Token], place: int, read: Any, choices: Sequence[str], greedy: bool
) -> dict[str, float]:
    """The probabilities at the token that holds a place of what was written."""
    start = 0
    for token in tokens:
        end = start + len(_plain(token.text))
        if place < end:
            return _shares(token, _plain(token.text)[: place - start], read, choices, greedy)
        start = end
    return {}


def _shares(
    token: Token, before: str, read: Any, choices: Sequence[str], greedy: bool
) -> dict[str, float]:
    """The share of each choice at a token, in which ``before`` stands before the word."""
    known = spellings(choices)
    mass: dict[str, float] = {}
    listed = vague = 0.0
    for text, logprob in token.likely.items():
        part = _probability(logprob)
        listed += part
        begun = _begun(_word(_plain(text), before), known)
        if len(begun) == 1:
            (choice,) = begun
            mass[choice] = mass.get(choice, 0.0) + part
        elif begun:
            vague += part
    if listed > _MOST or _begun(_word(_plain(token.text), before), known) != {read}:
        return {}
    unknown = vague + _unlisted(token, listed, len(set(choices) - mass.keys()))
    total = sum(mass.values()) + unknown
    if not mass.get(read) or (greedy and max(mass, key=mass.__getitem__) != read):
        return {}
    return {choice: part / total for choice, part in mass.items()}


def _probability(logprob: float) -> float:
    """The probability of a log-probability; more than all where it is no such thing."""
    if logprob > _ROUNDING:
        return inf
    return exp(min(logprob, 0.0)) if isfinite(logprob) else 0.0


def _unlisted(token: Token, listed: float, choices: int) -> float:
    """The most that choices can have that are not listed: each less than whatever is."""
    least = exp(min(min(token.likely.values(), default=0.0), 0.0))
    return min(max(1.0 - listed, 0.0), choices * least)


def _word(text: str, before: str) -> str:
    """The letters at the beginning of a token, after blanks, quotes and what stands before.

    Empty where they are a number that a mark beside them makes another, such as "-2".
    """
    if text.startswith(before):
        text = text[len(before) :]
    elif any(character.isalnum() for character in before):
        return ""
    start = next((n for n, character in enumerate(text) if character.isalnum()), len(text))
    end = next((n for n in range(start, len(text)) if not text[n].isalnum()), len(text))
    word, beside = text[start:end], before[-1:] + text[:start] + text[end:]
    return word.casefold() if not is_number(word) or may_stand_beside(beside) else ""


def _begun(word: str, known: Mapping[str, str]) -> set[str]:
    """The choices that a word is, or else those that it begins."""
    if word in known:
        return {known[word]}
    return {choice for spelling, choice in known.items() if word and spelling.startswith(word)}


def _plain(token: str) -> str:
    return token.translate(_MARKS)
