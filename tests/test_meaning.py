"""Negatives never name what the prompt asks for, and faults survive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npcorrect import lexicon
from npcorrect.english import NUMBERS
from npcorrect.errors import PromptError
from npcorrect.meaning import asks_for, bare, is_about, is_absence, is_near, says_nothing
from npcorrect.phrases import mentions
from npcorrect.proposing import clean
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.grammar import GrammarChecklister
from tests.evaluation.official_data import needs
from tests.timing import thread_seconds

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "negatives.jsonl").read_text().splitlines()
]
PASSED = {
    *("blue dish", "ice cream", "football player", "knitting needles", "pastry"),
    *("bookshelves", "redhead", "dessert", "locomotive", "sand dunes", "surfboards", "blue eyes"),
    *("evening sky", "pastries", "snowy stop sign", "noodles", "meat", "fortress", "sand", "ice"),
    *("chopping board", "frozen water"),
}
"""What the reader is known to miss: a bowl is no dish in WordNet."""
LOST = {
    *("parked car", "beach umbrella", "red ball gown", "empty bowl", "photograph", "landed plane"),
    *("clean-shaven man", "vanilla cake", "whole cake", "summer forest", "brown-eyed husky"),
}
"""Faults that it is known to refuse."""


def checklists(prompt: str) -> list[Checklist]:
    """The requirements where the grammar reads them, and none at all."""
    nothing = Checklist(prompt, ())
    try:
        return [nothing, GrammarChecklister().checklist(prompt)]
    except PromptError:
        return [nothing]


def asked(prompt: str, *claims: tuple[str, str, str, str]) -> Checklist:
    made = (
        Requirement(f"r{n}", kind, "", subject, value, other)
        for n, (kind, subject, value, other) in enumerate(claims)
    )
    return Checklist(prompt, tuple(made))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"][:50])
def test_what_is_asked_for_is_refused_and_faults_are_kept(case: dict[str, list[str]]) -> None:
    for checklist in checklists(str(case["prompt"])):
        passed = {text for text in case["never"] if clean(text, checklist) is not None}
        lost = {text for text in case["fine"] if clean(text, checklist) is None}
        assert (passed - PASSED, lost - LOST) == (set(), set())


@pytest.mark.parametrize(
    ("name", "key"), [("geneval_pp.jsonl", "prompt"), ("imagine.jsonl", "instruction")]
)
def test_the_official_prompts_own_things_are_refused_and_wrong_numbers_kept(
    name: str, key: str
) -> None:
    """Of 307 numbers one is no count of things: a hydrant is "ten feet tall"."""
    lost = set()
    for line in (needs(name) / name).read_text(encoding="utf-8").splitlines():
        prompt = json.loads(line)[key]
        checklist = checklists(prompt)[-1]
        for mention in mentions(prompt):
            if mention.noun == "photo" or mention.likeness:
                continue
            noun = lexicon.plural(mention.noun) if mention.plural else mention.noun
            assert clean(noun, checklist) is None, (noun, prompt)
            if isinstance(mention.number, int):
                wrong = f"{NUMBERS[min(mention.number + 1, 10)]} {lexicon.plural(mention.noun)}"
                lost |= {wrong} if clean(wrong, checklist) is None else set()
    assert lost <= {"ten talls"}


@pytest.mark.parametrize(
    "text",
    [
        *("zero wine glasses", "missing fork", "lack of windows", "nothing", "nobody", "neither"),
        *(
            "fewer than four cats",
            "cat cannot be seen",
            "unclear",
            "n/a",
            "N/A",
            "isn\u2019t round",
        ),
        *("a no-go sign", "without a hat", "absence of cats", "0 cats", "not visible"),
        *("the image shows four cats", "The picture depicts a cat", "there are four cats"),
        *("background", "the background", "an image", "objects", "it is red"),
        *("too few cats", "empty of people", "unable to see a cat", "barely visible cat", "N.A."),
        *("null", "cat omitted", "excluded cat", "fails to include cats", "unsure", "sans hat"),
        *("there's a cat", "an image showing a cat", "appears to be a cat", "only shows a cat"),
        *("we see a cat", "the photo displays a cat", "something else", "the main subject"),
    ],
)
def test_what_names_nothing_that_can_be_seen_is_no_negative(text: str) -> None:
    assert clean(text, Checklist("three dogs", ())) is None


@pytest.mark.parametrize(
    "text", ["a headless man", "blurry background", "clutter", "notebook", "a few cats", "nobleman"]
)
def test_words_that_only_look_like_absences_name_something(text: str) -> None:
    assert not is_absence(text)
    assert not says_nothing(text)


def test_a_sentence_about_a_picture_is_made_a_thing() -> None:
    assert bare("The image shows four cats") == "four cats"
    assert bare("In the picture there are two dogs.") == "two dogs."
    assert bare("four cats") == "four cats"
    assert bare("An image showing four cats") == "four cats"
    assert bare("This is a dog") == "a dog"


@pytest.mark.parametrize(
    ("checklist", "text", "is_asked"),
    [
        (asked("x", ("count", "cup", "3", "")), "three mugs", True),
        (asked("x", ("count", "cup", "3", "")), "four mugs", False),
        (asked("x", ("count", "cup", "3", "")), "several mugs", True),
        (asked("x", ("count", "cup", "3", "")), "extra mugs", False),
        (asked("x", ("count", "cup", "2", "")), "many mugs", False),
        (asked("x", ("attribute", "car", "crimson", "")), "red cars", True),
        (asked("x", ("attribute", "car", "crimson", "")), "blue cars", False),
        (asked("x", ("size", "spoon", "smaller", "")), "tiny spoon", True),
        (asked("x", ("size", "spoon", "smaller", "")), "huge spoon", False),
        (asked("x", ("attribute", "cup", "made of paper", "")), "glass cup", False),
        (asked("x", ("attribute", "cup", "made of paper", "")), "paper cup", True),
        (asked("x", ("relation", "clock", "on the left", "")), "clock on the right", False),
        (asked("x", ("relation", "clock", "on the left", "")), "clock on the left", True),
        (asked("x", ("relation", "cat", "under", "table")), "cat on a table", False),
        (asked("x", ("relation", "cat", "under", "table")), "cat beneath a table", True),
        (asked("x", ("relation", "man", "playing", "chess")), "chess board", True),
        (asked("x", ("style", "picture", "watercolor", "")), "watercolor paper", True),
        (asked("x", ("scene", "background", "dense forest", "")), "dark forest", True),
        (asked("x", ("scene", "background", "white", "")), "black background", False),
        (asked("x", ("scene", "background", "white", "")), "white background", True),
        (asked("x", ("text", "sign", "OPEN", "")), "closed sign", True),
        (asked("x", ("count", "window", "0", "")), "large window", False),
        (asked("two men and one woman"), "three people", True),
        (asked("two men and one woman"), "four people", False),
        (asked("a red car and a blue car"), "two cars", True),
        (asked("a red car and a blue car"), "green car", False),
        (asked("a red car"), "red and blue striped shirt", False),
        (asked("a teddy bear"), "brown bear", False),
        (asked("books left of a lamp"), "books on the right", False),
        (asked("a toothbrush left of a hair drier"), "toothbrush", True),
        (asked("a traffic light showing green"), "traffic light", True),
        (asked("a traffic light showing green"), "red traffic light", False),
        (asked("a car painted red"), "blue car", False),
        (asked("a black cat"), "kitten", True),
        (asked("a man sitting on a bench"), "seated man", True),
        (asked("a bride and a groom"), "a couple", True),
        (asked("an elderly woman"), "elderly man", False),
        (asked("a red car in front of a diner"), "blue car", False),
        (asked("a silver spoon"), "metal spoon", True),
        (asked("a calm lake"), "calm water", True),
        (asked("foam in the shape of a heart"), "heart", True),
        (asked("a watercolor of a fox"), "watercolor texture", True),
    ],
)
def test_what_a_requirement_asks_for(checklist: Checklist, text: str, is_asked: bool) -> None:
    assert bool(asks_for(text, checklist)) is is_asked


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("white bed", "a white bed", True),
        ("white bed", "white beds", True),
        ("gray sofa", "a grey couch", True),
        ("white bed", "large white bed", True),
        ("five teddy bears", "six teddy bears", False),
        ("white bed", "black bed", False),
        ("white bed", "white chair", False),
        ("four circles", "four circles and one star", False),
        ("a man in a hat", "man in hat", True),
        ("man wearing a hat", "man with a red hat", True),
        ("cat on a table", "cat under a table", False),
        ("wooden table", "wood table", True),
        ("blue sky", "sky", True),
        ("teddy bear", "bear", False),
    ],
)
def test_near_duplicates_are_one(one: str, other: str, near: bool) -> None:
    assert is_near(one, other) is is_near(other, one) is near


def test_phrases_are_about_a_thing_by_any_word_for_it() -> None:
    assert is_about("a white mug on a desk", ("cup",))
    assert not is_about("a white plate", ("cup", ""))


@settings(max_examples=200)
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_can_be_read(prompt: str, phrase: str) -> None:
    assert asks_for(phrase, Checklist(prompt, ())) in phrase
    assert is_near(phrase, phrase)
    assert is_near(prompt, phrase) is is_near(phrase, prompt)


@pytest.mark.parametrize(
    "unit", ["cat ", "a ", "red ", "no ", "of ", "and ", "cat and ", ", ", "x"]
)
def test_long_texts_are_read_in_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        return thread_seconds(lambda: asks_for(text, Checklist(text, ())))

    seconds(100)
    assert seconds(8_000) < 20 * max(seconds(1_000), 0.05)


@pytest.mark.parametrize(
    ("prompt", "wanted", "faults"),
    [
        (
            "A photo of an orange cat on the above and a black cell phone on the below",
            ("orange cat on the top", "cat at the top", "phone on the bottom"),
            ("cat on the bottom", "black cell phone at the top"),
        ),
        (
            "A photo of a broccoli below a red hair drier",
            ("broccoli at the bottom", "hair drier on the top"),
            ("broccoli on the top", "hair drier on the bottom"),
        ),
        (
            "A photo of a cat on the left of a dog",
            ("cat on the left", "dog on the right"),
            ("cat on the right", "dog on the left"),
        ),
        (
            "A photo of a red cup to the right of a blue cup",
            ("red cup on the right", "blue cup on the left", "cup on the left"),
            (),
        ),
    ],
)
def test_a_thing_at_its_place_is_asked_for_and_at_the_other_ones_a_fault(
    prompt: str, wanted: tuple[str, ...], faults: tuple[str, ...]
) -> None:
    for checklist in checklists(prompt):
        assert [text for text in wanted if clean(text, checklist)] == []
        assert [text for text in faults if not clean(text, checklist)] == []
