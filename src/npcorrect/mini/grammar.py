"""The language of the miniature world: prompts, phrases, requirements.

One grammar serves the user's prompts, the training captions and the negatives, so that a negative
prompt is language that the miniature model knows::

    prompt     = things [place] | place
    things     = group {("," | "and") group} | group relation group
    group      = [count] [size] [color] shape
    place      = ["on"] "a" [pattern] [color] "background"

:class:`Spec` is the meaning of a text. ``parse(spec.text()) == spec`` and
``from_requirements(spec.requirements()) == spec`` hold for every spec.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from npcorrect.english import RELATION_WORDS
from npcorrect.errors import PromptError
from npcorrect.mini.scene import (
    BACKGROUND_COLORS,
    COLORS,
    PATTERNS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
)
from npcorrect.records import Requirement

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_COUNT = 9
RELATIONS = ("to the left of", "to the right of", "above", "below")
INVERSE = dict(zip(RELATIONS, (RELATIONS[i] for i in (1, 0, 3, 2)), strict=True))
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
_SINGULAR = {word: shape for shape in SHAPES for word in (shape, PLURALS[shape])}
_COUNTS = {"a": 1, "an": 1} | {word: n for n, word in enumerate(NUMBERS) if n}
_COUNTS |= {str(n): n for n in range(1, MAX_COUNT + 1)}
VOCABULARY = (
    *("a", "an", *NUMBERS[1:], "and", "on", "background", "to", "the", "left", "right", "of"),
    *("above", "below", *SHAPES, *PLURALS.values(), *COLORS, *SIZES, *PATTERNS),
    *BACKGROUND_COLORS,
)
"""Every word that the miniature model's tokenizer knows."""


@dataclass(frozen=True)
class Group:
    """``count`` objects of one kind; ``None`` stands for whatever the text does not say."""

    shape: str
    count: int | None = None
    color: str | None = None
    size: str | None = None

    def text(self) -> str:
        """The phrase: ``"three large red circles"`` or, without a count, ``"stars"``."""
        noun = self.shape if self.count == 1 else PLURALS[self.shape]
        number = NUMBERS[self.count] if self.count else None
        return " ".join(word for word in (number, self.size, self.color, noun) if word)

    def matches(self, thing: Thing) -> bool:
        """Whether an object is one of this kind; the count plays no part."""
        return (
            thing.shape == self.shape
            and self.color in (None, thing.color)
            and self.size in (None, thing.size)
        )


@dataclass(frozen=True)
class Place:
    """What a text says of the background."""

    pattern: str | None = None
    color: str | None = None

    def text(self) -> str:
        """The bare phrase, for example ``"a striped gray background"``."""
        return " ".join(word for word in ("a", self.pattern, self.color, "background") if word)


@dataclass(frozen=True)
class Spec:
    """The meaning of a text: groups of objects, one relation between two groups, a background."""

    groups: tuple[Group, ...] = ()
    relation: str | None = None
    place: Place | None = None

    def text(self) -> str:
        """The text in its one canonical form, which :func:`parse` reads back exactly."""
        phrases = [group.text() for group in self.groups]
        if self.relation:
            things = f"{phrases[0]} {self.relation} {phrases[1]}"
        elif len(phrases) > 1:
            things = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        else:
            things = "".join(phrases)
        place = self.place.text() if self.place else ""
        return f"{things} on {place}" if things and place else things or place

    def requirements(self) -> tuple[Requirement, ...]:
        """What a picture must show to satisfy the text, one checkable claim each.

        A shape that the text does not ask for is a fault (kind ``only``), as an extra object is.
        """
        claims: list[Requirement] = []

        def claim(
            kind: str, text: str, subject: str, value: str, *parts: str, other: str = ""
        ) -> None:
            number = f"r{len(claims) + 1}"
            claims.append(Requirement(number, kind, text, subject, value, other, tuple(parts)))

        seen: dict[str, str] = {}
        for group in self.groups:
            many = PLURALS[group.shape]
            claim("object", f"at least one {group.shape} is visible", group.shape, group.shape)
            present = seen[group.shape] = claims[-1].id
            if group.count:
                phrase = replace(group, color=None, size=None).text()
                claim("count", f"exactly {phrase}", group.shape, str(group.count), present)
            if group.color:
                text = f"all {many} are {group.color}"
                claim("attribute", text, group.shape, group.color, present)
            if group.size:
                claim("size", f"all {many} are {group.size}", group.shape, group.size, present)
        if self.relation:
            first, second = (group.shape for group in self.groups)
            text = f"every {first} is {self.relation} every {second}"
            claim("relation", text, first, self.relation, seen[first], seen[second], other=second)
        if self.groups:
            text = f"nothing but {', '.join(PLURALS[g.shape] for g in self.groups)} is visible"
            claim("only", text, "", "|".join(g.shape for g in self.groups))
        if self.place:
            for value in (self.place.pattern, self.place.color):
                if value:
                    claim("scene", f"the background is {value}", "background", value)
            if not (self.place.pattern or self.place.color):
                claim("scene", "there is a background", "background", "")
        return tuple(claims)


