"""What words mean: forms, kinds, colours, materials, opposites."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect import lexicon
from npcorrect.vlm.grammar import NOUNS


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        *(("knives", "knife"), ("computer mice", "computer mouse"), ("geese", "goose")),
        *(("sheep", "sheep"), ("scissors", "scissors"), ("buses", "bus"), ("people", "person")),
        *(("women", "woman"), ("snowmen", "snowman"), ("humans", "human"), ("boxes", "box")),
        *(("wine glasses", "wine glass"), ("cookies", "cookie"), ("cities", "city")),
        *(("vases", "vase"), ("houses", "house"), ("ties", "tie"), ("leaves", "leaf")),
        *(("children", "child"), ("tvs", "tv"), ("frisbees", "frisbee"), ("kisses", "kiss")),
    ],
)
def test_plurals(plural: str, singular: str) -> None:
    assert lexicon.singular(plural) == singular
    assert lexicon.singular(singular) == singular
    assert lexicon.plural(singular) == plural
    assert lexicon.plural(plural) == plural


@pytest.mark.parametrize("noun", [" ".join(noun.split()) for noun in NOUNS.split(",")])
def test_the_grammars_nouns_are_in_the_singular(noun: str) -> None:
    assert lexicon.singular(lexicon.plural(noun)) == lexicon.singular(noun)
    assert lexicon.same(noun, noun)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("couch", "sofa"), ("tv", "television"), ("airplane", "plane"), ("donut", "doughnut")),
        *(("cell phone", "smartphone"), ("bicycle", "bike"), ("wine glass", "wineglass")),
        *(("cup", "mug"), ("car", "automobile"), ("computer mouse", "mouse")),
    ],
)
def test_synonyms(one: str, other: str) -> None:
    assert lexicon.same(one, other)
    assert lexicon.same(other, one)


@pytest.mark.parametrize(
    ("kind", "noun"),
    [
        *(("woman", "person"), ("puppy", "dog"), ("kitten", "cat"), ("oak", "tree")),
        *(("dining table", "table"), ("bus", "vehicle"), ("sailboat", "boat"), ("kid", "person")),
        *(("boy", "kid"), ("dog", "animal"), ("couch", "furniture"), ("pizza", "food")),
    ],
)
def test_kinds(kind: str, noun: str) -> None:
    assert lexicon.is_kind_of(kind, noun)
    assert not lexicon.is_kind_of(noun, kind)


@pytest.mark.parametrize(
    ("one", "other"),
    [("star", "person"), ("toaster", "person"), ("heart", "eye"), ("knife", "object"),
     ("cat", "dog"), ("circle", "square"), ("red", "blue")],
)  # fmt: skip
def test_what_is_neither_a_synonym_nor_a_kind(one: str, other: str) -> None:
    for a, b in ((one, other), (other, one)):
        assert not lexicon.same(a, b)
        assert not lexicon.is_kind_of(a, b)


def test_colors_have_families() -> None:
    for family in (
        ("red", "crimson", "scarlet", "reddish"),
        ("purple", "violet", "lavender"),
        ("gray", "grey", "silver"),
        ("yellow", "golden"),
        ("blue", "navy", "azure"),
    ):
        assert len({lexicon.color(word) for word in family}) == 1, family
        assert lexicon.color(family[0]) is not None
    words = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white",
             "brown", "gray")  # fmt: skip
    assert len({lexicon.color(word) for word in words}) == len(words)
    assert lexicon.color("coffee") is lexicon.color("cat") is None


def test_materials_and_opposites() -> None:
    assert lexicon.material("wooden") == lexicon.material("wood") == "wood"
    assert lexicon.material("striped") is lexicon.material("cat") is None
    for one, other in (("small", "larger"), ("tiny", "huge"), ("open", "closed"), ("old", "young")):
        assert lexicon.opposite(one, other)
        assert lexicon.opposite(other, one)
    assert not lexicon.opposite("red", "large")
    assert lexicon.similar("giant", "bigger")


@given(st.text(max_size=30))
def test_any_text_has_forms(text: str) -> None:
    assert lexicon.same(text, text)
    one = lexicon.singular(text)
    assert lexicon.plural(one) == lexicon.plural(lexicon.plural(one))
    assert lexicon.color(text) is None or lexicon.material(text) in (None, text)


def test_the_words_are_read_at_the_first_question_and_not_before() -> None:
    code = (
        "import npcorrect.proposing, npcorrect.lexicon as words;"
        "assert not words._lexicon.cache_info().currsize"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
