"""Objects and words out of whatever a model writes."""

from __future__ import annotations

import json

import pytest

from npcorrect.vlm.base import Question
from npcorrect.vlm.reasoning import UnusableError
from npcorrect.vlm.replies import choice_in, object_in, read

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
GOOD = {"a": 1, "b": "two {braces}"}
YES = ("yes", "no")
NUMBERS = ("zero", "one", "two", "ten")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"Sure, here it is: {json.dumps(GOOD)} Is there anything else?",
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f'{{"a": "no"}} or rather {json.dumps(GOOD)}',
        f"{{ not this }} {json.dumps(GOOD)}",
        f"{json.dumps(GOOD)} again: {json.dumps(GOOD)}",
        '{"a": 1.0, "b": "two {braces}"}',
        "\ufeff" + json.dumps(GOOD),
        f"{{{json.dumps(GOOD)}}}",
        f"{{{{ \n {{{json.dumps(GOOD)}}}}}}}",
        f"{{'a': [{{}}, \"}}\"]}} is no JSON, but this is: {json.dumps(GOOD)}",
        '{"a": 1, "a": 1, "b": "two {braces}"}',
    ],
)
def test_the_one_object_that_meets_the_schema_counts(text: str) -> None:
    assert json.loads(object_in(text, SCHEMA)) == GOOD


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("yes", "no complete JSON object"),
        ('{"a": 1, "b": "cut', "no complete JSON object"),
        ('{"a": NaN, "b": ""}', "no complete JSON object"),
        ('{"a": 1e999, "b": ""}', "no complete JSON object"),
        ('{"a": ' + "9" * 400 + ', "b": ""}', "no complete JSON object"),
        ('{"a": "1", "b": ""}', "at a: '1' is not of type 'integer'"),
        ('{"a": 1.5, "b": ""}', "at a: 1.5 is not of type 'integer'"),
        ('{"a": 1}', "'b' is a required property"),
        ('{"a": 1, "b": "", "c": 0}', "'c' was unexpected"),
        ("{" * 5000, "no complete JSON object"),
        ('{"a":' * 5000, "no complete JSON object"),
        ('{"a": 1, "b": ""} or {"a": 2, "b": ""}', "two different answers"),
        ('{"a": 1, "b": ""} or {"a": "2", "b": ""}', "two different answers"),
        ('{"a": 1, "b": ""} or {"a": 2,, "b": ""}', "two different answers"),
        ('{"a": 1, "b": ""} ' * 201, "too many objects"),
        ('{"a": 1, "b": "", "a": 2}', "no complete JSON object"),
        ('{"a": 1, "b": ""} or rather {"a": 2, "b": "', "no complete JSON object"),
        ('{"draft": {"a": 1, "b": ""}, "final": {"a": 2, "b": ', "no complete JSON object"),
        ('{"draft": {"a": 1, "b": ""}, "final": }', "no complete JSON object"),
        ("a" * 2**20, "longer than"),
    ],
)
def test_anything_else_is_unusable_and_says_why(text: str, why: str) -> None:
    with pytest.raises(UnusableError) as caught:
        object_in(text, SCHEMA)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "writing",
    ["<think>", "</think>", "[ANSWER] \\n ```json", "<|im_end|>", "<answer>", "\\\\boxed{a}"],
)
def test_writing_in_a_picture_may_look_like_a_mark(writing: str) -> None:
    text = f'{{"a": 1, "b": "a sign that says {writing}"}}'
    assert json.loads(object_in(text, SCHEMA)) == json.loads(text)
    assert json.loads(object_in(f"<think>no</think>{json.dumps(GOOD)}", SCHEMA)) == GOOD


def test_writing_in_brackets_is_no_mark() -> None:
    text = 'Here: {"a": 1, "b": "a sign that says [FINAL] and [reason]"}'
    assert json.loads(object_in(text, SCHEMA))["b"].endswith("[FINAL] and [reason]")


def test_raw_line_breaks_in_strings_are_read() -> None:
    assert json.loads(object_in('{"a": 1, "b": "two\nlines\tlong"}', SCHEMA))["b"] == (
        "two\nlines\tlong"
    )


def test_lone_surrogates_do_not_get_through() -> None:
    text = object_in('{"a": 1, "b": "\\ud800 and \\ud83d\\ude00"}', SCHEMA)
    assert json.loads(text)["b"] == "\ufffd and \U0001f600"
    assert read("say \ud800", Question(())).text == "say \ufffd"


@pytest.mark.parametrize("text", ["yes", "Yes.", " **YES** ", '"yes"', "yes!\n"])
def test_a_choice_may_be_dressed_up(text: str) -> None:
    assert choice_in(text, YES) == "yes"


