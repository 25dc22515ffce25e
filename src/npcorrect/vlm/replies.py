"""From the text that a model wrote to the object or the word that was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Any
from unicodedata import decomposition, normalize

from npcorrect.english import NUMBERS
from npcorrect.vlm.base import Question
from npcorrect.vlm.reasoning import MAX_TEXT, UnusableError, bare, quoted, unmarked

_MAX_OBJECTS = 200
"""Objects that a reply may hold; one with more is no reply."""
_MAX_DIGITS = 15
_NO_OBJECT = "it contains no complete JSON object"
_STRUCTURE = re.compile(r'\\.|["{}]', re.DOTALL)
_IN_A_MARK = "it stands in a mark whose name says nothing of an answer"
_OPENING = "\"'`*_([{$\u201c\u2018\u00ab\u300c\u300e\u3010"
_CLOSING = "\"'`*_)]}$\u201d\u2019\u00bb\u300d\u300f\u3011"
_MIRRORED = str.maketrans(_OPENING, _CLOSING)
_END = ".!\u3002\uff01"
_KEYCAP = "\ufe0f\u20e3"
"""What makes a picture of a digit of it."""
_DOUBLED = re.compile(r"\{\s{0,20}+\{")
"""A brace before a brace is no beginning: some models copy the doubled braces of templates."""


@dataclass(frozen=True)
class Answer:
    """What a text says: the usable text, and from where to where it stands in the whole.

    ``value`` is the object or the choice as it was read, before anything was redacted.
    """

    text: str
    value: Any
    start: int
    end: int


def read(
    text: str,
    question: Question,
    redact: Callable[[str], str] = str,
    *,
    whole: bool = False,
) -> Answer:
    """The answer to a question, which passed all of the question's checks.

    ``redact`` is applied to what is given back, never to what is read. With ``whole`` nothing but
    the answer may stand beside the thoughts.

    Raises:
        UnusableError: the text is not what was asked for, or gives two different answers.
    """
    if question.tokens:
        said = encodable(redact(text))
        return Answer(said, said, 0, len(text))
    clean = text if question.schema is not None and _is_object(text) else bare(text, whole)
    if not clean.strip():
        raise UnusableError("it is empty")
    if question.schema is not None:
        answer = _object(clean, question.schema, redact, whole)
    elif question.choices:
        answer = _choice(clean, question.choices)
    elif whole:
        raise UnusableError("it is thought alone")
    elif _in_a_mark(clean):
        raise UnusableError(_IN_A_MARK)
    else:
        said = encodable(redact(clean.strip()))
        answer = Answer(said, said, 0, len(text))
    if question.check:
        _checked(question.check, answer.text)
    return answer


def object_in(text: str, schema: Mapping[str, Any]) -> str:
    """The one JSON object in a text that meets a schema, as plain JSON.

    Prose, fences and thoughts around it are passed over.

    Raises:
        UnusableError: there is none, or there are two different ones.
    """
    return read(text, Question((), schema=schema)).text


def choice_in(text: str, choices: Sequence[str]) -> str:
    """The choice that a text consists of; case, thoughts, quotes and punctuation do not count.

    Raises:
        UnusableError: it is none of the choices.
    """
    return read(text, Question((), choices=tuple(choices))).text


def spellings(choices: Sequence[str]) -> dict[str, str]:
    """Every way to write a choice, in lower case, with the choice: "2" is "two"."""
    known = {choice.casefold(): choice for choice in choices}
    for number, word in enumerate(NUMBERS):
        for one, other in ((word, str(number)), (str(number), word)):
            if one in known:
                known.setdefault(other, known[one])
    return known


def stands_alone(number: str, before: str, after: str) -> bool:
    """Whether what stands beside a number leaves it what it is.

    Quotes, brackets and emphasis on both sides do, and the end of a sentence. A sign, a unit, a
    percentage or half of a range do not.
    """
    opening, closing = _shown(before), _shown(after)
    closing = "".join(character for character in closing if character not in _END + _KEYCAP)
    mirrored = closing[::-1] == opening.translate(_MIRRORED) and set(opening) <= set(_OPENING)
    return mirrored and not _is_raised(number)


def may_stand_beside(marks: str) -> bool:
    """Whether marks in one token with a number may leave it what it is; see `stands_alone`."""
    return set(_shown(marks)) <= set(_OPENING + _CLOSING + _END + _KEYCAP + ",:")


def is_number(word: str) -> bool:
    """Whether a word is a number, in letters or in digits."""
    return word.casefold() in NUMBERS or any(character.isnumeric() for character in word)


def encodable(text: str) -> str:
    """The text with a replacement character for each lone surrogate, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_object(text: str) -> bool:
    """Whether a text is one JSON object and nothing else: then marks in it are quoted writing."""
    whole = text.strip()
    if len(whole) > MAX_TEXT or not (whole.startswith("{") and whole.endswith("}")):
        return False
    try:
        return _DECODER.raw_decode(whole)[1] == len(whole)
    except (ValueError, RecursionError):
        return False


