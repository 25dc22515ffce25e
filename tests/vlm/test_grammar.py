"""The grammar reads GenEval++ and the embedded world exactly, and guesses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.errors import PromptError
from npcorrect.mini.checklist import requirements
from npcorrect.mini.data import TAGS, sample_spec
from npcorrect.mini.grammar import parse
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.grammar import GrammarChecklister

DATA = Path(os.environ.get("NPC_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
READ = GrammarChecklister().checklist
FIELDS = {"count": "count", "attribute": "color", "size": "size", "relation": "region"}


def lines(name: str) -> list[dict[str, Any]]:
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is missing; name its folder in NPC_DATA.")
    text = (DATA / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def include(checklist: Checklist) -> list[dict[str, Any]]:
    """GenEval++'s ``include`` list as the requirements state it."""
    things: dict[str, dict[str, Any]] = {}
    for claim in checklist.requirements:
        thing = things.setdefault(claim.subject, {"class": claim.subject})
        if claim.kind in FIELDS:
            text = claim.value.removeprefix("on the ")
            thing[FIELDS[claim.kind]] = int(text) if claim.kind == "count" else text
    return list(things.values())


def test_all_of_geneval_pp_is_read_exactly() -> None:
    prompts = lines("geneval_pp.jsonl")
    assert len(prompts) == 280
    for line in prompts:
        assert include(READ(line["prompt"])) == line["include"], line["prompt"]


def test_nothing_of_imagine_bench_is_guessed_at() -> None:
    prompts = lines("imagine.jsonl")
    assert len(prompts) == 270
    for line in prompts:
        with pytest.raises(PromptError, match="not understood"):
            READ(line["instruction"])


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("two baseball gloves on the above and three cows on the below", [
            {"class": "baseball glove", "count": 2, "region": "above"},
            {"class": "cow", "count": 3, "region": "below"}]),
        ("A photo of one blue kites and one orange cows", [
            {"class": "kite", "count": 1, "color": "blue"},
            {"class": "cow", "count": 1, "color": "orange"}]),
        ("a purple skis, an orange orange, and three scissorses", [
            {"class": "skis", "count": 1, "color": "purple"},
            {"class": "orange", "count": 1, "color": "orange"},
            {"class": "scissors", "count": 3}]),
        ("three computer mice and two knives", [
            {"class": "computer mouse", "count": 3}, {"class": "knife", "count": 2}]),
        ("  Zebras. ", [{"class": "zebra"}]),
    ],
)  # fmt: skip
def test_quirks_of_grammar(prompt: str, things: list[dict[str, Any]]) -> None:
    assert include(READ(prompt)) == things


def test_claims_depend_on_the_things_that_they_are_about() -> None:
    checklist = READ("two red cups to the left of a dog on a striped gray background")
    kinds = [(claim.id, claim.kind, claim.depends_on) for claim in checklist.requirements]
    assert kinds == [
        ("r1", "object", ()),
        ("r2", "object", ()),
        ("r3", "count", ("r1",)),
        ("r4", "attribute", ("r1",)),
        ("r5", "count", ("r2",)),
        ("r6", "relation", ("r1", "r2")),
        ("r7", "scene", ()),
        ("r8", "scene", ()),
    ]


@given(st.integers(0, 10**6), st.sampled_from(TAGS))
def test_the_embedded_world_is_read_as_its_own_grammar_does(seed: int, tag: str) -> None:
    text = sample_spec(random.Random(seed), tag).text()

    def claims(made: tuple[Requirement, ...]) -> set[tuple[str, ...]]:
        return {(c.kind, c.text, c.subject, c.value, c.object) for c in made}

    assert claims(READ(text).requirements) == claims(requirements(parse(text)))


@pytest.mark.parametrize(
    "prompt",
    ["", "a ceramic eagle", "two red dogs and one blue dog", "three red", "a dog with a hat",
     "a dog on a table", "0 dogs", "eleven dogs", "a dog and"],
)  # fmt: skip
def test_what_cannot_be_read_whole_is_not_understood(prompt: str) -> None:
    with pytest.raises(PromptError, match="not understood"):
        READ(prompt)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(PromptError):
        assert READ(text).requirements
