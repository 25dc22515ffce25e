"""The embedded family: what it draws, which words it takes, and that asking needs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.errors import PromptError
from npcorrect.mini.family import DEFAULTS, FAMILY
from npcorrect.mini.language import COUNT_WORDS, REGIONS, RELATIONS, REMARKS, SIZE_WORDS
from npcorrect.mini.scene import COLORS
from npcorrect.mini.spelling import spellings
from npcorrect.mini.things import THINGS
from npcorrect.plan import plan
from npcorrect.records import Request

WORDS = (
    *(form for kind in THINGS.values() for form in spellings(kind)),
    *COLORS,
    *COUNT_WORDS,
    *SIZE_WORDS,
    *REGIONS,
    *RELATIONS,
    *REMARKS,
)


def test_the_family_is_distilled_as_flux_dev_is() -> None:
    assert DEFAULTS.sizes == (192,)
    assert not FAMILY.guides_always
    assert not FAMILY.distilled
    assert FAMILY.arguments["guidance_scale"] > 1


def standing(negative: str) -> str | None:
    """The negative of every picture, as a plan that takes it has it."""
    asked = Request("a cat", negative_prompt=negative)
    return plan(asked, FAMILY, DEFAULTS).template.standing_negative


@given(st.lists(st.sampled_from(WORDS), max_size=3))
def test_negatives_of_known_words_are_taken(words: list[str]) -> None:
    assert standing(", ".join(words)) == ", ".join(words)


@pytest.mark.parametrize(
    "negative",
    ["yellow bananas", "2 big grey mice", "a cat left of a dog", "Extra object, wrong colour"],
)
def test_what_people_type_as_a_negative_is_taken(negative: str) -> None:
    assert standing(negative) == negative


@pytest.mark.parametrize(
    ("negative", "part"),
    [
        ("a unicorn", "'unicorn'"),
        ("yellow bananna", "nearest that it knows: banana"),
        ("blurry cats", "'blurry'"),
        ("12 cats", "'12'.*counts to nine"),
        ("\u732b", "'\u732b'"),
        (", ".join(list(THINGS)[:16]), "says 16 things.*at most 15"),
    ],
)
def test_other_negatives_are_refused_in_one_sentence(negative: str, part: str) -> None:
    with pytest.raises(PromptError, match=part):
        FAMILY.check_negative(negative)


@pytest.mark.parametrize("prompt", ["a unicorn", "ten dogs", "a cat next to a dog"])
def test_prompts_that_it_cannot_draw_are_refused(prompt: str) -> None:
    with pytest.raises(PromptError):
        FAMILY.check_prompt(prompt)
    FAMILY.check_prompt("a photo of two red apples and a sofa")


def test_planning_needs_neither_torch_nor_a_tokenizer() -> None:
    heavy = ("torch", "tokenizers", "transformers", "diffusers")
    code = f"import sys, npcorrect.mini.family; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
