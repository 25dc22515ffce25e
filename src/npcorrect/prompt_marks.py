"""The marks that people type in prompts for other programs: weights, edits, breaks, networks.

==================  ==================  ====================================================
kind                as typed            the text without it
==================  ==================  ====================================================
weight              ``(red:1.2)``       ``red``
emphasis            ``((red))``         ``red``; so for ``{{red}}``
less emphasis       ``[red]``           ``red``
edit                ``[red:blue:0.5]``  ``blue``, which it ends as
edit                ``[red:0.5]``       ``red``; so for ``[red::0.5]``
alternation         ``[red|blue]``      ``red``; so for ``{red|blue}``
break               ``BREAK``           a comma
composition         ``AND``             a comma
network             ``<lora:x:0.8>``    nothing
embedding           ``embedding:x``     nothing; so for ``<embedding:x>``
wildcard            ``__colors__``      nothing
flag                ``--ar``            nothing
==================  ==================  ====================================================

The syntax is that of AUTOMATIC1111's web UI, which ComfyUI shares in part; braces and wildcards are
those of dynamic prompts and NovelAI, flags are Midjourney's. A single pair of round brackets is
plain English, and so is a bracket after a backslash or without its partner, and a capital word in
quotes or in a prompt of capitals. Reading takes time linear in the text's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from npcorrect.errors import PromptError

Kind = Literal[
    "weight",
    "emphasis",
    "less emphasis",
    "edit",
    "alternation",
    "break",
    "composition",
    "network",
    "embedding",
    "wildcard",
    "flag",
]
MAX_DEPTH = 16
"""Brackets within brackets that are read as marks; deeper ones are plain text."""
_SHOWN = 40
_TOKEN = re.compile(
    r"""
      \\[()\[\]{}\\]                           # an escaped bracket
    | [()\[\]{}:|]
    | <[^<>]*>
    | "[^"()\[\]{}<>]*" | \u201c[^\u201c\u201d()\[\]{}<>]*\u201d
    | \bembedding:[\w./-]+
    | \b__[^\W_][\w/-]*__\b
    | (?<!\S)--[A-Za-z]\w*
    | \w+
    | .
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPED = re.compile(r"\\([()\[\]{}\\])")
_KEYWORDS: dict[str, Kind] = {"BREAK": "break", "AND": "composition"}
_WITHOUT_TEXT: dict[Kind, re.Pattern[str]] = {
    "network": re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE),
    "embedding": re.compile(r"<embedding:[^<>]*>|embedding:.+", re.IGNORECASE),
    "wildcard": re.compile(r"__.+__"),
    "flag": re.compile(r"--[A-Za-z].*"),
}
_NUMBER = re.compile(r"\s*\d{0,6}\.?\d{1,6}\s*")
_CLOSES = {")": "(", "]": "[", "}": "{"}
_REMEDIES: dict[Kind, str] = {
    "weight": "write the words without it",
    "emphasis": "write the words without the brackets",
    "less emphasis": "write the words without the brackets",
    "edit": "write only what the picture must show",
    "alternation": "name one of them",
    "break": "join the parts with a comma",
    "composition": "write the word in small letters",
    "network": "take it out, and load the network with --lora",
    "embedding": "take it out, or say in words what it stands for",
    "wildcard": "name one of what it stands for",
    "flag": "take it out, and give what it says as a setting",
}


@dataclass(frozen=True)
class Mark:
    """One mark, as it was typed (with the marks within it already read)."""

    kind: Kind
    typed: str


@dataclass(frozen=True)
class MarkedPrompt:
    """A prompt's text without its marks, and the marks in the order in which they end."""

    text: str
    marks: tuple[Mark, ...]


