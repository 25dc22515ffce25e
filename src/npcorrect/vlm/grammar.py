"""A checklister without a model: the counting, colour, position and size language of GenEval++.

It reads the embedded world's prompts too::

    prompt = ["a photo of"] things ["on" place] | place
    things = group {("," | "and") group} | group relation group
    group  = [count] [size] [colour] noun ["on the" region]
    place  = "a" [pattern] [colour] "background"

Nouns are those of the COCO classes and six plain shapes, in any plural, right or wrong ("three
scissorses", "one blue kites"). Whatever else a prompt says makes it "not understood": it is never
read in part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from npcorrect.english import NUMBERS, RELATION_WORDS, in_words, plural
from npcorrect.errors import PromptError
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.base import Usage
from npcorrect.vlm.model_roles import linked
from npcorrect.vlm.usage import charge

NOUNS = """
    airplane, apple, backpack, banana, baseball bat, baseball glove, bear, bed, bench,
    bicycle, bird, boat, book, bottle, bowl, broccoli, bus, cake, car, carrot, cat, cell
    phone, chair, circle, clock, computer keyboard, computer mouse, couch, cow, cross, cup,
    dining table, dog, donut, elephant, fire hydrant, fork, frisbee, giraffe, hair drier,
    handbag, heart, horse, hot dog, kite, knife, laptop, microwave, motorcycle, orange, oven,
    parking meter, person, pizza, potted plant, refrigerator, sandwich, scissors, sheep, sink,
    skateboard, skis, snowboard, spoon, sports ball, square, star, stop sign, suitcase,
    surfboard, teddy bear, tennis racket, tie, toaster, toilet, toothbrush, traffic light,
    train, triangle, truck, tv, tv remote, umbrella, vase, wine glass, zebra
