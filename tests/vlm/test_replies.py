"""Objects, words and probabilities out of whatever a model writes."""

from __future__ import annotations

import contextlib
import json
import math
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.vlm.replies import UnusableError, choice_in, first_tokens, object_in, probabilities

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
GOOD = {"a": 1, "b": "two {braces}"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"Sure, here it is: {json.dumps(GOOD)} Is there anything else?",
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f'<think>{{"a": 2, "b": ""}}</think>{json.dumps(GOOD)}',
        f'{{"a": "no"}} or rather {json.dumps(GOOD)}',
        f"{{ not this }} {json.dumps(GOOD)}",
    ],
)
def test_the_first_object_that_meets_the_schema_counts(text: str) -> None:
    assert json.loads(object_in(text, SCHEMA)) == GOOD


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no complete JSON object"),
        ("yes", "no complete JSON object"),
        ('{"a": 1, "b": "cut', "no complete JSON object"),
        ('{"a": NaN, "b": ""}', "no complete JSON object"),
        ('{"a": "1", "b": ""}', "at a: '1' is not of type 'integer'"),
        ('{"a": 1}', "'b' is a required property"),
        ('{"a": 1, "b": "", "c": 0}', "'c' was unexpected"),
        ("{" * 5000, "no complete JSON object"),
        ('{"a":' * 5000, "no complete JSON object"),
    ],
)
def test_anything_else_is_unusable_and_says_why(text: str, why: str) -> None:
    with pytest.raises(UnusableError) as caught:
        object_in(text, SCHEMA)
    assert why in str(caught.value)


@given(st.text())
def test_no_text_breaks_the_reading(text: str) -> None:
    with contextlib.suppress(UnusableError):
        assert object_in(text, SCHEMA)
    with contextlib.suppress(UnusableError):
        assert choice_in(text, ("yes", "no"))


@pytest.mark.parametrize("text", ["yes", "Yes.", " **YES** ", '"yes"', "<think>no</think> yes!"])
def test_a_choice_may_be_dressed_up(text: str) -> None:
    assert choice_in(text, ("yes", "no")) == "yes"


@pytest.mark.parametrize("text", ["", "yes and no", "да", "yes, because there are two", "yesno"])
def test_a_choice_must_be_the_whole_answer(text: str) -> None:
    with pytest.raises(UnusableError):
        choice_in(text, ("yes", "no"))


def test_probabilities_add_the_spellings_up_and_leave_the_rest_out() -> None:
    tokens = {" Yes": math.log(0.5), "yes": math.log(0.1), "No": math.log(0.2), "Maybe": -1.6}
    assert probabilities([{"\n": -0.1}, tokens], ("yes", "no")) == pytest.approx(
        {"yes": 0.75, "no": 0.25}
    )


@pytest.mark.parametrize(
    "likely", [[], [{}], [{"Maybe": -0.1}], [{"Maybe": -0.1}, {"yes": -0.1}], [{"yes": -math.inf}]]
)
def test_probabilities_are_not_made_up(likely: list[dict[str, float]]) -> None:
    assert probabilities(likely, ("yes", "no")) == {}


def test_an_exact_word_is_not_taken_for_the_beginning_of_another() -> None:
    found = probabilities([{"1": math.log(0.3), "10": math.log(0.1)}], ("1", "10"))
    assert found == pytest.approx({"1": 0.75, "10": 0.25})


def test_first_tokens_keep_their_probabilities_among_all() -> None:
    likely = [{"Yes": log(0.5), " yes": log(0.25), "?": float("-inf")}, {"no": 0.0}]
    assert first_tokens(likely) == pytest.approx({"Yes": 0.5, " yes": 0.25})
    assert first_tokens([]) == {}
