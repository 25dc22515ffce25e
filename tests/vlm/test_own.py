"""What a model of somebody's own says is read as a server's reply is."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import VLMError
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.base import Message, Question, Reply
from npcorrect.vlm.build import played_by
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.own import OwnVLM

QUESTION = Question((Message("user", "Is it red?"),), choices=("yes", "no"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
APPLE = Checklist("an apple", (Requirement("r1", "object", "an apple", "apple", "apple"),))
PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    "answers", [None, [], ["yes"], [Reply("yes")] * 2, [Reply(5)], [Reply(None)]]  # type: ignore[arg-type]
)  # fmt: skip
def test_something_else_than_replies_is_one_sentence(answers: Any) -> None:
    own = FakeVLM()
    own.ask = lambda questions: answers  # type: ignore[method-assign]
    with pytest.raises(VLMError, match=r"'fake' gave .* to 1 questions.*; give one to each"):
        OwnVLM(own).ask([QUESTION])


@pytest.mark.parametrize("text", ["Yes.", " yes\n", "**yes**", "<think>no?</think>yes"])
def test_an_answer_is_read_whatever_is_around_it(text: str) -> None:
    assert OwnVLM(FakeVLM([text])).ask([QUESTION]) == [
        Reply("yes", usage=FakeVLM([text]).ask([QUESTION])[0].usage, model="fake")
    ]


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        (Reply(""), QUESTION),
        (Reply("perhaps"), QUESTION),
        (Reply("yes", probabilities={"yes": 1.5}), QUESTION),
        (Reply("yes", probabilities={"maybe": 0.5}), QUESTION),
        (Reply("yes"), Question(QUESTION.messages, schema=SCHEMA)),
        (Reply('{"a": 3}'), Question(QUESTION.messages, schema=SCHEMA)),
    ],
)
def test_what_is_no_answer_is_unscored_and_never_wrong(reply: Reply, question: Question) -> None:
    (read,) = OwnVLM(FakeVLM([reply])).ask([question])
    assert "gave no usable answer" in read.error
    assert read.text == reply.text


@pytest.mark.parametrize(("text", "passed"), [("Yes!", True), ("NO", False)])
def test_a_picture_is_verified_by_what_was_said(text: str, passed: bool) -> None:
    verifier = played_by(FakeVLM([text], repeat=True)).verifier
    assert verifier.verify(PICTURE, APPLE).accepted is passed


def test_a_picture_of_which_nothing_usable_was_said_is_unscored() -> None:
    verifier = played_by(FakeVLM(["I see"], repeat=True)).verifier
    with pytest.raises(VLMError, match="not one of the words yes, no"):
        verifier.verify(PICTURE, APPLE)
