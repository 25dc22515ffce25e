"""Phrases are read for the things that they name, how many, and what is said of them."""

from __future__ import annotations

import pytest

from npcorrect.phrases import Mention, mentions, side, unquoted, without_absences, words


def read(text: str) -> list[str]:
    """Each mention as "number modifiers noun"."""
    return [
        " ".join(map(str, (*((m.number,) if m.number else ()), *m.modifiers, m.noun)))
        for m in mentions(text)
    ]


@pytest.mark.parametrize(
    ("text", "things"),
    [
        ("two white airplanes and a pair of pink shoes", ["2 white airplane", "2 pink shoe"]),
        ("half a dozen eggs in a basket", ["6 egg", "basket"]),
        ("five computer mice", ["5 computer mouse"]),
        ("several cats, extra dogs", ["many cat", "more dog"]),
        ("a group of five children", ["5 child"]),
        ("two men playing chess under a tree", ["2 playing man", "chess", "tree"]),
        ("a woman wears a hat", ["woman", "hat"]),
        ("a fish perched atop a mushroom", ["perched fish", "mushroom"]),
        ("a brick building on a hill", ["brick building", "hill"]),
        ("a dense and colorful forest", ["dense colorful forest"]),
        ("the cat is gray", ["gray cat"]),
        ("a red circle is small", ["red small circle"]),
        ("dark green", []),
        ("a large orange", ["large orange"]),
        ("orange cat", ["orange cat"]),
        ("black frisbees", ["black frisbee"]),
        ('a sign that says "two dogs" above a door', ["sign", "door"]),
        ("12345678901234567890 cats", ["123456 cat"]),
        ("", []),
        ("!?", []),
    ],
)
def test_mentions(text: str, things: list[str]) -> None:
    assert read(text) == things


def test_what_is_said_of_a_mention() -> None:
    clock, vase = mentions("The clock on the left and vases to the right of it")
    assert (clock.place, clock.definite, clock.plural) == ("left", True, False)
    assert (vase.place, vase.definite, vase.plural) == ("", False, True)
    _, car = mentions("a donut the size of a compact car")
    assert car.likeness
    assert mentions("a cup like a hat")[1].likeness
    assert Mention("teddy bear", ("brown",)).words == ("brown", "teddy", "bear")
    assert Mention("teddy bear", ("brown",)).said == ("brown", "teddy")


@pytest.mark.parametrize(
    ("joint", "where"),
    [
        ("to the left of", "left"),
        ("on top of", "on"),
        ("underneath", "below"),
        ("next to", "beside"),
        ("in front of", "front"),
        ("playing", ""),
        ("with", ""),
    ],
)
def test_sides(joint: str, where: str) -> None:
    assert side(joint.split()) == where


def test_words_and_writing() -> None:
    assert words("Don\u2019t, T-shirt (big)!") == ["don't", "t-shirt", "big"]
    assert unquoted('a "red" and \u201cblue\u201d sign').split() == ["a", "and", "sign"]
    assert without_absences("a room, no windows or doors, a cat")[1] == "a room , , a cat"
