"""What a line with ``include`` and ``exclude`` asks for, as GenEval and GenEval++ have it.

An object without a count is one, and an excluded count is one too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npcorrect.english import in_words, plural
from npcorrect.records import Requirement


def checklist_text(facts: Mapping[str, Any], exact: bool = True) -> str:
    """What a line asks for, in sentences of our own, a bullet each.

    Its counts are those that there must be exactly, or else at least.
    """
    items = facts.get("include", ())
    bound = "exactly" if exact else "at least"
    wanted = [f"- {bound} {_described(item, items)}" for item in items]
    limits = [
        f"- no more than {_number(item) - 1} {_noun(item, _number(item) - 1)}"
        for item in facts.get("exclude", ())
    ]
    return "\n".join(wanted + limits)


def requirements(facts: Mapping[str, Any], exact: bool = True) -> tuple[Requirement, ...]:
    """The line's claims; with ``exact``, each count is a claim even where it is one."""
    claims: list[Requirement] = []

    def add(
        kind: str, text: str, subject: str, value: str, *depends_on: str, other: str = ""
    ) -> str:
        name = f"r{len(claims) + 1}"
        claims.append(Requirement(name, kind, text, subject, value, other, depends_on))
        return name

    items = facts.get("include", ())
    for item in items:
        noun, number = str(item["class"]), _number(item)
        many = _noun(item, number)
        verb = "is" if number == 1 else "are"
        seen = add("object", f"{many} {verb} visible", noun, noun)
        if exact or number > 1:
            counted = f"there {verb} exactly {in_words(str(number))} {many}"
            add("count", counted, noun, str(number), seen)
        if color := item.get("color"):
            add("attribute", f"the {many} {verb} {color}", noun, color, seen)
        if size := item.get("size"):
            add("size", f"the {many} {verb} {size}", noun, size, seen)
        if region := item.get("region"):
            place = f"in the {region} part of the picture"
            add("relation", f"the {many} {verb} {place}", noun, place, seen)
        if position := _position(item, items):
            relation, target = position
            text = f"the {many} {verb} {relation} the {target}"
            add("relation", text, noun, relation, seen, other=target)
    for item in facts.get("exclude", ()):
        most = _number(item) - 1
        text = f"there are no more than {in_words(str(most))} {_noun(item, most)}"
        add("count", text, str(item["class"]), str(most))
    return tuple(claims)


def _described(item: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> str:
    number = _number(item)
    words = [str(number), item.get("size", ""), item.get("color", ""), _noun(item, number)]
    text = " ".join(word for word in words if word)
    if item.get("region"):
        text += f", in the {item['region']} part of the picture"
    if position := _position(item, items):
        text += f", {position[0]} the {position[1]}"
    return text


def _position(
    item: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> tuple[str, str] | None:
    """The relation to another item, and that item's noun."""
    if not item.get("position"):
        return None
    relation, place = item["position"]
    words = f"to the {relation}" if relation in ("left of", "right of") else str(relation)
    return words, str(items[place]["class"])


def _number(item: Mapping[str, Any]) -> int:
    return int(item.get("count", 1))


def _noun(item: Mapping[str, Any], number: int) -> str:
    noun = str(item["class"])
    return noun if number == 1 else plural(noun)
