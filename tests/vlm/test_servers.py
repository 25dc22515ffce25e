"""What servers do that are not what they should be, and servers whose models think."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import ModelError, SettingsError
from npcorrect.mini.scene import Scene, Thing, to_image
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm import addresses
from npcorrect.vlm.base import Message, Question
from npcorrect.vlm.capabilities import THOUGHT_ROOM, Capabilities
from npcorrect.vlm.openai import OpenAIVLM
from npcorrect.vlm.questions import about_claim
from npcorrect.vlm.settings import RetryPolicy
from npcorrect.vlm.transport import _named_wait
from npcorrect.vlm.verifier import VLMVerifier
from tests.vlm.loopback import loopback
from tests.vlm.scripted import Body, Reply, completion, error, scripted

PICTURE = to_image(Scene((Thing(0, 0, "apple", "red", "large"),)))
CLAIMS = ("at least one apple is visible", "exactly two apples", "all apples are red")
CHECKLIST = Checklist(
    "", tuple(Requirement(f"r{n}", "count", t, "apple", "") for n, t in enumerate(CLAIMS))
)
CHECK = Question(
    (Message("user", "Is it red?", (Image.new("RGB", (8, 8)),)),), choices=("yes", "no")
)
QUICK = RetryPolicy(tries=2, timeout=60.0, first_wait=0.001, longest_wait=0.01)


class Notes(dict[str, str]):
    """A memory whose content can be looked at."""

    def recall(self, key: str) -> str | None:
        return self.get(key)

    def keep(self, key: str, value: str) -> None:
        self[key] = value


@contextmanager
def client(name: str, key: str = "", **more: Any) -> Iterator[OpenAIVLM]:
    named = addresses.server(name)
    with closing(OpenAIVLM(named, key, retry_policy=QUICK, **more)) as vlm:
        yield vlm


def is_bare(body: Body) -> bool:
    return not {"temperature", "seed", "response_format", "logprobs"} & body.keys()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error("Incorrect API key provided", 400), "Incorrect API key provided"),
        (error("No models loaded", 400), "No models loaded"),
        (error("Insufficient credits", 402), "paid"),
        (error("no", 405), "/v1"),
        (error("too large", 413), "too large"),
        (error("Unprocessable", 422), "Unprocessable"),
        (error("gone", 404), "has no model"),
        (error("no", 401), "refused the key"),
        (error("not from your country", 403), "this request (403: not from your country)"),
        (Reply({"detail": [{"loc": ["body", 0], "msg": "Field required"}]}, 422), "Field required"),
        (Reply({"error": "later"}, 429, {"retry-after": "3600"}), "gave no answer (429: later)"),
        (Reply("", 307, {"location": "http://127.0.0.1:1/"}), "/v1"),
        (Reply("<html>It works!</html>"), "/v1"),
        (Reply({"error": "Unexpected endpoint or method. (POST /chat/completions)"}), "/v1"),
        (Reply({"error": {"message": "model not loaded"}}), "model not loaded"),
        (Reply("null"), "/v1"),
        (error("image input is not supported", 500), "image input is not supported"),
        (error("busy", 503), "gave no answer in 2 tries"),
    ],
)
def test_a_server_that_answers_no_bare_request_is_an_error_and_nothing_is_remembered(
    reply: Reply, says: str
) -> None:
    notes = Notes()
    with scripted(lambda body: reply) as server:
        with client(f"{server.url}#m", memory=notes) as vlm, pytest.raises(ModelError) as caught:
            vlm.connect()
        assert all(is_bare(body) for body in server.asked)
        assert any("image_url" in json.dumps(body) for body in server.asked)
    assert says in str(caught.value)
    assert not notes


def test_an_address_with_v1_is_not_told_to_add_it() -> None:
    with (
        scripted(lambda body: Reply("<html>")) as server,
        client(f"{server.url}/v1#m") as vlm,
        pytest.raises(ModelError, match="check the address"),
    ):
        vlm.connect()


@pytest.mark.parametrize("code", [400, 403, 404, 422, 500, 501, 503])
@pytest.mark.parametrize(
    ("extra", "able"),
    [
        ("logprobs", Capabilities(likely=0)),
        ("response_format", Capabilities(structure="words")),
        ("temperature", Capabilities(temperature=False, together=True)),
        ("seed", Capabilities(seed=False, together=True)),
    ],
)
def test_a_failure_with_an_extra_counts_against_the_extra(
    code: int, extra: str, able: Capabilities
) -> None:
    notes = Notes()
    with loopback(failing={extra: code}) as server, client(server.name, memory=notes) as vlm:
        vlm.connect()
        assert vlm.capabilities == able
        assert VLMVerifier(vlm).verify(PICTURE, CHECKLIST).checks[1].passed is False
    assert len(notes) == 1


@pytest.mark.parametrize(
    "down",
    [
        error("down", 503),
        Reply({"error": "later"}, 429, {"retry-after": "3600"}),
        Reply({"error": "later"}, 503, {"retry-after": "Fri, 31 Dec 2999 23:59:59 GMT"}),
        Reply({"error": {"message": "spent", "code": "insufficient_quota"}}, 429),
    ],
)
def test_an_outage_while_probing_counts_against_nothing(down: Reply) -> None:
    notes, asked = Notes(), []

    def answer(body: Body) -> Reply:
        asked.append(body)
        return Reply(completion()) if len(asked) == 1 else down

    with scripted(answer) as server, client(f"{server.url}/v1#m", memory=notes) as vlm:
        with pytest.raises(ModelError, match=r"down|later|spent"):
            vlm.connect()
        assert vlm.capabilities is None
    assert not notes


def test_what_is_remembered_belongs_to_the_key_and_not_to_the_spelling() -> None:
    notes = Notes()
    with loopback(key="sk-right-one") as server:
        with client(server.name, "sk-right-one", memory=notes) as vlm:
            vlm.connect()
        asked = len(server.asked)
        with client(server.name.replace("127.0.0.1", "LOCALHOST").replace("#", "/#"),
                    "sk-right-one", memory=notes) as vlm:  # fmt: skip
            vlm.connect()
        assert len(server.asked) == asked
        with (
            client(server.name, "sk-wrong-one", memory=notes) as vlm,
            pytest.raises(ModelError, match="refused the key"),
        ):
            vlm.connect()


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "{}x",
        "[]",
        '{"likely": "many"}',
        '{"structure": "magic"}',
        '{"switch": {"messages": []}}',
    ],
)
def test_garbage_among_what_is_remembered_is_probed_again(kept: str) -> None:
    notes = Notes()
    with loopback() as server:
        with client(server.name, memory=notes) as vlm:
            vlm.connect()
        (key,) = notes
        notes[key] = kept
        with client(server.name, memory=notes) as vlm:
            vlm.connect()
            assert vlm.capabilities == Capabilities(together=True)


def test_instructions_are_folded_in_where_there_is_no_system_role() -> None:
    with loopback(system=False) as server, client(server.name) as vlm:
        verdict = VLMVerifier(vlm).verify(PICTURE, CHECKLIST)
        assert vlm.capabilities == Capabilities(system=False, together=True)
        assert [check.passed for check in verdict.checks] == [True, False, True]
        assert all(len(asked.body["messages"]) == 1 for asked in server.questions())


@pytest.mark.parametrize("code", [400, 422, 500, 501])
def test_a_server_may_break_at_a_system_message(code: int) -> None:
    def answer(body: Body) -> Reply:
        instructed = body["messages"][0]["role"] == "system"
        return error("System role not supported", code) if instructed else Reply(completion())

    with scripted(answer) as server, client(f"{server.url}/v1#m") as vlm:
        assert vlm.ask([CHECK])[0].text == "yes"
        assert vlm.capabilities is not None
        assert not vlm.capabilities.system


def test_a_model_without_eyes_is_found_out_at_once() -> None:
    with (
        loopback(sees=False) as server,
        client(server.name) as vlm,
        pytest.raises(ModelError, match=r"image input is not supported.*about pictures"),
    ):
        vlm.connect()


def test_probing_is_charged_to_no_question() -> None:
    with loopback() as server, client(server.name) as vlm:
        (reply,) = vlm.ask([about_claim(CLAIMS[2], PICTURE)])
        assert reply.usage.calls == 1
        assert vlm.probed.calls == len(server.asked) - 1
        assert vlm.probed.calls <= 7


def test_a_stream_is_declined() -> None:
    with scripted(lambda body: Reply(completion())) as server, client(f"{server.url}/v1#m") as vlm:
        assert vlm.ask([CHECK])[0].text == "yes"
    assert all(body["stream"] is False for body in server.asked)


THINKERS = {
    "ollama": {"reasoning_effort": "none"},
    "vllm": {"chat_template_kwargs": {"enable_thinking": False}},
    "vllm-raw": {"chat_template_kwargs": {"enable_thinking": False}},
    "openai": {"reasoning_effort": "minimal"},
}


@pytest.mark.parametrize(("kind", "switch"), THINKERS.items())
def test_thought_is_turned_off_as_the_server_takes_it(kind: str, switch: dict[str, Any]) -> None:
    options = {"limit": "max_completion_tokens"} if kind == "openai" else {}
    with loopback(thinks=kind, **options) as server, client(server.name) as vlm:
        verdict = VLMVerifier(vlm).verify(PICTURE, CHECKLIST)
        assert vlm.capabilities is not None
        assert vlm.capabilities.switch == switch
        assert not vlm.capabilities.thinks
        assert all(switch.items() <= asked.body.items() for asked in server.questions())
    assert [check.passed for check in verdict.checks] == [True, False, True]
    assert verdict.error == ""


def test_a_gpt_5_takes_no_temperature_and_gives_no_probabilities() -> None:
    with (
        loopback(thinks="openai", limit="max_completion_tokens") as server,
        client(server.name) as vlm,
    ):
        vlm.connect()
        assert vlm.capabilities == Capabilities(
            "max_completion_tokens", temperature=False, likely=0,
            switch={"reasoning_effort": "minimal"},
        )  # fmt: skip


def test_a_model_that_always_thinks_gets_room_for_it() -> None:
    with loopback(thinks="ollama-always") as server, client(server.name) as vlm:
        verdict = VLMVerifier(vlm).verify(PICTURE, CHECKLIST)
        assert vlm.capabilities is not None
        assert vlm.capabilities.thinks
        limits = {asked.body["max_tokens"] for asked in server.questions()}
        assert limits == {1024 + THOUGHT_ROOM}
        (judged,) = vlm.ask([Question((Message("user", "Two?"),), max_tokens=8)])
    assert [check.passed for check in verdict.checks] == [True, False, True]
    assert not judged.error


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_limit_that_thought_used_up_is_raised_once_and_the_remedy_is_named(field: str) -> None:
    limits = []

    def answer(body: Body) -> Reply:
        if is_bare(body) or "response_format" in body or "logprobs" in body:
            return Reply(completion("an apple"))
        limits.append(body["max_tokens"])
        message = {"content": "", field: 'no. {"correct": 0}'}
        return Reply({"choices": [{"message": message, "finish_reason": "length"}]})

    question = Question((Message("user", "Two?"),), max_tokens=8, choices=("yes", "no"))
    with scripted(answer) as server, client(f"{server.url}/v1#m") as vlm:
        (reply,) = vlm.ask([question])
    assert limits[-2:] == [8, 8 + THOUGHT_ROOM]
    assert "does not think" in reply.error


@pytest.mark.parametrize("text", ["\n", "", "<", "**", "...", "<think>"])
def test_a_reply_that_begins_with_no_word_has_no_first_tokens(text: str) -> None:
    def answer(body: Body) -> Reply:
        return Reply(completion(text if "Two?" in json.dumps(body) else "a circle"))

    question = Question((Message("user", "Two?"),), max_tokens=1, tokens=True)
    with scripted(answer) as server, client(f"{server.url}/v1#m") as vlm:
        (reply,) = vlm.ask([question])
    assert "it begins with" in reply.error
    assert not reply.tokens


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "reasoning": "yes"},
        {"content": None, "reasoning_content": "Hm, no.</think>Yes."},
    ],
)
def test_an_answer_in_the_field_for_thought_is_an_answer_where_it_is_alone(
    message: dict[str, Any],
) -> None:
    def answer(body: Body) -> Reply:
        asking = "Is it red?" in json.dumps(body)
        said = message if asking else {"content": "an apple"}
        return Reply({"choices": [{"message": said, "finish_reason": "stop"}]})

    with scripted(answer) as server, client(f"{server.url}/v1#m") as vlm:
        (reply,) = vlm.ask([CHECK])
        message["reasoning"] = message["reasoning_content"] = "I think yes."
        (draft,) = vlm.ask([CHECK])
    assert (reply.text, reply.error) == ("yes", "")
    assert draft.error


@pytest.mark.parametrize(
    "usage", [None, {}, [], "much", {"prompt_tokens": None}, {"prompt_tokens": 1.5}, 10**400]
)
def test_unknown_usage_costs_no_second_request(usage: Any) -> None:
    whole = Reply(completion(usage=usage))
    with scripted(lambda body: whole) as server, client(f"{server.url}/v1#m") as vlm:
        (reply,) = vlm.ask([CHECK])
    assert (reply.text, reply.usage.calls, reply.usage.input_tokens) == ("yes", 1, 0)


def test_wrong_language_is_asked_again_and_right_when_it_is_english() -> None:
    from npcorrect.vlm.model_roles import VLMCaptioner

    told: list[str] = []

    def answer(body: Body) -> Reply:
        if "You describe a picture" not in json.dumps(body):
            return Reply(completion())
        told.append(str(body["messages"][-1]["content"]))
        text = "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u043a\u0440\u0443\u0433"
        said = text if len(told) == 1 else "a red apple"
        return Reply(completion(json.dumps({"text": said, "phrases": []})))

    with scripted(answer) as server, client(f"{server.url}/v1#m") as vlm:
        assert VLMCaptioner(vlm).caption(PICTURE).text == "a red apple"
    assert len(told) == 2
    assert "not in English" in told[1]


def test_waits_are_named_in_seconds_or_as_a_date() -> None:
    assert _named_wait({"retry-after": "2.5"}) == 2.5
    assert _named_wait({"retry-after": "-5"}) == 0
    moment = int(time.time()) + 30
    wait = _named_wait({"retry-after": formatdate(moment, usegmt=True)})
    assert wait is not None
    assert moment - time.time() <= wait <= 30
    assert _named_wait({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0
    for junk in ("", "soon", "nan", "inf", "Mon, 99 Foo 20260 99:99:99 GMT"):
        assert _named_wait({"retry-after": junk}) is None


def test_a_date_to_wait_for_is_waited_for() -> None:
    dates: list[str] = []

    def answer(body: Body) -> Reply:
        if dates:
            return Reply(completion())
        dates.append(formatdate(time.time() + 2, usegmt=True))
        return Reply({}, 429, {"retry-after": dates[0]})

    policy = RetryPolicy(tries=2, timeout=60, first_wait=0.001, longest_wait=10)
    with scripted(answer) as server:
        named = addresses.server(f"{server.url}/v1#m")
        with closing(OpenAIVLM(named, retry_policy=policy)) as vlm:
            start = time.monotonic()
            vlm.connect()
    assert time.monotonic() - start > 0.5


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "http_proxy"])
@pytest.mark.parametrize("value", ["socks://me:SECRET@x:1", "socks5://x:1", "http://[::1:80"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name.upper()) as caught:
        OpenAIVLM(addresses.server("http://127.0.0.1:1/v1#m"))
    assert "SECRET" not in str(caught.value)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there, and nobody else is given it meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_is_away_is_told_from_the_server(
    name: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://me:SECRET@127.0.0.1:{closed_port}")
    with scripted(lambda body: Reply(completion())) as server:
        with client(f"{server.url}/v1#m") as vlm, pytest.raises(ModelError) as caught:
            vlm.connect()
        assert not server.asked
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        with client(f"{server.url}/v1#m") as vlm:
            vlm.connect()
    said = str(caught.value)
    assert f"the proxy that {name} names" in said
    assert "the proxy cannot be used in 2 tries (the connection was refused)" in said
    assert "Add '127.0.0.1' to NO_PROXY" in said
    assert f"unset {name}" in said
    assert "is it running" not in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (403, "this request (403"),
        (407, "a name and a password (407)"),
        (502, "(502"),
        (404, "(404"),
    ],
)
def test_a_refusal_through_a_proxy_names_it(
    code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(lambda body: error("denied by policy", code)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        with client("http://localhost:1/v1#m") as vlm, pytest.raises(ModelError) as caught:
            vlm.connect()
        assert proxy.asked
    said = str(caught.value)
    assert says in said
    assert "through the proxy that HTTP_PROXY names" in said
    assert "Add 'localhost' to NO_PROXY" in said


def test_a_proxy_that_opens_no_tunnel_is_told_from_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted(lambda body: Reply(completion())) as proxy:  # which knows no CONNECT
        monkeypatch.setenv("https_proxy", proxy.url)
        with (
            client("https://localhost:1/v1#m") as vlm,
            pytest.raises(ModelError, match=r"through the proxy that https_proxy names.*NO_PROXY"),
        ):
            vlm.connect()


def test_the_proxy_of_other_addresses_is_not_spoken_of(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port}")
    with (
        client(f"http://127.0.0.1:{closed_port}/v1#m") as vlm,
        pytest.raises(ModelError, match="is it running") as caught,
    ):
        vlm.connect()
    assert "PROXY" not in str(caught.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSLKEYLOGFILE"])
def test_a_file_of_certificates_that_cannot_be_used_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))  # without either no keys are logged
    for path in ("/nowhere/at/all", "/dev"):
        monkeypatch.setenv(name, path)
        with pytest.raises(SettingsError, match=name):
            OpenAIVLM(addresses.server("https://127.0.0.1:1/v1#m"))


def test_openais_headers_go_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from npcorrect.vlm.transport import _headers

    monkeypatch.setenv("OPENAI_ORG_ID", "org-1\n")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: planted")
    sent = _headers(addresses.server("openai:m"), "sk-1")
    assert sent["OpenAI-Organization"] == "org-1"
    assert sent["OpenAI-Project"] == "proj-1"
    with scripted(lambda body: Reply(completion())) as server, client(f"{server.url}#m") as vlm:
        vlm.connect()
    for headers in server.headers:
        assert not [name for name in headers if "openai" in name or "secret" in name]
        assert "authorization" not in headers
        assert not {"org-1", "proj-1", "planted"} & set(headers.values())


KEYS = [
    "sk-planted-0123456789", "k" * 200, "a.b*c(d)[e]{f}", '"quoted"', "per%cent%41", "back\\slash",
    "sk-planted\n", "\r\nsk-planted-crlf\r\n", "<b>markup</b>", "[bold]key[/bold]",
]  # fmt: skip


@pytest.mark.parametrize("planted", KEYS)
def test_an_echoed_key_is_in_nothing_that_is_shown_or_kept(
    planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = addresses.sendable(planted, "NPC_VLM_KEY")
    echoes = [key, json.dumps(key)[1:-1], "".join(f"\\u{ord(c):04x}" for c in key)]
    caplog.set_level("DEBUG")
    notes = Notes()
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    question = Question((Message("user", "Echo?"),), schema=schema)
    for echo in echoes if planted == KEYS[0] else echoes[-1:]:
        texts = [f'{{"a": "{echo}"}}', f"no object, but {echo}", "x" * 1995 + echo]
        said = [Reply(completion(text)) for text in texts]
        said += [error(f"bad key {key}", code) for code in (400, 429, 500)]
        said += [Reply({"choices": [{"message": {"refusal": f"not for {key}"}}]})]
        for reply in said:
            asking = [False]

            def answer(body: Body, reply: Reply = reply, asking: list[bool] = asking) -> Reply:
                return reply if asking[0] else Reply(completion())

            with (
                scripted(answer) as server,
                client(f"{server.url}/v1#m", key, memory=notes) as vlm,
            ):
                vlm.connect()
                asking[0] = True
                (answered,) = vlm.ask([question])
            shown = repr(answered) + repr(notes) + caplog.text
            for spelled in {key, *echoes}:
                assert spelled not in shown
                assert repr(spelled)[1:-1] not in shown
            assert key not in answered.text + answered.error
