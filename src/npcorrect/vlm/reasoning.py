"""Takes off a reply what is not its answer: thoughts, channels, boxes and leaked special tokens.

Everything up to the last mark that closes a thought is thought, whether a mark opened it or not:
chat templates often write the opening mark themselves (vllm#31045).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

MAX_TEXT = 2**18
"""Characters of a reply that are read; a longer one is no answer."""

STEMS = (
    *("think", "thought", "reason", "analy", "reflect", "deliberat", "monolog", "scratch"),
    *("rationale", "critique", "brainstorm", "introspect", "ponder", "cogit", "contemplat"),
    *("hypothes", "\u601d", "\u63a8\u7406"),
)
THOUGHTS = frozenset({
    "cot", "plan", "planning", "draft", "working", "notes", "details", "internal", "inner_voice",
    "step", "steps",
})  # fmt: skip
"""Names of marks around thoughts, as ``<name>``, ``<|begin_of_name|>`` and the like, beside all
names with one of the stems."""
_IN_BRACKETS = frozenset({"think", "thinking", "thought"})
"""Names that are marks in square brackets too, where other words are mere writing unless they are
closed."""
ANSWERS = frozenset({
    "answer", "final", "final_answer", "box", "solution", "response", "output", "result",
    "conclusion", "verdict", "reply", "json",
})  # fmt: skip
"""Names of marks around the answer."""
_BEGIN = ("begin_of_", "start_of_", "begin_", "start_")
_END = ("end_of_", "end_")

Side = Literal["open", "close"]

# No pattern can go back over what it has read: every repetition is possessive and bounded.
_TAG = re.compile(
    r"(?:[<\[\u25c1\uff1c\u3010]|(?i:&lt;|&#0?60;|&#x3c;|\\u003c|%3c))"
    r"((?:[|\uff5c/\uff0f\\ ]|(?i:%2f|&#0?47;|&#x2f;|\\u002f)){0,3}+)"
    r"([^\W\d_][\w:.\u2581-]{0,40}+)"
    r"([^<>\[\]\u25c1\u25b7\u3010\u3011\uff1c\uff1e|\uff5c&%\\\n]{0,80}+)[|\uff5c]?\s{0,4}+"
    r"(?:[>\]\u25b7\uff1e\u3011]|(?i:&gt;|&#0?62;|&#x3e;|\\u003e|%3e))"
)
_SLASH = re.compile(r"[/\uff0f]|2f|47;", re.IGNORECASE)
_BRACKETED = re.compile(r"\[/(\w{1,40}+)\]")
_CHANNEL = re.compile(
    r"<\|channel\|?>\s{0,4}+(\w{0,20}+)[^<>|]{0,60}+"
    r"(?:<\|constrain\|>\s{0,4}+\w{0,20}+)?(?:<\|message\|>)?|(<channel\|>)"
)
_SPECIAL = re.compile(
    r"<\|(?:im_start|start)\|>\s{0,4}+(?:assistant|model)?"
    r"|<\|start_header_id\|>\w{0,20}+<\|end_header_id\|>"
    r"|<[|\uff5c][^<>|\uff5c\n]{1,40}+[|\uff5c]>"
    r"|</?(?:s|eos|bos|pad|unk|end_of_turn|end_of_utterance|eot|eom)>|<0x[0-9A-F]{2}>"
    r"|<start_of_turn>(?:model)?|\[/?INST\]|```(?:json|text|txt|plaintext|markdown)?+",
    re.IGNORECASE,
)
_BOX = re.compile(r"(?:\\boxed|\x08oxed|\\fbox|\x0cbox)\s{0,4}+\{")
"""Also as JSON decodes it where its backslash was not doubled."""
_MACRO = re.compile(r"\\[A-Za-z]{1,20}+\{|\}")
_LITERALS: tuple[tuple[str, Side], ...] = (
    ("<unused94>", "open"),
    ("<unused95>", "close"),
    ("...done thinking.", "close"),
    ("assistantfinal", "close"),
)
"""Marks with no name that says so: MedGemma's, Ollama's on its command line, and gpt-oss's channels
without special tokens."""


class UnusableError(ValueError):
    """The text is not what was asked for; the message says why, and can be shown to the model."""


class UnfinishedError(UnusableError):
    """The text ends before the answer does."""


@dataclass(frozen=True)
class _Mark:
    """A mark at a place of a text."""

    start: int
    end: int
    side: Side


def bare(text: str, whole: bool = False) -> str:
    """The text with blanks, as many as there were characters, for all that is not its answer.

    Offsets in the result are offsets in the text. With ``whole`` no mark makes an answer of a part
    of what follows the thoughts.

    Raises:
        UnfinishedError: it ends inside a thought.
        UnusableError: it is longer than :data:`MAX_TEXT`, or marks two different answers.
    """
    if len(text) > MAX_TEXT:
        raise UnusableError(f"it is longer than {MAX_TEXT} characters")
    start = _after_thoughts(text)
    rest = " " * start + text[start:]
    rest = _marked_answer(rest, whole)
    return _blanked(rest, ((m.start(), m.end()) for m in _SPECIAL.finditer(rest)))


def thinks(text: str) -> bool:
    """Whether a text holds a mark of a thought."""
    return len(text) <= MAX_TEXT and any(True for _ in _thought_marks(text))


def _after_thoughts(text: str) -> int:
    """Where the last thought ends, 0 where there is none."""
    marks = sorted(_thought_marks(text), key=lambda mark: mark.end)
    end = max((mark.end for mark in marks if mark.side == "close"), default=0)
    if any(mark.side == "open" and mark.start >= end for mark in marks):
        raise UnfinishedError("it ends inside the thought, before the answer")
    return end


def _thought_marks(text: str) -> Iterator[_Mark]:
    yield from _named(text, _is_thought)
    for match in _CHANNEL.finditer(text):
        closes = match[2] or (match[1] or "").casefold() == "final"
        yield _Mark(match.start(), match.end(), "close" if closes else "open")
    leaked = re.match(r"analysis(?=[^\W_])", text)
    if leaked:
        yield _Mark(0, leaked.end(), "open")
    for literal, side in _LITERALS:
        place = text.rfind(literal) if leaked or literal != "assistantfinal" else -1
        if place >= 0:
            yield _Mark(place, place + len(literal), side)


def _is_thought(name: str) -> bool:
    return name in THOUGHTS or any(stem in name for stem in STEMS)


def _named(text: str, belongs: Callable[[str], bool]) -> Iterator[_Mark]:
    """The marks whose name, without its affixes, belongs to those that are looked for."""
    paired = {match[1].casefold() for match in _BRACKETED.finditer(text)} | _IN_BRACKETS
    for match in _TAG.finditer(text):
        name = match[2].casefold().replace("\u2581", "_").replace("-", "_")
        name, side = _side(name, bool(_SLASH.search(match[1])) or match[3].endswith("/"))
        prose = match[0].startswith("[") and (match[3] or name not in paired)
        if belongs(name) and not prose:
            yield _Mark(match.start(), match.end(), side)


def _side(name: str, closing: bool) -> tuple[str, Side]:
    for affix in _BEGIN:
        if name.startswith(affix):
            return name.removeprefix(affix), "open"
    for affix in _END:
        if name.startswith(affix):
            return name.removeprefix(affix), "close"
    for affix, side in (("_start", "open"), ("_begin", "open"), ("_end", "close")):
        if name.endswith(affix):
            return name.removesuffix(affix), side  # type: ignore[return-value]
    return name, "close" if closing else "open"


def _marked_answer(text: str, whole: bool) -> str:
    """The text with blanks around a marked answer, and for the marks; unchanged without marks.

    With ``whole``, blanks for the marks alone.
    """
    marks = list(_named(text, ANSWERS.__contains__))
    spans = [] if whole else [*_between(text, marks), *_boxes(text)]
    if not spans:
        return _blanked(text, ((mark.start, mark.end) for mark in marks))
    inside = {span: " ".join(_without_macros(text[slice(*span)]).split()) for span in spans}
    filled = [span for span in spans if inside[span]] or spans
    if len({inside[span] for span in filled}) > 1:
        raise UnusableError("it gives two different answers")
    start, end = filled[-1]
    return " " * start + _without_macros(text[start:end]) + " " * (len(text) - end)


def _between(text: str, marks: list[_Mark]) -> Iterator[tuple[int, int]]:
    """What stands between a mark that opens and the next mark, or the end."""
    ends = [mark.start for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=False):
        if mark.side == "open":
            yield mark.end, end


def _boxes(text: str) -> Iterator[tuple[int, int]]:
    """What stands in ``\\boxed{...}``, to the brace that closes it."""
    done = 0
    for match in _BOX.finditer(text):
        if match.start() < done:
            continue
        depth, done = 1, match.end()
        while depth and done < len(text):
            depth += {"{": 1, "}": -1}.get(text[done], 0)
            done += 1
        yield match.end(), done - (depth == 0)


def _without_macros(text: str) -> str:
    """Blanks for ``\\text{`` and its like, where there is any."""
    if not re.search(r"\\[A-Za-z]{1,20}+\{", text):
        return text
    return _blanked(text, ((m.start(), m.end()) for m in _MACRO.finditer(text)))


def _blanked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces, done = [], 0
    for start, end in spans:
        pieces += [text[done:start], " " * (end - start)]
        done = end
    return "".join([*pieces, text[done:]])
