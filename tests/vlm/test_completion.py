"""What a server replies is read leniently: nothing beside the answer ever costs the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.vlm.completion import error_in, parse
from tests.timing import thread_seconds

JUNK = [None, -1, 1.5, True, "x", [], {}, [None], {"content": None}, 10**400, float("inf")]


def body(message: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"message": {"content": "yes"} if message is None else message, **more}
    return {"choices": [choice]}


def text(raw: Any) -> str | None:
    completion = parse(raw if isinstance(raw, str) else json.dumps(raw))
    return completion.text if completion else None


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize(
    "field", ["usage", "logprobs", "finish_reason", "refusal", "reasoning", "reasoning_content"]
)
def test_each_side_field_falls_back_by_itself(field: str, junk: Any) -> None:
    whole = body()
    if field == "usage":
        whole[field] = junk
    elif field in ("refusal", "reasoning", "reasoning_content"):
        whole["choices"][0]["message"][field] = junk
    else:
        whole["choices"][0][field] = junk
    completion = parse(json.dumps(whole))
    assert completion
    assert (completion.text, completion.tokens, completion.written) == ("yes", None, [])
    assert not completion.cut_off


@pytest.mark.parametrize("junk", JUNK)
def test_one_unknown_count_of_tokens_leaves_the_answer(junk: Any) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": junk, "completion_tokens_details": junk}
    completion = parse(json.dumps(body() | {"usage": usage}))
    assert completion
    assert (completion.text, completion.thought_tokens) == ("yes", 0)
    assert completion.tokens in (None, (5, 1))


@pytest.mark.parametrize("junk", JUNK)
def test_one_unreadable_alternative_leaves_the_others(junk: Any) -> None:
    listed = [{"token": "yes", "logprob": -0.1}, junk, {"token": "no", "logprob": -2.5}]
    place = {"token": "yes", "logprob": -0.1, "top_logprobs": listed}
    completion = parse(json.dumps(body(logprobs={"content": [place]})))
    assert completion
    assert [dict(token.likely) for token in completion.written] == [{"yes": -0.1, "no": -2.5}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "text", "text": "ye"}, {"type": "text", "text": "s"}], "yes"),
        ([{"type": "thinking", "thinking": "no"}, {"type": "text", "text": "yes"}], "yes"),
        ([{"type": "reasoning", "text": "no"}, {"type": "output_text", "text": "yes"}], "yes"),
        (["yes"], "yes"),
        ([], ""),
        ([{"type": "text", "text": None}, None, 5], ""),
        (None, ""),
        ({"answer": ["yes"]}, ""),
        ("\ud800 yes", "\ufffd yes"),
    ],
)
def test_content_may_be_a_list_of_parts(content: Any, said: str) -> None:
    assert text(body({"content": content})) == said


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_thought_has_several_names(field: str) -> None:
    completion = parse(json.dumps(body({"content": None, field: "Hm."}, finish_reason="length")))
    assert completion
    assert (completion.text, completion.thought) == ("", "Hm.")
    assert completion.thinks
    assert completion.cut_off


@pytest.mark.parametrize(
    ("reason", "cut_off", "broken_off"),
    [
        ("stop", False, False),
        ("tool_calls", False, False),
        ("length", True, False),
        ("MAX_TOKENS", True, False),
        ("max_output_tokens", True, False),
        ("model_length", True, False),
        ("content_filter", False, True),
        ("SAFETY", False, True),
        ("abort", False, True),
        ("error", False, True),
    ],
)
def test_a_text_that_is_not_whole_is_told_by_its_end(
    reason: str, cut_off: bool, broken_off: bool
) -> None:
    completion = parse(json.dumps(body(finish_reason=reason)))
    assert completion
    assert (completion.cut_off, completion.broken_off) == (cut_off, broken_off)


def test_lines_before_a_reply_take_linear_time() -> None:
    def read() -> None:
        for unit in (": \n", "event:\n", "data:", "\n", "id:x\n "):
            assert parse(unit * (2**20 // len(unit))) is None

    assert thread_seconds(read) < 2


GOOD = json.dumps(body())


@pytest.mark.parametrize(
    "raw",
    [
        f"data: {GOOD}\n\ndata: [DONE]\n\n",
        f"{GOOD}\n\ndata: [DONE]",
        f": keep-alive\n\n: keep-alive\nevent: message\nid: 1\ndata: {GOOD}\n\ndata: [DONE]",
        f"\n\n\n{GOOD}",
        f"\ufeff{GOOD}",
        f" \n{GOOD}\n",
        GOOD.replace('"yes"', '"yes\n"'),
    ],
)
def test_marks_of_a_stream_and_raw_line_breaks_do_not_matter(raw: str) -> None:
    assert (text(raw) or "").strip() == "yes"


@pytest.mark.parametrize(
    "raw",
    ["", "null", "[]", "5", "<html>It works!</html>", '{"choices": []}', '{"choices": [{}]}',
     '{"error": {"message": "no"}}', "[" * 100_000, GOOD[:-3], f"{GOOD} {GOOD}", '{"a":' * 5000],
)  # fmt: skip
def test_anything_else_is_no_completion(raw: str) -> None:
    assert parse(raw) is None


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ('{"error": {"message": "no such model", "code": "gone"}}', ("no such model", "gone")),
        ('{"error": {"message": "m", "code": 400, "type": "bad"}}', ("m", "bad")),
        ('{"error": "Unexpected endpoint"}', ("Unexpected endpoint", "")),
        ('{"detail": "Not Found"}', ("Not Found", "")),
        ('{"error": {"message": ["x"]}}', ("", "")),
        ("<html>", ("", "")),
        ("[1]", ("", "")),
    ],
)
def test_errors_are_read_wherever_servers_put_them(raw: str, said: tuple[str, str]) -> None:
    assert error_in(raw) == said


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(anything, anything, anything, anything)
def test_no_reply_breaks_the_reading(content: Any, logprobs: Any, usage: Any, thought: Any) -> None:
    whole = body({"content": content, "reasoning": thought}, logprobs=logprobs) | {"usage": usage}
    completion = parse(json.dumps(whole))
    assert completion
    completion.text.encode()
    completion.thought.encode()
    assert completion.tokens is None or min(completion.tokens) >= 0
    assert completion.written is not None
