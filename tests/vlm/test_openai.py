"""An OpenAI-compatible server over real sockets: what is sent, probed, retried and refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import ModelError
from npcorrect.mini.scene import Scene, Thing, to_image
from npcorrect.vlm import addresses
from npcorrect.vlm.base import Encoding, Message, Question, Reply
from npcorrect.vlm.capabilities import Capabilities
from npcorrect.vlm.openai import OpenAIVLM
from npcorrect.vlm.questions import instructions
from npcorrect.vlm.settings import RetryPolicy
from tests.vlm import loopback
from tests.vlm.loopback import MODEL, Server

PICTURE = to_image(Scene((Thing(0, 0, "apple", "red", "large"),)))
CHECK = Question(
    (
        Message("system", instructions("verifier")),
        Message("user", "<claim>all apples are red</claim>", (PICTURE,)),
    ),
    choices=("yes", "no"),
)
SCHEMA = {
    "type": "object",
    "properties": {"c0": {"type": "string"}},
    "required": ["c0"],
    "additionalProperties": False,
}
OBSERVE = Question(
    (
        Message("system", instructions("observer")),
        Message("user", "c0: <claim>exactly three apples</claim>", (PICTURE,)),
    ),
    schema=SCHEMA,
)


class Notes:
    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def recall(self, key: str) -> str | None:
        return self.kept.get(key)

    def keep(self, key: str, value: str) -> None:
        self.kept[key] = value


@contextmanager
def client(
    server: Server, model: str = MODEL, key: str = "", timeout: float = 10.0, **more: Any
) -> Iterator[OpenAIVLM]:
    retry_policy = RetryPolicy(tries=3, timeout=timeout, first_wait=0.01, longest_wait=0.05)
    named = addresses.server(f"{server.url}#{model}")
    with closing(OpenAIVLM(named, key, retry_policy=retry_policy, **more)) as vlm:
        yield vlm


def ask(question: Question, timeout: float = 10.0, **options: Any) -> tuple[Reply, Server]:
    with loopback.loopback(**options) as server, client(server, timeout=timeout) as vlm:
        (reply,) = vlm.ask([question])
    return reply, server


@pytest.mark.parametrize(
    ("server", "able"),
    [
        ({}, Capabilities(together=True)),
        ({"likely": 5}, Capabilities(likely=5, together=True)),
        ({"structure": "json"}, Capabilities(structure="json")),
        (
            {"structure": "none", "likely": 0, "limit": "max_completion_tokens"},
            Capabilities("max_completion_tokens", structure="words", likely=0),
        ),
        ({"temperature": False}, Capabilities(temperature=False, together=True)),
        ({"structure": "ignores"}, Capabilities(structure="json")),
    ],
)
def test_what_a_server_can_do_is_probed_once_and_remembered(
    server: dict[str, Any], able: Capabilities
) -> None:
    notes = Notes()
    with loopback.loopback(**server) as running:
        for _ in range(2):
            with client(running, memory=notes) as vlm:
                check, observe = vlm.ask([CHECK, OBSERVE])
                assert vlm.capabilities == able
                assert (check.text, check.error) == ("yes", "")
                assert observe.text == '{"c0": "one apple"}'
                assert bool(check.probabilities) == (able.likely > 0)
        probes = len(running.asked) - len(running.questions())
    assert len(running.questions()) == 4
    assert 2 <= probes <= 10
    assert len(notes.kept) == 1


def test_probabilities_are_those_of_the_choices() -> None:
    reply, _ = ask(CHECK)
    assert sum(reply.probabilities.values()) == pytest.approx(1)
    assert reply.probabilities["yes"] > 0.9


def test_first_tokens_are_asked_for_without_a_word_more() -> None:
    first = replace(CHECK, choices=(), tokens=True, max_tokens=1)
    reply, server = ask(first)
    assert reply.tokens
    assert sum(reply.tokens.values()) <= 1 + 1e-6
    (asked,) = server.questions()
    assert asked.body["messages"][-1]["content"][-1]["text"] == CHECK.messages[-1].text
    assert (asked.body["logprobs"], asked.body["top_logprobs"]) == (True, 20)
    assert asked.body["max_tokens"] == 1
    without, _ = ask(first, likely=0)
    assert (without.tokens, without.error) == ({}, "")


def test_a_text_may_come_before_its_picture() -> None:
    message = replace(
        CHECK.messages[-1], text_first=True, encoding=Encoding("JPEG", media_type="image/png")
    )
    _, server = ask(replace(CHECK, messages=(CHECK.messages[0], message), choices=()))
    text, picture = server.questions()[-1].body["messages"][-1]["content"]
    assert text["type"] == "text"
    assert picture["image_url"]["url"].startswith("data:image/png;base64,/9j/"), "a JPEG"


def test_pictures_go_as_data_in_one_message_and_large_ones_are_made_smaller() -> None:
    large = Image.new("RGB", (2400, 1200), "red")
    question = Question(
        (
            Message("system", instructions("captioner")),
            Message("user", "What is this?", (large, PICTURE)),
        ),
    )
    with loopback.loopback(fault=lambda asked: "empty") as server, client(server) as vlm:
        vlm.ask([question])
        (first, second) = server.questions()[0].images
    assert first.startswith("data:image/jpeg;base64,")
    assert second.startswith("data:image/png;base64,")
    assert loopback._picture(first).size == (1024, 512)
    assert loopback._picture(second).tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize("fault", loopback.HARMLESS)
@pytest.mark.parametrize("question", [CHECK, OBSERVE])
def test_what_stands_around_an_answer_does_not_matter(question: Question, fault: str) -> None:
    plain, _ = ask(question)
    reply, server = ask(question, fault=lambda asked: fault)
    assert (reply.text, reply.error) == (plain.text, "")
    assert len(server.questions()) == 1


@pytest.mark.parametrize("fault", [*loopback.TRANSIENT, *loopback.UNUSABLE])
def test_what_can_pass_is_asked_again_and_answered(fault: str) -> None:
    plain, _ = ask(OBSERVE)
    once = 2.5 if fault in ("hung", "slow") else 10.0
    reply, server = ask(OBSERVE, once, fault=lambda asked: None if asked.again else fault)
    assert (reply.text, reply.error) == (plain.text, "")
    assert len(server.questions()) == 2
    assert reply.usage.calls == len(server.questions())
    assert reply.usage.retries == (fault in loopback.TRANSIENT)


@pytest.mark.parametrize("question", [CHECK, OBSERVE])
@pytest.mark.parametrize("fault", loopback.FAULTS)
def test_what_does_not_pass_is_an_error_after_few_tries(fault: str, question: Question) -> None:
    timeout = 1.2 if fault in ("hung", "slow") else 10.0
    reply, server = ask(question, timeout, fault=lambda asked: fault)
    if fault == "truncated" and question is CHECK:
        assert reply.error or reply.text in ("yes", "no")
    else:
        assert reply.error
    tries = {**dict.fromkeys(loopback.TRANSIENT, 3), **dict.fromkeys(loopback.UNUSABLE, 2)}
    assert len(server.questions()) == tries.get(fault, 1)
    assert reply.usage.calls == len(server.questions())
    assert len(reply.text) <= 2000


def test_a_useless_answer_is_shown_to_the_model_with_the_reason() -> None:
    reply, server = ask(OBSERVE, fault=lambda asked: None if asked.again else "missing_fields")
    *_, said, again = server.questions()[1].body["messages"]
    assert said == {"role": "assistant", "content": "{}"}
    assert "'c0' is a required property" in again["content"]
    assert not reply.error


def test_a_cut_off_answer_gets_more_room() -> None:
    _, server = ask(OBSERVE, fault=lambda asked: None if asked.again else "truncated")
    assert [asked.body["max_tokens"] for asked in server.questions()] == [1024, 2048]


def test_the_raw_text_of_an_unusable_answer_is_kept() -> None:
    reply, _ = ask(OBSERVE, fault=lambda asked: "wrong_language")
    assert reply.text == "да, это верно"
    assert "no usable answer" in reply.error


def test_without_key_model_or_server_nothing_can_be_asked() -> None:
    with loopback.loopback(key="right") as server:
        with client(server, key="wrong") as vlm, pytest.raises(ModelError, match="refused the key"):
            vlm.ask([CHECK])
        with (
            client(server, model="gone", key="right") as vlm,
            pytest.raises(ModelError, match="has no model 'gone'"),
        ):
            vlm.ask([CHECK])
    with client(server, key="right") as vlm, pytest.raises(ModelError, match="cannot be reached"):
        vlm.ask([CHECK])


def test_a_refused_request_is_unscored_and_no_sign_of_a_wrong_key() -> None:
    notes = Notes()
    with loopback.loopback() as server:
        with client(server, memory=notes) as vlm:
            vlm.ask([CHECK])
        server.fault = lambda asked: "moderated"
        with client(server, memory=notes) as vlm:
            (reply,) = vlm.ask([CHECK])
            assert "this request (403: flagged by moderation)" in reply.error
            assert not reply.fatal
            server.fault = lambda asked: None
            assert vlm.ask([CHECK])[0].text == "yes"


@pytest.mark.parametrize("fault", ["unauthorized", "no_model"])
def test_a_server_that_answered_before_fails_one_question_at_a_time(fault: str) -> None:
    with loopback.loopback() as server, client(server) as vlm:
        assert not vlm.ask([CHECK])[0].error
        server.fault = lambda asked: fault
        replies = vlm.ask([CHECK, OBSERVE])
        assert all(reply.error and reply.fatal for reply in replies)
        server.fault = lambda asked: None
        assert not any(reply.error or reply.fatal for reply in vlm.ask([CHECK, OBSERVE]))


def test_a_remembered_server_that_is_away_is_an_input_error() -> None:
    notes = Notes()
    with loopback.loopback() as server, client(server, memory=notes) as vlm:
        vlm.ask([CHECK])
    with client(server, memory=notes) as vlm, pytest.raises(ModelError, match="cannot be reached"):
        vlm.ask([CHECK])


def test_questions_are_asked_at_once_and_answered_in_order() -> None:
    claims = [f"all apples are {color}" for color in ("red", "blue", "pink", "red")]
    questions = [
        Question(
            (CHECK.messages[0], Message("user", f"<claim>{claim}</claim> {n}", (PICTURE,))),
            choices=("yes", "no"),
        )
        for n, claim in enumerate(claims * 4)
    ]
    with loopback.loopback(wait=0.2) as server, client(server) as vlm:
        replies = vlm.ask(questions)
        assert vlm.ask([]) == []
    assert [reply.text for reply in replies] == ["yes", "no", "no", "yes"] * 4
    assert sum(reply.usage.calls for reply in replies) == len(server.questions())


def test_closing_ends_what_is_still_being_asked() -> None:
    with loopback.loopback(fault=lambda asked: "hung") as server, ThreadPoolExecutor(1) as pool:
        with client(server) as vlm:
            asking = pool.submit(vlm.ask, [CHECK])
            while not server.injected:
                time.sleep(0.01)
        with pytest.raises(CancelledError):
            asking.result(timeout=30)
