"""Marks of other programs are read, taken out, and refused by name; plain English stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.errors import PromptError
from npcorrect.prompt_marks import read_marks, without_marks
from tests.timing import thread_seconds


@pytest.mark.parametrize(
    ("prompt", "text", "kinds"),
    [
        ("a (red:1.2) car", "a red car", ["weight"]),
        ("a (red car:0.8), (big dog: 1.5 )", "a red car, big dog", ["weight", "weight"]),
        ("((red)) car", "red car", ["emphasis"]),
        ("a [blurry] car", "a blurry car", ["less emphasis"]),
        ("a [cat:dog:0.5] in a hat", "a dog in a hat", ["edit"]),
        ("a [cat::10] in a hat", "a cat in a hat", ["edit"]),
        ("a house[ in snow:12]", "a house in snow", ["edit"]),
        ("a [red|blue] car", "a red car", ["alternation"]),
        ("a cat BREAK a dog", "a cat, a dog", ["break"]),
        ("a cat <lora:style_x:0.8>", "a cat", ["network"]),
        ("<LoRA:a:1> a ([red|blue]:1.3) car", "a red car", ["network", "alternation", "weight"]),
        ("a ((red:1.2) car:1.1)", "a red car", ["weight", "weight"]),
        ("a {red|blue} car", "a red car", ["alternation"]),
        ("{{red}} car", "red car", ["emphasis"]),
        ("a cat AND a dog", "a cat, a dog", ["composition"]),
        ("a cat, embedding:bad_hands", "a cat", ["embedding"]),
        ("a cat <embedding:x>", "a cat", ["embedding"]),
        ("a __color__ car", "a car", ["wildcard"]),
        ("a car --ar 16:9", "a car 16:9", ["flag"]),
    ],
)
def test_marks_are_read_and_taken_out(prompt: str, text: str, kinds: list[str]) -> None:
    read = read_marks(prompt)
    assert read.text == text
    assert [mark.kind for mark in read.marks] == kinds


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat (and a dog) at 10:30",
        "a sign (10:30 sharp)",
        "a clock (10:30)",
        r"a smile \(happy:1.2\)",
        "THE GREAT BREAK",
        "SALT AND PEPPER",
        'a sign that says "ROCK AND ROLL"',
        "a sign that says \u201cCOFFEE BREAK\u201d",
        '{"subject": "a cat", "style": {"kind": "photo"}}',
        "a well--known __init__ed man -- old",
        "bands, ANDROID, candy",
        "breakfast, Breakdance, BREAKFAST",
        "a > b < c <3 <b>",
        "a ) b ( c ] d",
        "ratio 16:9 | poster",
        "",
    ],
)
def test_plain_english_has_none(prompt: str) -> None:
    assert not read_marks(prompt).marks
    without_marks(prompt, "mini")


def test_a_bracket_that_is_meant_loses_its_backslash_where_marks_are_taken_out() -> None:
    assert read_marks(r"(red:1.2) \(sic\)").text == "red (sic)"
    assert without_marks(r"a  smile \(happy:1.2\)", "mini") == "a  smile (happy:1.2)"


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a (red:1.2) car", r"'\(red:1.2\)', .*weight.* 'mini'.*without it"),
        ("a cat BREAK a dog", "'BREAK'.*comma"),
        ("[cat:dog:0.5]", "edit.*must show"),
        ("<lora:x:1>", "'<lora:x:1>'.*load the network"),
        ("a cat AND a dog", "'AND'.*small letters"),
        ("embedding:x", "in words"),
        ("__color__", "wildcard.*name one"),
        ("a cat --no hats", "'--no'.*setting"),
    ],
)
def test_marks_are_refused_by_name_with_the_remedy(prompt: str, named: str) -> None:
    with pytest.raises(PromptError, match=named):
        without_marks(prompt, "mini")


def test_a_backslash_is_offered_for_brackets_alone() -> None:
    with pytest.raises(PromptError, match=r"negative prompt has .*backslash before a bracket"):
        without_marks("(lowres:1.4)", "mini", "negative prompt")
    with pytest.raises(PromptError) as refused:
        without_marks("a cat AND a dog", "mini")
    assert "backslash" not in str(refused.value)


MARKED = st.text(alphabet='ab ()[]{}:|<>"_-\\BREAKND1.', max_size=60)


@given(MARKED)
def test_taking_marks_out_loses_no_letter_of_unmarked_text(prompt: str) -> None:
    read = read_marks(prompt)
    if not read.marks:
        assert read.text.replace("\\", "") == prompt.replace("\\", "")


@given(MARKED)
def test_brackets_that_are_escaped_are_plain(text: str) -> None:
    brackets = "".join(c for c in text if c in "()[]{}")
    escaped = "".join(f"\\{bracket}" for bracket in brackets)
    assert without_marks(escaped, "mini") == brackets


@pytest.mark.parametrize(
    "unit",
    ["(", "((a:1) ", "<", "<lora:", "[a|", "\\", "[a:b:", "BREAK ", '"', "\u201c", "__a", "--a "],
)
def test_reading_takes_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        return thread_seconds(lambda: read_marks(unit * (size // len(unit))))

    assert seconds(80_000) < 20 * max(seconds(10_000), 0.02)
