"""Jobs: queued, followed, stopped, refused, and what they leave behind."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from threading import Event

import httpx2
import pytest
from PIL import Image

from npcorrect.diffusion.fake import looking
from npcorrect.errors import ModelError
from npcorrect.result import load_result
from npcorrect.serve.service import Limits
from tests.serve.asking import PROMPT, events, kept, submit
from tests.serve.fakes import FakeServer, listening, redrawing, served
from tests.timing import until


def test_a_job_is_followed_from_its_queue_to_its_end(
    client: httpx2.Client, server: FakeServer
) -> None:
    job = submit(client, seed=7)
    told = kept(client, job)
    assert told[0].kind == "start"
    assert told[-1].kind == "end"
    assert told[-1].body == {"ended": "accepted", "error": "", "best": 1}
    original, redrawing = [event.body["attempt"] for event in told if event.kind == "attempt"]
    assert original["verdict"]["checks"][0]["observed"] == "four apples"
    assert redrawing["generation"]["negative_prompt"] == "<b>five</b> apples"
    stages = [event.body["stage"] for event in told if event.kind == "stage"]
    assert stages[:3] == ["checklist", "draw", "verify"]
    view = client.get(f"/v1/jobs/{job}").json()
    shown = {name: view[name] for name in ("state", "ended", "attempts", "best", "prompt")}
    assert shown == {
        "state": "ended",
        "ended": "accepted",
        "attempts": 2,
        "best": 1,
        "prompt": PROMPT,
    }
    assert view["settings"]["seed"] == 7


def test_it_leaves_what_the_command_line_leaves(client: httpx2.Client, server: FakeServer) -> None:
    job = submit(client)
    kept(client, job)
    result = load_result(server.folder / job)
    assert result.accepted
    assert result.ended == "accepted"
    assert client.get(f"/v1/jobs/{job}/result.json").json() == json.loads(
        (server.folder / job / "result.json").read_text()
    )
    picture = client.get(f"/v1/jobs/{job}/attempts/1.png")
    assert picture.headers["content-type"] == "image/png"
    assert (
        "Negative prompt: <b>five</b> apples"
        in Image.open(BytesIO(picture.content)).info["parameters"]
    )
    assert client.get(f"/v1/jobs/{job}/sheet.png").content.startswith(b"\x89PNG")
    assert client.get(f"/v1/jobs/{job}/attempts/2.png").status_code == 404


def test_events_resume_after_the_last_one_seen(client: httpx2.Client) -> None:
    job = submit(client)
    told = kept(client, job)
    seen = told[3].number
    assert seen is not None
    assert list(events(client, job, after=seen)) == told[4:]
    assert list(events(client, job, after=told[-1].number)) == []


def test_looks_come_with_the_emerging_picture(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, defaults=looking(), good=3)
    with served(server) as client:
        told = kept(client, submit(client))
    looks = [event.body for event in told if event.kind == "look"]
    assert looks
    assert all(look["preview"].startswith("data:image/jpeg;base64,") for look in looks)


def test_steps_are_told_as_they_are_taken(server: FakeServer) -> None:
    steps: list[int] = []
    server.holds = lambda drawing, step: step == 2 and 2 not in steps
    with served(server) as client:
        for event in events(client, submit(client)):
            if event.number is None:
                assert event.kind == "stage"
                steps.append(event.body["step"])
    assert 2 in steps
    assert set(steps) <= {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "prompt is empty"),
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": 3}, "prompt is empty"),
        ({"prompt": "x" * 10_001}, "at most 10000"),
        ({"prompt": "a lamp"}, "speaks of lamps"),
        ({"prompt": PROMPT, "candidate": 3}, "did you mean candidates"),
        ({"prompt": PROMPT, "seed": True}, "'seed' is True"),
        ({"prompt": PROMPT, "seed": -1}, "at least 0"),
        ({"prompt": PROMPT, "rule": "nope"}, "one of paper, extra"),
        ({"prompt": PROMPT, "size": 4096}, "at most 2048"),
        ({"prompt": PROMPT, "rewinds": 2}, "looks"),
        ({"prompt": PROMPT, "out": "/etc"}, "no setting 'out'"),
        ([], "no JSON object; send one"),
        ({"promt": PROMPT}, "did you mean prompt?"),
        ({"prompt": PROMPT, "xyz": 1}, "no setting 'xyz'; known: batch, "),
        ({"prompt": PROMPT, "negative": "0.7..0.2"}, "the earlier end first"),
    ],
)
def test_what_could_not_work_is_refused_before_it_is_a_job(
    client: httpx2.Client, body: object, says: str
) -> None:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert client.get("/v1/jobs").json() == {"jobs": []}


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 30_000, b'{"prompt": "\\ud800"}', b"\xff"])
def test_a_body_that_is_no_json_is_refused(client: httpx2.Client, body: bytes) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_body_without_its_header_is_refused_with_the_header(client: httpx2.Client) -> None:
    answer = client.post("/v1/jobs", content=b'{"prompt": "two red bananas"}')
    assert answer.status_code == 400
    assert "'Content-Type: application/json'" in answer.json()["error"]["message"]


def test_a_full_queue_refuses(server: FakeServer) -> None:
    server.holds, server.limits = redrawing, Limits(queue=2)
    with served(server) as client:
        first = submit(client)
        until(lambda: client.get(f"/v1/jobs/{first}").json()["state"] == "running")
        submit(client), submit(client)
        answer = client.post("/v1/jobs", json={"prompt": PROMPT})
        assert answer.status_code == 429
        assert "2 jobs wait" in answer.json()["error"]["message"]


def test_stopping_acts_at_once_and_keeps_what_is_drawn(server: FakeServer) -> None:
    server.holds = redrawing
    with served(server) as client:
        job, next_one = submit(client), submit(client, candidates=0)
        until(lambda: client.get(f"/v1/jobs/{job}").json()["attempts"] == 1)
        assert client.delete(f"/v1/jobs/{job}").json()["ended"] == "stopped"
        assert kept(client, job)[-1].body["ended"] == "stopped"
        assert client.get(f"/v1/jobs/{job}/attempts/0.png").status_code == 200
        assert kept(client, next_one)[-1].body["ended"] == "exhausted"
        assert client.get(f"/v1/jobs/{job}").json()["attempts"] == 1


def test_a_waiting_job_that_is_stopped_is_never_drawn(server: FakeServer) -> None:
    stopped = Event()
    server.holds = lambda drawing, step: not stopped.is_set()
    with served(server) as client:
        first, second = submit(client), submit(client)
        assert client.get(f"/v1/jobs/{second}").json()["ahead"] == 1
        client.delete(f"/v1/jobs/{second}")
        stopped.set()
        assert kept(client, first)[-1].body["ended"] == "accepted"
        assert [event.kind for event in kept(client, second)] == ["end"]
        assert client.delete(f"/v1/jobs/{first}").json()["ended"] == "accepted"


@pytest.mark.parametrize("job", ["nope", "..", "%2e%2e%2fjobs.sqlite", "a" * 5000])
def test_no_name_of_a_client_is_looked_for_on_disk(client: httpx2.Client, job: str) -> None:
    for place in ("", "/result.json", "/attempts/0.png", "/events"):
        answer = client.get(f"/v1/jobs/{job}{place}")
        assert answer.status_code == 404
        assert answer.json()["error"]["message"]


def test_jobs_are_listed_the_latest_first(client: httpx2.Client) -> None:
    jobs = [submit(client, seed=seed) for seed in range(5)]
    first = client.get("/v1/jobs", params={"limit": 2}).json()["jobs"]
    assert [job["id"] for job in first] == jobs[:2:-1]
    rest = client.get("/v1/jobs", params={"before": first[-1]["number"]}).json()["jobs"]
    assert [job["id"] for job in rest] == jobs[2::-1]


def test_an_error_ends_its_job_alone(server: FakeServer) -> None:
    def broken(drawing: object) -> None:
        raise ValueError("of the test")

    model = server.model()
    server.model = lambda: model  # type: ignore[method-assign]
    paint, model._on_draw = model._on_draw, broken
    with served(server) as client:
        job = submit(client)
        assert "ValueError" in kept(client, job)[-1].body["error"]
        assert "of the test" not in client.get(f"/v1/jobs/{job}").text
        model._on_draw = paint
        assert kept(client, submit(client))[-1].body["ended"] == "accepted"


def test_without_a_session_the_server_ends(server: FakeServer) -> None:
    def opened() -> None:
        raise ModelError("There are no weights.")

    server.opened = opened
    with listening(server):
        until(lambda: server.failed)
    assert server.failed == [True]


def test_whoever_waits_long_is_told_that_the_server_lives(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npcorrect.serve.service.HEARTBEAT", 0.1)
    server.holds = redrawing
    with served(server) as client:
        submit(client)
        waiting = submit(client)
        with client.stream("GET", f"/v1/jobs/{waiting}/events") as answer:
            assert next(answer.iter_lines()).startswith(":")
