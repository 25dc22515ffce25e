"""Probabilities are read at the word that was read, or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.vlm.base import Question
from npcorrect.vlm.probabilities import Token, of_choice, of_fields, of_first
from npcorrect.vlm.replies import read
from npcorrect.vlm.schemas import choices_schema

YES = ("yes", "no")
NUMBERS = ("zero", "one", "two", "three", "ten")


def place(text: str, likely: Mapping[str, float]) -> Token:
    """A token whose likely ones have these probabilities."""
    logs = {word: math.log(p) if p else -math.inf for word, p in likely.items()}
    return Token(text, {text: 0.0, **logs} if not likely else logs)


def sure(text: str) -> Token:
    return Token(text, {text: 0.0})


def shares(
    text: str, tokens: Sequence[Token], choices: Sequence[str] = YES, greedy: bool = True
) -> dict[str, float]:
    answer = read(text, Question((), choices=tuple(choices)))
    return of_choice(text, answer, tokens, choices, greedy=greedy)


ANSWER = place(" Yes", {" Yes": 0.5, "yes": 0.1, "No": 0.2, "Maybe": 0.2})


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("Yes", [], []),
        ("Yes", [sure("\n"), sure("\n\n")], [sure("<|im_end|>")]),
        ("Yes", [sure("No"), sure(","), sure(" wait"), sure("</think>")], []),
        ("Yes", [sure("I"), sure(" think"), sure(" no")], [sure("</s>")]),
        ("<think>No</think> Yes", [sure("<think>"), sure("No"), sure("</think>")], []),
        ("** Yes**", [sure("**")], [sure("**")]),
        ("<answer> Yes</answer>", [sure("<answer>")], [sure("</answer>")]),
    ],
)
def test_the_tokens_are_walked_to_the_word_that_was_read(
    text: str, before: list[Token], after: list[Token]
) -> None:
    found = shares(text, [*before, ANSWER, *after])
    assert found == pytest.approx({"yes": 0.75, "no": 0.25})


@pytest.mark.parametrize("mark", ["\u0120", "\u2581", " "])
def test_marks_of_blanks_are_taken_off(mark: str) -> None:
    token = place(f"{mark}Yes", {f"{mark}Yes": 0.75, f"{mark}No": 0.25})
    assert shares("Yes", [token]) == pytest.approx({"yes": 0.75, "no": 0.25})


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("yes", []),
        ("yes", [sure("no")]),
        ("yes", [sure("Maybe")]),
        ("yes", [sure("yes"), sure(" and"), sure(" no")]),
        ("yes", [place("yes", {"yes": 0.03, "no": 0.9})]),
        ("yes", [place("yes", {"yes": 0.9, "no": 0.9})]),
        ("yes", [place("yes", {"yes": 0.0, "no": 0.0})]),
        ("yes", [Token("yes", {"no": -0.1})]),
        ("yes", [Token("yes", {})]),
        ("yes", [Token("yes", {"yes": 0.9})]),
        ("yes", [Token("yes", {"yes": 0.0, "no": 0.1})]),
    ],
)
def test_probabilities_that_contradict_the_text_are_none(text: str, tokens: list[Token]) -> None:
    assert shares(text, tokens) == {}


def test_a_drawn_answer_may_be_the_less_likely_one() -> None:
    tokens = [place("yes", {"yes": 0.2, "no": 0.8})]
    assert shares("yes", tokens, greedy=False) == pytest.approx({"yes": 0.2, "no": 0.8})


def test_digits_and_words_add_up() -> None:
    tokens = [place("two", {"two": 0.4, "2": 0.4, " Two": 0.1, "three": 0.1})]
    assert shares("two", tokens, NUMBERS)["two"] == pytest.approx(0.9, abs=0.01)
    assert shares("2", [sure("2")], NUMBERS) == pytest.approx({"two": 1.0})


def test_what_is_not_listed_is_unknown_and_not_impossible() -> None:
    tokens = [place("two", {"two": 0.6, "2": 0.2, "A": 0.1})]
    found = shares("two", tokens, NUMBERS)
    assert found.keys() == {"two"}
    # A tenth is not listed at all, and each of the others can have no more than the least listed.
    assert found["two"] == pytest.approx(0.8 / 0.9)


def test_a_beginning_of_several_choices_belongs_to_none_of_them() -> None:
    found = shares("two", [place("two", {"two": 0.5, "t": 0.3, "one": 0.2})], NUMBERS)
    assert found["two"] == pytest.approx(0.5)
    assert shares("two", [sure("t"), sure("wo")], NUMBERS) == {}


def test_an_exact_word_is_not_taken_for_the_beginning_of_another() -> None:
    tokens = [place("1", {"1": 0.3, "10": 0.1})]
    found = shares("1", tokens, ("1", "10"))
    assert found == pytest.approx({"1": 0.75, "10": 0.25})
    assert shares("10", [place("1", {"1": 0.9}), sure("0")], ("1", "10")) == {}


FIELDS = ("r1", "r2")
TEXT = '{"r1": "yes", "r2": "no"}'


def fields(text: str, tokens: Sequence[Token]) -> dict[str, dict[str, float]]:
    answer = read(text, Question((), schema=choices_schema(FIELDS, YES), choices=YES))
    return of_fields(text, answer, tokens, YES, greedy=True)


@pytest.mark.parametrize(
    "tokens",
    [
        [sure('{"r1": "'), place("yes", {"yes": 0.8, "no": 0.2}), sure('", "r2": "'),
         place("no", {"no": 0.9, "yes": 0.1}), sure('"}')],
        [sure("thought</think>"), sure('{"r1":'),
         place('\u0120"yes', {'\u0120"yes': 0.8, ' "no': 0.2}),
         sure('",\u0120"r2":\u0120"'), place('no"', {'no"': 0.9, 'yes"': 0.1}), sure("}")],
    ],
)  # fmt: skip
def test_each_field_has_the_probability_of_its_own_token(tokens: list[Token]) -> None:
    assert fields(TEXT, tokens) == {
        "r1": pytest.approx({"yes": 0.8, "no": 0.2}),
        "r2": pytest.approx({"no": 0.9, "yes": 0.1}),
    }


def test_a_field_that_cannot_be_told_is_left_out() -> None:
    contradicted = place("yes", {"yes": 0.1, "no": 0.9})
    tokens = [sure('{"r1": "'), contradicted, sure('", "r2": "'), sure("no"), sure('"}')]
    assert fields(TEXT, tokens) == {"r2": {"no": 1.0}}
    assert fields(TEXT, [sure("something else")]) == {}


@given(
    st.lists(
        st.tuples(
            st.text(max_size=6),
            st.dictionaries(st.text(max_size=6), st.floats(allow_nan=True), max_size=4),
        ),
        max_size=6,
    )
)
def test_no_tokens_break_the_reading(rows: list[tuple[str, dict[str, float]]]) -> None:
    tokens = [Token(text, likely) for text, likely in rows]
    for found in (shares("yes", tokens), *fields(TEXT, tokens).values()):
        assert sum(found.values()) <= 1 + 1e-9
        assert all(0 <= share <= 1 for share in found.values())


def test_first_tokens_keep_their_probabilities_among_all() -> None:
    likely = {
        "Yes": math.log(0.5),
        "\u0120yes": math.log(0.25),
        " yes": math.log(0.125),
        "?": float("-inf"),
    }
    tokens = [Token("Yes", likely), Token("no", {"no": 0.0})]
    assert of_first("Yes", tokens) == pytest.approx({"Yes": 0.5, " yes": 0.375})
    assert of_first("Yes", []) == {}
    assert of_first("a", [Token("a", {"a": math.log(0.8), "b": math.log(0.8)})]) == {}, (
        "no probabilities"
    )


@pytest.mark.parametrize(
    ("text", "first"),
    [("Yes", "\n"), ("Yes", "<think>"), ("Yes", "Let"), ("Yes", ""), ("", "Yes"), ("No", "Yes")],
)
def test_a_first_token_that_the_text_does_not_begin_with_tells_nothing(
    text: str, first: str
) -> None:
    assert of_first(text, [place(first, {first: 0.9, "Yes": 0.05, "No": 0.05}), sure("Yes")]) == {}


def test_marks_beside_a_number_make_another_token_of_it() -> None:
    answer = read("2", Question((), choices=NUMBERS))
    tokens = [place("2", {"2": 0.5, "-2": 0.2, "2%": 0.1, "two": 0.1, " 2": 0.05, "**2": 0.05})]
    shares = of_choice("2", answer, tokens, NUMBERS, greedy=True)
    assert shares["two"] == pytest.approx(1.0)
    assert of_choice("2", answer, [place("-2", {"-2": 1.0})], NUMBERS, greedy=True) == {}
