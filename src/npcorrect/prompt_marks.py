"""The marks that people type in prompts for other programs: weights, edits, breaks, networks.

==================  ==================  ====================================================
kind                as typed            the text without it
==================  ==================  ====================================================
weight              ``(red:1.2)``       ``red``
emphasis            ``((red))``         ``red``
less emphasis       ``[red]``           ``red``
edit                ``[red:blue:0.5]``  ``blue``, which it ends as
edit                ``[red:0.5]``       ``red``; so for ``[red::0.5]``
alternation         ``[red|blue]``      ``red``
break               ``BREAK``           a comma
network             ``<lora:x:0.8>``    nothing
==================  ==================  ====================================================

The syntax is that of AUTOMATIC1111's web UI, which ComfyUI shares in part. A single pair of round
brackets is plain English, and so is a bracket after a backslash or without its partner. Reading
takes time linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from npcorrect.errors import PromptError

Kind = Literal["weight", "emphasis", "less emphasis", "edit", "alternation", "break", "network"]
MAX_DEPTH = 16
"""Brackets within brackets that are read as marks; deeper ones are plain text."""
_SHOWN = 40
_TOKEN = re.compile(r"\\[()\[\]\\]|[()\[\]:|]|<[^<>]*>|\bBREAK\b|[^\\()\[\]:|<B]+|.", re.DOTALL)
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet|embedding):[^<>]*>", re.IGNORECASE)
_NUMBER = re.compile(r"\s*\d{0,6}\.?\d{1,6}\s*")
_CLOSES = {")": "(", "]": "["}
_REMEDIES: dict[Kind, str] = {
    "weight": "write the words without it",
    "emphasis": "write the words without the brackets",
    "less emphasis": "write the words without the brackets",
    "edit": "write only what the picture must show",
    "alternation": "name one of them",
    "break": "join the parts with a comma",
    "network": "take it out, and load the network with --lora",
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
        """The texts between the joints."""
        return ["".join(pieces) for pieces in self.pieces]

    def split(self, joint: str) -> None:
        """Begin another segment."""
        self.joints.append(joint)
        self.pieces.append([])

    def typed(self) -> str:
        """All of it as typed, without the bracket that closes it."""
        first, *others = self.segments
        pairs = zip(self.joints, others, strict=True)
        return "".join((self.opened, first, *(f"{joint}{text}" for joint, text in pairs)))


def read_marks(prompt: str) -> MarkedPrompt:
    """The prompt's text without its marks, its white space made single, and the marks."""
    marks: list[Mark] = []
    shouted = prompt.isupper()
    groups = [_Group()]
    for token in _TOKEN.findall(prompt):
        if token in ("(", "[") and len(groups) <= MAX_DEPTH:
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
    return MarkedPrompt(tidy if marks else prompt, tuple(marks))


def refuse_marks(prompt: str, model: str, drawable: Collection[Kind] = ()) -> None:
    """Refuse marks that a model would draw as words.

    Raises:
        PromptError: the prompt has a mark of a kind that is not ``drawable``.
    """
    for mark in read_marks(prompt).marks:
        if mark.kind not in drawable:
            shown = mark.typed if len(mark.typed) <= _SHOWN else f"{mark.typed[:_SHOWN]}…"
            raise PromptError(
                f"The prompt has {shown!r}, a mark of another program ({mark.kind}), which the "
                f"model {model!r} would draw as words; {_REMEDIES[mark.kind]}, or put a backslash "
                "before a bracket that is meant."
            )


def _plain(token: str, shouted: bool, marks: list[Mark]) -> str:
    """The text of a token outside of brackets' business."""
    if token == "BREAK" and not shouted:
        marks.append(Mark("break", token))
        return ", "
    if _NETWORK.fullmatch(token):
        marks.append(Mark("network", token))
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
        nested = typed.startswith("((") and typed.endswith("))")
        return ("emphasis", typed[2:-2]) if nested else (None, typed)
    if "|" in group.joints:
        return "alternation", first
    if numeric:
        return "edit", next((text for text in reversed(segments[:-1]) if text), "")
    return "less emphasis", typed[1:-1]