def _choice(clean: str, choices: Sequence[str]) -> Answer:
    letters = (place for place, character in enumerate(clean) if character.isalnum())
    start = next(letters, len(clean))
    end = len(clean)
    while end > start and not clean[end - 1].isalnum():
        end -= 1
    word = clean[start:end]
    choice = spellings(choices).get(normalize("NFKC", word).casefold())
    changed = is_number(word) and not stands_alone(word, clean[:start], clean[end:])
    if choice is None or changed:
        raise UnusableError(f"it is not one of the words {', '.join(choices)}")
    return Answer(choice, choice, start, end)


def _shown(text: str) -> str:
    """The marks of a text: no blanks, no line breaks, nothing invisible, no escaped brackets."""
    return "".join(one for one in text if one.isprintable() and one not in " \\")


def _is_raised(number: str) -> bool:
    """Whether a number is an exponent or an index by its characters."""
    return any(decomposition(one).startswith(("<super>", "<sub>")) for one in number)


def _in_a_mark(clean: str) -> bool:
    """Whether a text begins in a mark of unknown name, or has one that closes."""
    begin, end = unmarked(clean, quoted(clean))
    return begin > 0 or not clean[:end].strip()


def _object(
    clean: str, schema: Mapping[str, Any], redact: Callable[[str], str], whole: bool
) -> Answer:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(schema)
    reason, first = _NO_OBJECT, None
    objects = list(islice(_objects(clean), _MAX_OBJECTS + 1))
    if len(objects) > _MAX_OBJECTS:
        raise UnusableError("it gives too many objects")
    begin, close = unmarked(clean, ((start, end) for _, start, end in objects))
    for value, start, end in objects:
        if start < begin or end > close:
            reason = _IN_A_MARK
            continue
        if first is not None and value != first.value:
            raise UnusableError("it gives two different answers")
        error = best_match(validator.iter_errors(value))
        if error is None:
            shown = json.dumps(_redacted(value, redact), ensure_ascii=False)
            first = first or Answer(encodable(shown), value, start, end)
        elif value is not None:
            place = "/".join(map(str, error.absolute_path)) or "the object"
            reason = f"at {place}: {error.message[:200]}"
    if first is None:
        raise UnusableError(reason)
    if whole and (clean[: first.start] + clean[first.end :]).strip():
        raise UnusableError("it is thought alone")
    return first


def _objects(text: str) -> Iterator[tuple[dict[str, Any] | None, int, int]]:
    """The outermost objects of a text, with their places; None for one that is no JSON.

    What stands inside of an object is no object of its own: it may be a draft.

    Raises:
        UnusableError: the text ends inside of an object.
    """
    start = text.find("{")
    while start >= 0:
        if _DOUBLED.match(text, start):
            start = text.find("{", start + 1)
            continue
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = None, _end(text, start)
        yield value, start, end
        start = text.find("{", end)


def _end(text: str, start: int) -> int:
    """Where the brace is closed that stands at a place, outside of strings.

    Raises:
        UnusableError: nowhere.
    """
    depth, quoted = 0, False
    for mark in _STRUCTURE.finditer(text, start):
        quoted ^= mark[0] == '"'
        depth += 0 if quoted else {"{": 1, "}": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
    raise UnusableError(_NO_OBJECT)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are given once, or always with the same value."""
    value = dict(pairs)
    if any(value[name] != other for name, other in pairs):
        raise ValueError("a name has two values")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("the number is too long")
    return int(digits)


def _number(digits: str) -> float | int:
    """A whole number where it is one: models write 8.0 where 8 is asked."""
    number = float(digits)
    if not isfinite(number):
        raise ValueError("the number is too large")
    return int(number) if number.is_integer() and abs(number) < 10**_MAX_DIGITS else number


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(part, redact) for part in value]
    if isinstance(value, dict):
        return {redact(name): _redacted(part, redact) for name, part in value.items()}
    return value


def _checked(check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except UnusableError:
        raise
    except ValueError as error:
        raise UnusableError(str(error)) from None


_DECODER = json.JSONDecoder(
    strict=False,
    object_pairs_hook=_once,
    parse_constant=_no_constant,
    parse_float=_number,
    parse_int=_integer,
)
