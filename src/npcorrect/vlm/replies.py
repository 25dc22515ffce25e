"""From the text that a model wrote to the object or the word that was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import exp, isfinite
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_MAX_STARTS = 50
"""Braces at which an object is looked for; a reply with more is no reply."""


class UnusableError(ValueError):
    """The text is not what was asked for; the message says why, and can be shown to the model."""


def object_in(text: str, schema: Mapping[str, Any]) -> str:
    """The first JSON object in a text that meets a schema, as plain JSON.

    Prose, fences and thoughts around it are passed over.

    Raises:
        UnusableError: there is none.
    """
    validator = jsonschema.Draft202012Validator(schema)
    reason = "it contains no complete JSON object"
    for value in _objects(_THOUGHTS.sub("", text)):
        error = best_match(validator.iter_errors(value))
        if error is None:
            return json.dumps(value, ensure_ascii=False)
        place = "/".join(map(str, error.absolute_path)) or "the object"
        reason = f"at {place}: {error.message[:200]}"
    raise UnusableError(reason)


def choice_in(text: str, choices: Sequence[str]) -> str:
    """The choice that a text consists of; case, thoughts, quotes and punctuation do not count.

    Raises:
        UnusableError: it is none of the choices.
    """
    word = re.sub(r"^\W+|\W+$", "", _THOUGHTS.sub("", text)).casefold()
    for choice in choices:
        if word == choice.casefold():
            return choice
    raise UnusableError(f"it is not one of the words {', '.join(choices)}")


def probabilities(
    likely: Sequence[Mapping[str, float]], choices: Sequence[str]
) -> dict[str, float]:
    """Probabilities of the choices, from the likeliest tokens at each place of a reply.

    ``likely`` maps tokens to log-probabilities. The first place with a word in it counts; tokens
    that begin no choice, or more than one, are left out, and the rest is renormalised to 1. Empty
    where nothing is left.
    """
    for tokens in likely:
        mass = dict.fromkeys(choices, 0.0)
        for token, logprob in tokens.items():
            word = re.sub(r"\W", "", token).casefold()
            begun = [c for c in choices if word and c.casefold().startswith(word)]
            exact = [c for c in begun if c.casefold() == word]
            if len(chosen := exact or begun) == 1 and isfinite(logprob):
                mass[chosen[0]] += exp(min(logprob, 0.0))
        total = sum(mass.values())
        if total > 0:
            return {choice: part / total for choice, part in mass.items()}
        if any(re.search(r"\w", token) for token in tokens):
            return {}
    return {}


def first_tokens(likely: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The likeliest first tokens of a reply with their probabilities among all tokens.

    ``likely`` maps tokens to log-probabilities at each place. Empty where the server gives none.
    """
    first = likely[0] if likely else {}
    return {token: exp(min(p, 0.0)) for token, p in first.items() if isfinite(p)}


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    start, tries = text.find("{"), 0
    while start >= 0 and tries < _MAX_STARTS:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
