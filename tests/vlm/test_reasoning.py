"""What is thought is no answer, wherever it stands and however it is marked."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npcorrect.vlm.base import Question
from npcorrect.vlm.reasoning import (
    ANSWERS,
    LANGUAGES,
    LAYOUT,
    MAX_TEXT,
    THOUGHTS,
    TURNS,
    UnfinishedError,
    UnusableError,
    bare,
)
from npcorrect.vlm.replies import choice_in, object_in, read
from tests.timing import thread_seconds

SCHEMA = {
    "type": "object",
    "properties": {"correct": {"type": "integer"}, "reason": {"type": "string"}},
    "required": ["correct", "reason"],
    "additionalProperties": False,
}
DRAFT, FINAL = {"correct": 0, "reason": "draft"}, {"correct": 1, "reason": "two apples"}
PAIRS = [
    *((f"<{name}>", f"</{name}>") for name in sorted(THOUGHTS)),
    *(
        (f"<{name}>", f"</{name}>")
        for name in (
            "think",
            "thinking",
            "thought",
            "seed:think",
            "reasoning",
            "chain-of-thought",
            "deep_think",
            "inner_monologue",
            "scratch-pad",
            "deliberation",
            "self_critique",
            "reflexive.analysis",
            "ponder",
            "contemplation",
            "hypothesis",
            "\u601d\u8003",
        )
    ),
    ("\\u003cthink\\u003e", "\\u003c/think\\u003e"),
    ("&#60;think&#62;", "&#x3C;&#x2F;think&#x3E;"),
    ("%3Cthink%3E", "%3C%2Fthink%3E"),
    ("\uff1cthink\uff1e", "\uff1c\uff0fthink\uff1e"),
    ("\u3010\u601d\u8003\u3011", "\u3010/\u601d\u8003\u3011"),
    ("<think\n>", "</think\n>"),
    ('<details type="reasoning" done="true">', "</details>"),
    ("<think>Thinking...\n", "...done thinking."),
    ("<\uff5cbegin\u2581of\u2581thinking\uff5c>", "<\uff5cend\u2581of\u2581thinking\uff5c>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<THINK>", "</THINK>"),
    ("<Thinking >", "</ Thinking>"),
    ('<think mode="deep">', "</think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|thought_start|>", "<|thought_end|>"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>commentary<|message|>", "<|channel|>final <|constrain|>json<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("analysis", "assistantfinal"),
]
pairs = st.sampled_from(PAIRS)


@pytest.mark.parametrize(("opener", "closer"), PAIRS)
@pytest.mark.parametrize("opened", [True, False])
def test_everything_up_to_the_last_closing_mark_is_thought(
    opener: str, closer: str, opened: bool
) -> None:
    if not opened and closer == "assistantfinal":
        pytest.skip("without its opener it is a word")
    begin = opener if opened else ""
    thought = f"{begin}Say {json.dumps(DRAFT)}. no{closer}"
    assert json.loads(object_in(f"{thought}\n{json.dumps(FINAL)}", SCHEMA)) == FINAL
    assert choice_in(f"{thought}\n\nYes.", ("yes", "no")) == "yes"
    with pytest.raises(UnusableError):
        object_in(thought, SCHEMA)
    with pytest.raises(UnusableError):
        choice_in(f"{begin}no{closer}", ("yes", "no"))


@pytest.mark.parametrize(("opener", "closer"), PAIRS)
def test_a_text_that_ends_inside_a_thought_has_no_answer(opener: str, closer: str) -> None:
    draft = f"{opener}Let me see: {json.dumps(DRAFT)}"
    with pytest.raises(UnfinishedError):
        object_in(draft, SCHEMA)
    if closer != "assistantfinal":
        with pytest.raises(UnfinishedError):
            object_in(f"{opener}once{closer}{json.dumps(DRAFT)}{opener}again", SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>yes</answer>",
        "I see one. <answer> Yes </answer>",
        "\\boxed{yes}",
        "So the answer is $\\boxed{\\text{Yes}}$.",
        "First \\boxed{yes}, and so \\boxed{ yes }",
        "yes<|im_end|>",
        "<|im_start|>assistant\nyes<|im_end|>\n<|endoftext|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nyes<|eot_id|>",
        "yes</s>",
        "yes<end_of_turn>",
        "yes<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<|begin_of_box|>yes<|end_of_box|>",
        "[ANSWER]yes[/ANSWER]",
        "&lt;answer&gt;yes&lt;/answer&gt;",
        "<result>yes</result>",
        "\x08oxed{yes}",
        "yes<0x0A>",
        "<think>no</think><answer><|begin_of_box|>yes<|end_of_box|></answer>",
        "```\nyes\n```",
        "```text\nyes\n```",
        "_yes_",
        "\u201cYes\u201d",
    ],
)
def test_boxes_and_special_tokens_are_taken_off(text: str) -> None:
    assert choice_in(text, ("yes", "no")) == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "<answer>yes</answer><answer>no</answer>",
        "\\boxed{yes} or \\boxed{no}",
        "no<|im_end|>\n<|im_start|>assistant\nyes",
        "yes<|im_end|>\n<|im_start|>user\nand now?",
        "yes </think>",
        "yes <think>",
        "<answer></answer>",
    ],
)
def test_two_answers_or_none_are_unusable(text: str) -> None:
    with pytest.raises(UnusableError):
        choice_in(text, ("yes", "no"))


def enclosures(name: str) -> list[tuple[str, str]]:
    """The ways to mark a part of a text with a name."""
    return [
        (f"<{name}>", f"</{name}>"),
        (f"<{name.upper()} mode='x'>", f"</ {name} >"),
        (f"<|{name}|>", f"<|/{name}|>"),
        (f"<|begin_of_{name}|>", f"<|end_of_{name}|>"),
        (f"[{name}]", f"[/{name}]"),
        (f"\u25c1{name}\u25b7", f"\u25c1/{name}\u25b7"),
        (f"&lt;{name}&gt;", f"&lt;/{name}&gt;"),
        (f"```{name}\n", "\n```"),
        (f"~~~{name}\n", "\n~~~"),
        (f"<!-- {name}", "-->"),
        (f"/* {name}", "*/"),
    ]


KNOWN = ANSWERS | LAYOUT | LANGUAGES | TURNS
NAMES = ("musing", "first-look", "aside", "self_talk", "zzz", "ruminate")


@pytest.mark.parametrize("around", ["", "<answer>{}</answer>", "\\boxed{{{}}}", "```json\n{}\n```"])
@pytest.mark.parametrize(("opener", "closer"), [pair for n in NAMES for pair in enclosures(n)])
def test_what_stands_in_a_mark_of_unknown_name_is_no_answer(
    opener: str, closer: str, around: str
) -> None:
    for said, read_it in ((json.dumps(DRAFT), reads_object), ("no", reads_choice)):
        draft = opener + (around.format(said) if around else said) + closer
        for text in (draft, draft + "\nSo it is.", f"{draft}\n{opener}{said}"):
            with pytest.raises(UnusableError):
                read_it(text)
    final = json.dumps(FINAL)
    draft = f"{opener}{json.dumps(DRAFT)}{closer}"
    assert json.loads(object_in(f"{draft}\n{final}", SCHEMA)) == FINAL
    assert json.loads(object_in(f"{draft}<answer>{final}</answer>", SCHEMA)) == FINAL
    with pytest.raises(UnusableError):
        read(f"{opener}A cup.{closer}", Question(()))
    with pytest.raises(UnusableError):
        read(f"{opener}A cup.{closer} A red one.", Question(()), whole=True)


def reads_object(text: str) -> str:
    return object_in(text, SCHEMA)


def reads_choice(text: str) -> str:
    return choice_in(text, ("yes", "no"))


@pytest.mark.parametrize(
    "text",
    [
        "<musing>{}", "{}</musing>", "<|musing|>{}<|/musing|>", "```thinking\n{}\n",
        "<answer><musing>{}</musing></answer>", "{}</musing> That is it.",
    ],
)  # fmt: skip
def test_half_a_mark_of_unknown_name_is_one(text: str) -> None:
    with pytest.raises(UnusableError):
        object_in(text.format(json.dumps(DRAFT)), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "<final_answer>{}</final_answer>", "<json_output>{}</json_output>", "<p>{}</p>",
        "<pre><code>{}</code></pre>", "```python\n{}\n```", "~~~json\n{}\n~~~", "<s>{}</s>",
        "<|im_start|>assistant\n{}<|im_end|>", "<|begin_of_text|>{}<|end_of_text|>",
        "<|start_header_id|>assistant<|end_header_id|>\n{}<|eot_id|>", "{}<|return|>",
        "<|start_of_role|>assistant<|end_of_role|>{}<|end_of_text|>", "{} <note",
    ],
)  # fmt: skip
def test_layout_and_turns_are_no_marks_around_drafts(text: str) -> None:
    assert json.loads(object_in(text.format(json.dumps(FINAL)), SCHEMA)) == FINAL


@pytest.mark.parametrize(
    "text",
    [
        'A sign that says "<sale>50 %</sale>" hangs on a wall.',
        "A <b>red</b> cup.",
        "A letter \u201c[a]\u201d stands left of a cup.",
        "The cup is <small> here.",
    ],
)
def test_marks_in_a_description_may_be_writing(text: str) -> None:
    assert read(text, Question(())).text == text


def test_offsets_stay_what_they_are() -> None:
    text = "<think>\u00e9\U0001f600</think> **Yes**<|im_end|>"
    assert len(bare(text)) == len(text)
    answer = read(text, Question((), choices=("yes", "no")))
    assert text[answer.start : answer.end] == "Yes"


PIECES = st.lists(
    st.one_of(
        st.text(max_size=12),
        pairs.map(lambda pair: pair[0]),
        pairs.map(lambda pair: pair[1]),
        st.sampled_from(
            ["yes", "no", "```json\n", "```", "<answer>", "</answer>", "\\boxed{", "}", "{",
             "<|im_end|>", json.dumps(DRAFT), json.dumps(FINAL), "\ud800", "\ufeff", "\x1b[2J"]
        ),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(PIECES)
@settings(max_examples=300)
def test_no_text_breaks_the_reading(text: str) -> None:
    for question in (
        Question((), schema=SCHEMA),
        Question((), choices=("yes", "no")),
        Question(()),
    ):
        try:
            answer = read(text, question)
        except UnusableError:
            continue
        answer.text.encode()
        assert 0 <= answer.start <= answer.end <= len(text)


ENDS = ["", "So it is correct.", json.dumps(FINAL)[:-3], '{"correct": 1.5, "reason": ""}', "{"]


@given(PIECES, pairs, st.sampled_from(["", " ", "\n\n"]), st.sampled_from(ENDS))
@settings(max_examples=200)
def test_no_draft_is_ever_taken(noise: str, pair: tuple[str, str], gap: str, end: str) -> None:
    opener, closer = pair
    if opener == "analysis":
        opener, closer = "<think>", "</think>"
    drafts = f"{noise}{opener} {json.dumps(DRAFT)} no {closer}{gap}"
    assert json.loads(object_in(drafts + json.dumps(FINAL), SCHEMA)) == FINAL
    assert choice_in(f"{drafts}yes", ("yes", "no")) == "yes"
    with pytest.raises(UnusableError):
        object_in(drafts + end, SCHEMA)


@pytest.mark.parametrize(
    "unit",
    ["a" + "." * 100_000 + "a", "<think>", "</think>", "<", "<a", "<|", "<|channel|>", "<think ",
     "\\boxed{", "{", '{"a":', "[", "```", "&lt;", "<|start_header_id|>a", "\\a", "\\", " ", "\n",
     "_", "analysis", "assistantfinal", "<answer>", '{"correct":1,"reason":"a"}', "<|a", "</",
     "&#0", "%7"],
)  # fmt: skip
@pytest.mark.parametrize("size", [MAX_TEXT, 2**20])
def test_no_text_takes_long(unit: str, size: int) -> None:
    text = (unit * (size // len(unit) + 1))[:size]

    def refuse() -> None:
        for question in (Question((), schema=SCHEMA), Question((), choices=("yes", "no"))):
            with pytest.raises(UnusableError):
                read(text, question)

    assert thread_seconds(refuse) < 4


@given(
    st.from_regex(r"[a-z]{3,9}([_-][a-z]{3,6})?", fullmatch=True)
    .filter(lambda name: not KNOWN & {*re.split("[_-]", name)})
    .flatmap(lambda name: st.sampled_from(enclosures(name))),
    st.text(alphabet='ab {}"<>/[]`\n', max_size=12),
)
@settings(max_examples=300)
def test_no_draft_in_a_mark_of_any_name_is_taken(pair: tuple[str, str], noise: str) -> None:
    opener, closer = pair
    draft, end = f"{opener}{noise}{json.dumps(DRAFT)}{closer}", json.dumps(FINAL)
    for text in (draft + end, f"{noise}{draft}{noise}{end}", f"{draft}<answer>{end}</answer>"):
        try:
            assert json.loads(object_in(text, SCHEMA)) == FINAL
        except UnusableError:
            continue
