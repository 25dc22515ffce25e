"""Takes off a reply what is not its answer: thoughts, channels, boxes and leaked special tokens.

Everything up to the last mark that closes a thought is thought, whether a mark opened it or not:
chat templates often write the opening mark themselves (vllm#31045).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
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
    "answer", "final", "box", "solution", "response", "output", "result", "conclusion", "verdict",
    "reply", "json",
})  # fmt: skip
"""Words of which names of marks around the answer consist, such as ``final_answer``."""
LAYOUT = frozenset({
    "html", "body", "main", "p", "div", "span", "center", "br", "hr", "pre", "code", "b", "i", "u",
    "em", "strong", "h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "td",
})  # fmt: skip
"""Names of marks that say how a text looks, not what it is."""
LANGUAGES = frozenset({
    "json5", "jsonc", "jsonl", "javascript", "js", "python", "py", "yaml", "yml", "xml", "html",
    "text", "txt", "plain", "plaintext", "markdown", "md",
})  # fmt: skip
"""What may stand beside a fence around an answer; another word makes it a fence around thoughts."""
TURNS = frozenset({
    "im", "text", "sentence", "turn", "header", "header_id", "role", "message", "inst", "utterance",
    "s", "eos", "bos", "pad", "unk", "eot", "eom",
})  # fmt: skip
"""Names of special tokens that come in pairs around a turn or a part of it."""
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
_BRACKETED = re.compile(r"\[/([\w-]{1,40}+)\]")
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
_COMMENTS = (("<!--", "-->"), ("/*", "*/"))
_FENCE = re.compile(r"(?:```|~~~)(?:[ \t]{0,4}+([^\W\d_][\w-]{0,40}+)([^\n`~]{0,40}+\n)?+)?+")
_SHOWN = re.compile(r"\S")
_QUOTED = re.compile(r"\"[^\"\n]{0,200}+\"|\u201c[^\u201d\n]{0,200}+\u201d")


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
    name: str = ""


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
    pairs = _unknown_pairs(rest)
    specials = (m for m in _SPECIAL.finditer(rest) if m.start() not in pairs)
    return _blanked(rest, ((m.start(), m.end()) for m in specials))


def unmarked(bare_text: str, written: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """From where to where a text stands in no mark of a name that is not known here.

    What stands in such a mark may be a draft. It is taken for one up to the last mark that closes,
    and from the first one after it that opens. In the places of ``written`` marks are writing.
    """
    marks = list(_named(_blanked(bare_text, written), _is_unknown))
    begin = max((mark.end for mark in marks if mark.side == "close"), default=0)
    opened = (mark.start for mark in marks if mark.side == "open" and mark.start >= begin)
    return begin, min(opened, default=len(bare_text))


def quoted(text: str) -> Iterator[tuple[int, int]]:
    """Where a text quotes something, quotation marks included."""
    return (match.span() for match in _QUOTED.finditer(text))


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
    yield from _fenced(text)
    for opener, closer in _COMMENTS:
        if (start := text.rfind(opener)) >= 0:
            yield from _enclosing(text, start, start + len(opener), closer)
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


def _fenced(text: str) -> Iterator[_Mark]:
    """The fences around something, with a word that is neither a language nor the answer."""
    opened: list[_Mark] = []
    for match in _FENCE.finditer(text):
        if match[2] or (match[1] and not opened):
            opened.append(_Mark(match.start(), match.end(1), "open", _plain(match[1])))
        elif opened:
            mark = opened.pop()
            if _encloses_thoughts(mark) and _SHOWN.search(text, mark.end, match.start()):
                yield from (mark, _Mark(match.start(), match.start() + 3, "close"))
    yield from filter(_encloses_thoughts, opened)


def _encloses_thoughts(fence: _Mark) -> bool:
    return fence.name not in LANGUAGES and not _is_answer(fence.name)


def _enclosing(text: str, start: int, end: int, closer: str) -> Iterator[_Mark]:
    """A mark that opens, and the next one that closes it where there is one."""
    yield _Mark(start, end, "open")
    if (place := text.find(closer, end)) >= 0:
        yield _Mark(place, place + len(closer), "close")


@lru_cache(1024)
def _is_thought(name: str) -> bool:
    return name in THOUGHTS or any(stem in name for stem in STEMS)


@lru_cache(1024)
def _is_answer(name: str) -> bool:
    return all(word in ANSWERS for word in name.split("_"))


@lru_cache(1024)
def _is_unknown(name: str) -> bool:
    return not (_is_thought(name) or _is_answer(name) or name in LAYOUT or name in TURNS)


def _named(text: str, belongs: Callable[[str], bool]) -> Iterator[_Mark]:
    """The marks whose name, without its affixes, belongs to those that are looked for."""
    paired = {_plain(match[1]) for match in _BRACKETED.finditer(text)} | _IN_BRACKETS
    for match in _TAG.finditer(text):
        slashed = bool(_SLASH.search(match[1])) or match[3].endswith("/")
        name, side = _side(_plain(match[2]), slashed)
        prose = match[0].startswith("[") and (match[3] or name not in paired)
        if belongs(name) and not prose:
            yield _Mark(match.start(), match.end(), side, name)


def _unknown_pairs(text: str) -> set[int]:
    """Where marks of unknown names begin that open and close, and so are no special tokens."""
    marks = list(_named(text, _is_unknown))
    opened, closed = ({m.name for m in marks if m.side == side} for side in ("open", "close"))
    slashed = (m for m in marks if m.name in opened & closed or "/" in text[m.start : m.end])
    return {mark.start for mark in slashed}


def _plain(name: str) -> str:
    return name.casefold().replace("\u2581", "_").replace("-", "_")


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
    marks = list(_named(text, _is_answer))
    begin, close = unmarked(text, ())
    enclosed = [] if whole else [*_between(text, marks), *_boxes(text)]
    spans = [span for span in enclosed if begin <= span[0] and span[1] <= close]
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
