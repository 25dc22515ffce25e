"""Who may ask, and how much."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.serve.security import LOOPBACK, Access
from tests.serve.asking import PROMPT
from tests.serve.fakes import FakeServer, served

TOKEN = "a token of some length"


def basic(password: str, user: str = "") -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "", "[", "a/b"]
)
def test_a_foreign_host_is_refused(client: httpx2.Client, host: str) -> None:
    answer = client.get("/v1/jobs", headers={"Host": host})
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "[::1]:9", "127.0.0.1"])
def test_the_names_of_this_machine_are_known(client: httpx2.Client, host: str) -> None:
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "["]
)
def test_a_foreign_page_is_refused(client: httpx2.Client, origin: str) -> None:
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("OPTIONS", "/v1/jobs")):
        answer = client.request(method, path, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_its_own_page_may_ask(client: httpx2.Client, address: str) -> None:
    assert client.get("/v1/jobs", headers={"Origin": address}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/static/page.js", "/nowhere"])
def test_every_answer_says_what_a_page_may_load(client: httpx2.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def pieces() -> Iterator[bytes]:
    for _ in range(100):
        yield b" " * 1024


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(client: httpx2.Client, chunked: bool) -> None:
    body = pieces() if chunked else b" " * 100_000
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "65536 bytes" in answer.json()["error"]["message"]


def test_a_body_must_say_that_it_is_json(client: httpx2.Client) -> None:
    answer = client.post(
        "/v1/jobs", content=b'{"prompt": "x"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 400


def test_too_many_pictures_are_refused(client: httpx2.Client) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": PROMPT, "n": 9})
    assert answer.status_code == 400
    assert "1 to 8" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        (TOKEN, 401),
        ("Basic !", 401),
        ("Basic " + b64encode(b"\xff").decode(), 401),
        (basic("wrong"), 401),
        (f"Bearer {TOKEN}", 200),
        (basic(TOKEN), 200),
        (basic(TOKEN, "anyone"), 200),
    ],
)
def test_a_token_is_asked_for(server: FakeServer, header: str | None, status: int) -> None:
    server.access = Access("127.0.0.1", TOKEN)
    with served(server) as client:
        headers = {"Authorization": header} if header else {}
        for path in ("/", "/v1/jobs", "/openapi.json"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == status
            if status == 401:
                assert answer.headers["www-authenticate"].startswith("Basic")


@given(st.text(max_size=50))
def test_no_other_host_is_ever_known(header: str) -> None:
    known = Access("studio.lan").knows_host(header.lower())
    assert known == (header.lower().partition(":")[0] in LOOPBACK | {"studio.lan"}) or "[" in header


def test_a_server_on_all_addresses_takes_any_name() -> None:
    assert Access("0.0.0.0", TOKEN).knows_host("studio.lan:7860")
    assert not Access("0.0.0.0", TOKEN).knows_host("")


def test_a_body_that_does_not_arrive_is_not_waited_for(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npcorrect.serve.security.BODY_SECONDS", 0.2)
    parts = urlsplit(address)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 9\r\n\r\n{{"
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(head.encode())
        assert b" 408 " in connection.recv(100)


def test_a_fault_of_the_server_is_one_sentence_too(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: object) -> None:
        raise ZeroDivisionError("a secret of the server")

    monkeypatch.setattr(server, "check", broken)
    with served(server) as client:
        answer = client.post("/v1/jobs", json={"prompt": PROMPT})
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["error"]["message"]
    assert "secret" not in answer.text