"""
COLORS = "red orange yellow green blue purple pink black white brown gray".split()  # noqa: SIM905
SIZES = ["small", "medium", "large", "smaller", "larger"]
REGIONS = ("left", "right", "above", "below")
_IRREGULAR = {
    "person": "people",
    "knife": "knives",
    "computer mouse": "computer mice",
    "sheep": "sheep",
    "skis": "skis",
    "scissors": "scissors",
}
_COUNTS = {"a": 1, "an": 1} | {word: number for number, word in enumerate(NUMBERS) if number}
_COUNTS |= {str(number): number for number in range(1, len(NUMBERS))}
PLACES = {"left": "on the left", "right": "on the right", "above": "above", "below": "below"}


def many(noun: str) -> str:
    """The plural of a noun of the grammar, irregular ones included."""
    return _IRREGULAR.get(noun) or plural(noun)


def _spellings() -> dict[str, str]:
    """Every way to write a noun, and whether right or not, with the noun that it stands for."""
    known: dict[str, str] = {}
    for noun in (" ".join(name.split()) for name in NOUNS.split(",")):
        for form in (f"{noun}s", f"{noun}es", many(noun), noun):
            known[form] = noun
    return known


_NOUNS = _spellings()


def _any(words: object) -> str:
    return "|".join(sorted(map(str, words), key=len, reverse=True))  # type: ignore[call-overload]


_GROUP = re.compile(
    rf"(?:(?P<count>{_any(_COUNTS)}) )?(?:(?P<size>{_any(SIZES)}) )?"
    rf"(?:(?P<color>{_any(COLORS)}) )?(?P<noun>{_any(_NOUNS)})"
    rf"(?: (?:on|in|at) the (?P<region>{_any(REGIONS)}))?"
)
_PLACE = re.compile(
    r"an? (?:(?P<pattern>plain|striped|checkered) )?"
    rf"(?:(?P<color>{_any((*COLORS, 'beige', 'mint'))}) )?background"
)
_RELATION = re.compile(rf"(?<! the) ({_any(RELATION_WORDS)}) ")
_ON_PLACE = re.compile(r" on (?=an? (?:\w+ ){0,2}background$)")


@dataclass(frozen=True)
class Group:
    """Things of one kind; None stands for what the prompt does not say."""

    noun: str
    count: int | None = None
    color: str | None = None
    size: str | None = None
    region: str | None = None

    def claims(self) -> Iterator[Requirement]:
        """The requirements that the things make, one claim each."""
        noun, plural_ = self.noun, many(self.noun)

        def claim(kind: str, text: str, value: str) -> Requirement:
            return Requirement("", kind, text, noun, value)

        yield claim("object", f"at least one {noun} is visible", noun)
        if self.count:
            things = noun if self.count == 1 else plural_
            text = f"exactly {in_words(str(self.count))} {things}"
            yield claim("count", text, str(self.count))
        if self.color:
            yield claim("attribute", f"all {plural_} are {self.color}", self.color)
        if self.size:
            than = " than everything else that is named" if self.size.endswith("er") else ""
            yield claim("size", f"all {plural_} are {self.size}{than}", self.size)
        if self.region:
            half = {"above": "top", "below": "bottom"}.get(self.region, self.region)
            text = f"every {noun} is in the {half} half of the picture"
            yield claim("relation", text, PLACES[self.region])


def related(first: str, relation: str, second: str) -> Requirement:
    """The claim that all things of one kind stand in a relation to all of another."""
    text = f"every {first} is {relation} every {second}"
    return Requirement("", "relation", text, first, relation, second)


class GrammarChecklister:
    """Takes prompts of the grammar apart; asks no model and never guesses."""

    def checklist(self, prompt: str) -> Checklist:
        """All claims of the prompt.

        Raises:
            PromptError: the prompt is not understood.
        """
        charge(Usage())
        words = re.sub(r"\s+", " ", prompt.strip().lower().rstrip("."))
        words = re.sub(r"^(?:a|an) (?:photo|picture|image) of ", "", words)
        words = re.sub(r"\bgrey\b", "gray", words)
        claims = linked(_claims(words, prompt))
        return Checklist(prompt, claims)


def _claims(words: str, prompt: str) -> Iterator[Requirement]:
    things, _, place = _ON_PLACE.sub("\n", words).partition("\n")
    if not place and _PLACE.fullmatch(things):
        things, place = "", things
    if things or not place:
        parts = _RELATION.split(things)
        placed = len(parts) == 3
        phrases = parts[::2] if placed else re.split(r", and |, | and ", things)
        groups = [_group(phrase, prompt) for phrase in phrases]
        nouns = {group.noun for group in groups}
        if len(nouns) < len(groups):
            raise _not_understood(prompt, "it names one kind of thing twice")
        for group in groups:
            yield from group.claims()
        if placed:
            first, second = (group.noun for group in groups)
            relation = RELATION_WORDS[parts[1]]
            yield related(first, relation, second)
    if place:
        yield from _background(place, prompt)


def _background(place: str, prompt: str) -> Iterator[Requirement]:
    match = _PLACE.fullmatch(place)
    if not match:
        raise _not_understood(prompt, f"it cannot read {place!r}")
    values = [value for value in match.groups() if value]
    for value in values:
        yield Requirement("", "scene", f"the background is {value}", "background", value)
    if not values:
        yield Requirement("", "scene", "there is a background", "background", "")


def _group(phrase: str, prompt: str) -> Group:
    match = _GROUP.fullmatch(phrase)
    if not match:
        raise _not_understood(prompt, f"it cannot read {phrase!r}")
    noun = _NOUNS[match["noun"]]
    count = _COUNTS[match["count"]] if match["count"] else None
    if count is None and match["noun"] == noun:
        count = 1
    return Group(noun, count, match["color"], match["size"], match["region"])


def _not_understood(prompt: str, why: str) -> PromptError:
    return PromptError(
        f"The prompt {prompt!r} is not understood by the grammar: {why}; name a model with --vlm "
        "that takes it apart, or write it like 'three red apples and one blue cup'."
    )