@pytest.mark.parametrize(
    "text", ["", "yes and no", "\u0434\u0430", "yes, because there are two", "yesno", "..."]
)
def test_a_choice_must_be_the_whole_answer(text: str) -> None:
    with pytest.raises(UnusableError):
        choice_in(text, YES)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("2", "two"), ("Ten.", "ten"), ("10", "ten"), ("\uff12\u3002", "two"), ("\u2461", "two"),
        ("\uff34\uff57\uff4f", "two"), ("\uff11\uff10", "ten"),
    ],
)  # fmt: skip
def test_digits_and_words_are_spellings_of_one_number(text: str, choice: str) -> None:
    assert choice_in(text, NUMBERS) == choice


@pytest.mark.parametrize(
    "text",
    [
        "-2", "\u22122", "\uff0d\uff12", "- 2", "+2", "\u00b12", "-two", "minus two", "2-", "--2--",
        "2%", "2 %", "two%", "%2%", "\uff12\uff05", "2\u2030",
        "2.0", "2.5", ".2", ",2", "0.2", "2,5", "2,", "2;",
        "2nd", "#2", "no. 2", "2\u00ba",
        "1/2", "\u00bd", "/2", "2/", "2:1", "2:",
        "2-3", "2\u20133", "2..3", "2 or 3", "1, 2",
        "2x", "x2", "\u00d72", "2\u00d7", "2 cups", "2\u00b0", "2'", '2"', "2\u2033",
        "$2", "2\u20ac",
        "2e0", "2^2", "\u00b2", "\u2082", "10\u00b2", "2*", "\u221a2",
        "~2", "\u22482", "<2", ">2", "\u22652", "2+", "2?", "\u00ac2", "~~2~~", "2\u0338",
        "\\boxed{-2}", "<answer>2%</answer>", "```\n-2\n```",
    ],
)  # fmt: skip
def test_a_number_with_something_beside_it_is_another_number(text: str) -> None:
    with pytest.raises(UnusableError, match="not one of the words"):
        choice_in(text, NUMBERS)


@pytest.mark.parametrize(
    "text",
    [
        "2.", "2!", "**2**", "_2_", "`2`", "'2'", '"2."', "\u201c2\u201d.", "(2)", "[2]", "$2$",
        "\\(2\\)", "2\ufe0f\u20e3", "\u200b2\n", "\\boxed{2}", "<answer>2</answer>", "```\n2\n```",
    ],
)  # fmt: skip
def test_a_number_may_be_dressed_up(text: str) -> None:
    assert choice_in(text, NUMBERS) == "two"


def test_choices_that_are_both_digit_and_word_stay_apart() -> None:
    assert choice_in("2", ("2", "two")) == "2"
    assert choice_in("two", ("2", "3")) == "2"


def refuse(text: str) -> None:
    if "\u0434" in text:
        raise ValueError("it is not in English")


def test_a_questions_own_check_is_part_of_the_reading() -> None:
    question = Question((), schema=SCHEMA, check=refuse)
    assert read('{"a": 1, "b": "yes"}', question).value == {"a": 1, "b": "yes"}
    with pytest.raises(UnusableError, match="not in English"):
        read('{"a": 1, "b": "\u0434\u0430"}', question)


def test_what_is_shown_is_redacted_after_decoding_and_what_is_read_is_not() -> None:
    question = Question((), schema=SCHEMA)
    answer = read('{"a": 1, "b": "\\u0074e\\u0073t"}', question, lambda s: s.replace("test", "*"))
    assert answer.value["b"] == "test"
    assert json.loads(answer.text)["b"] == "*"
    choice = read("yes", Question((), choices=YES), lambda s: s.replace("e", "[key]"))
    assert choice.text == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "<answer>no</answer>? Let me see",
        "So \\boxed{no}, or",
        "Perhaps <final>no</final>",
        "no ..? no",
    ],
)
def test_no_mark_makes_an_answer_of_a_part_of_a_thought(text: str) -> None:
    with pytest.raises(UnusableError):
        read(text, Question((), choices=YES), whole=True)
    assert read("<answer>no</answer>", Question((), choices=YES), whole=True).text == "no"


@pytest.mark.parametrize("text", ["yes", ' ```json\n{"a": 1, "b": ""}\n``` '])
def test_what_a_server_calls_thought_is_an_answer_only_where_it_is_nothing_else(text: str) -> None:
    question = Question((), choices=YES) if text == "yes" else Question((), schema=SCHEMA)
    assert read(text, question, whole=True).text
    with pytest.raises(UnusableError):
        read(f"I think {text} fits", question, whole=True)
    with pytest.raises(UnusableError):
        read("So it is a cup.", Question(()), whole=True)