def from_requirements(requirements: tuple[Requirement, ...]) -> Spec:
    """The spec that states these requirements; the inverse of :meth:`Spec.requirements`."""
    groups: dict[str, Group] = {}
    relation: str | None = None
    place: Place | None = None
    for claim in requirements:
        if claim.kind == "object":
            groups[claim.subject] = Group(claim.subject)
        elif claim.kind == "count":
            groups[claim.subject] = replace(groups[claim.subject], count=int(claim.value))
        elif claim.kind == "attribute":
            groups[claim.subject] = replace(groups[claim.subject], color=claim.value)
        elif claim.kind == "size":
            groups[claim.subject] = replace(groups[claim.subject], size=claim.value)
        elif claim.kind == "relation":
            relation = claim.value
        elif claim.kind == "scene":
            field = "pattern" if claim.value in PATTERNS else "color"
            place = replace(place or Place(), **{field: claim.value or None})
    return Spec(tuple(groups.values()), relation, place)


def satisfied(claim: Requirement, scene: Scene) -> bool:
    """Whether a scene meets one requirement of the miniature world.

    Raises:
        ValueError: the requirement's kind is none of the miniature world's.
    """
    things = [thing for thing in scene.things if thing.shape == claim.subject]
    if claim.kind == "object":
        return bool(things)
    if claim.kind == "count":
        return len(things) == int(claim.value)
    if claim.kind == "attribute":
        return bool(things) and all(thing.color == claim.value for thing in things)
    if claim.kind == "size":
        return bool(things) and all(thing.size == claim.value for thing in things)
    if claim.kind == "relation":
        others = [thing for thing in scene.things if thing.shape == claim.object]
        return holds(claim.value, things, others)
    if claim.kind == "only":
        return all(thing.shape in claim.value.split("|") for thing in scene.things)
    if claim.kind == "scene":
        return claim.value in ("", scene.background.pattern, scene.background.color)
    raise ValueError(f"the miniature world has no requirement of kind {claim.kind!r}")


def holds(relation: str, first: list[Thing], second: list[Thing]) -> bool:
    """Whether every object of ``first`` stands in ``relation`` to every object of ``second``.

    An object is left of another when its centre is, by at least half a cell.
    """
    if not first or not second:
        return False
    if relation in RELATIONS[1::2]:
        first, second = second, first
    axis = 0 if relation in RELATIONS[:2] else 1
    margin = 16
    before = max(thing.center[axis] for thing in first)
    after = min(thing.center[axis] for thing in second)
    return before + margin <= after


_GROUP = re.compile(
    rf"(?:(?P<count>{'|'.join(_COUNTS)}) )?(?:(?P<size>{'|'.join(SIZES)}) )?"
    rf"(?:(?P<color>{'|'.join(COLORS)}) )?(?P<shape>{'|'.join(sorted(_SINGULAR, key=len))})"
)
_PLACE = re.compile(
    rf"a (?:(?P<pattern>{'|'.join(PATTERNS)}) )?(?:(?P<color>{'|'.join(BACKGROUND_COLORS)}) )?"
    "background"
)
_RELATION = re.compile(rf" ({'|'.join(sorted(RELATION_WORDS, key=len, reverse=True))}) ")


def parse(text: str) -> Spec:
    """Read a text of the miniature world.

    Raises:
        PromptError: the text has a word or an order that the grammar lacks.
    """
    words = re.sub(r"\s+", " ", text.strip().lower().rstrip(".")).removeprefix("a photo of ")
    words = re.sub(r"\bgrey\b", "gray", words)
    if place := _parse_place(words):
        return Spec(place=place)
    head, on, tail = words.partition(" on ")
    place = _parse_place(tail) if on else None
    if on and place is None:
        raise _not_understood(text, tail)
    parts = _RELATION.split(head)
    if len(parts) == 3:
        groups = (_parse_group(parts[0], text), _parse_group(parts[2], text))
        spec = Spec(groups, RELATION_WORDS[parts[1]], place)
    else:
        phrases = re.split(r", and |, | and ", head)
        spec = Spec(tuple(_parse_group(phrase, text) for phrase in phrases), None, place)
    if len({group.shape for group in spec.groups}) < len(spec.groups):
        raise PromptError(
            f"The prompt {text!r} names one shape twice; ask for each shape once, "
            "for example 'two red circles and one blue square'."
        )
    return spec


def _parse_group(phrase: str, text: str) -> Group:
    match = _GROUP.fullmatch(phrase)
    if not match:
        raise _not_understood(text, phrase)
    shape = _SINGULAR[match["shape"]]
    count = _COUNTS[match["count"]] if match["count"] else None
    if count is None and match["shape"] == shape:
        count = 1
    return Group(shape, count, match["color"], match["size"])


def _parse_place(phrase: str) -> Place | None:
    match = _PLACE.fullmatch(phrase)
    return Place(match["pattern"], match["color"]) if match else None


def _not_understood(text: str, phrase: str) -> PromptError:
    unknown = [word for word in re.findall(r"[\w-]+", phrase) if word not in VOCABULARY]
    what = f"does not know the word {unknown[0]!r}" if unknown else f"cannot read {phrase!r}"
    return PromptError(
        f"The miniature world {what} in the prompt {text!r}; it draws up to nine "
        f"{', '.join(PLURALS.values())} in {', '.join(COLORS)}, for example "
        "'three red circles and one blue square'."
    )