@dataclass
class _Group:
    """A bracket that is open, and the pieces of text since then between its colons and bars."""

    opened: str = ""
    pieces: list[list[str]] = field(default_factory=lambda: [[]])
    joints: list[str] = field(default_factory=list)

    @property
    def segments(self) -> list[str]:
        """The group's texts between its joints, one more than there are joints."""
        return ["".join(pieces) for pieces in self.pieces]

    def split(self, joint: str) -> None:
        """End the segment being read at ``joint`` and begin an empty one."""
        self.joints.append(joint)
        self.pieces.append([])

    def typed(self) -> str:
        """All of it as typed, without the bracket that closes it."""
        first, *others = self.segments
        pairs = zip(self.joints, others, strict=True)
        return "".join((self.opened, first, *(f"{joint}{text}" for joint, text in pairs)))


def read_marks(prompt: str) -> MarkedPrompt:
    """The prompt's text without its marks and backslashes, and the marks.

    Where there are marks, white space is made single.
    """
    marks: list[Mark] = []
    shouted = prompt.isupper()
    groups = [_Group()]
    for token in _TOKEN.findall(prompt):
        if token in _CLOSES.values() and len(groups) <= MAX_DEPTH:
            groups.append(_Group(token))
        elif token in _CLOSES and groups[-1].opened == _CLOSES[token]:
            group = groups.pop()
            groups[-1].pieces[-1].append(_closed(group, token, marks))
        elif token in (":", "|") and len(groups) > 1:
            groups[-1].split(token)
        else:
            groups[-1].pieces[-1].append(_plain(token, shouted, marks))
    text = "".join(group.typed() for group in groups)
    tidy = re.sub(r"\s+", " ", text).replace(" ,", ",").strip(" ,")
    return MarkedPrompt(tidy if marks else _ESCAPED.sub(r"\1", prompt), tuple(marks))


def without_marks(prompt: str, model: str, what: str = "prompt") -> str:
    """The text as a model is to read it: without the backslashes before brackets that are meant.

    ``what`` is what messages call the text.

    Raises:
        PromptError: it has a mark, which the model would draw as words.
    """
    read = read_marks(prompt)
    for mark in read.marks:
        shown = mark.typed if len(mark.typed) <= _SHOWN else f"{mark.typed[:_SHOWN]}…"
        bracketed = mark.typed[0] in _CLOSES.values()
        meant = ", or put a backslash before a bracket that is meant" if bracketed else ""
        raise PromptError(
            f"The {what} has {shown!r}, a mark of another program ({mark.kind}), which the "
            f"model {model!r} would draw as words; {_REMEDIES[mark.kind]}{meant}."
        )
    return read.text


def _plain(token: str, shouted: bool, marks: list[Mark]) -> str:
    """The text of a token outside of brackets' business."""
    if token in _KEYWORDS and not shouted:
        marks.append(Mark(_KEYWORDS[token], token))
        return ", "
    kind = next((k for k, pattern in _WITHOUT_TEXT.items() if pattern.fullmatch(token)), None)
    if kind is not None:
        marks.append(Mark(kind, token))
        return ""
    return token[1:] if len(token) == 2 and token[0] == "\\" else token


def _closed(group: _Group, bracket: str, marks: list[Mark]) -> str:
    """The text of a group that ends here; what it is goes to the marks."""
    typed = group.typed() + bracket
    kind, text = _meaning(group, typed)
    if kind is None:
        return typed
    marks.append(Mark(kind, typed))
    return text


def _meaning(group: _Group, typed: str) -> tuple[Kind | None, str]:
    """What kind of mark a group is, if it is one, and its text."""
    first, *others = segments = group.segments
    numeric = bool(others) and _NUMBER.fullmatch(segments[-1]) is not None
    if group.opened == "(":
        if numeric and group.joints[-1] == ":" and not segments[-2].isdigit():
            return "weight", typed[1 : -2 - len(segments[-1])]
        return _doubled(typed)
    if "|" in group.joints:
        return "alternation", first
    if group.opened == "{":
        return _doubled(typed)
    if numeric:
        return "edit", next((text for text in reversed(segments[:-1]) if text), "")
    return "less emphasis", typed[1:-1]


def _doubled(typed: str) -> tuple[Kind | None, str]:
    """A bracket around another of its kind is emphasis; a single one is plain."""
    nested = typed[0] == typed[1] and typed[-2] == typed[-1]
    return ("emphasis", typed[2:-2]) if nested else (None, typed)
