"""What the tests ask of the service again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2

PROMPT = "three red apples and one blue cup"


@dataclass(frozen=True)
class Told:
    """A server-sent event; steps have no number."""

    kind: str
    body: Any
    number: int | None


def submit(client: httpx2.Client, **body: Any) -> str:
    """Queue a job; its id."""
    answer = client.post("/v1/jobs", json={"prompt": PROMPT, "ranker": "source"} | body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def events(client: httpx2.Client, job: str, after: int | None = None) -> Iterator[Told]:
    """The events of a job until its end."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        yield from parsed(answer.iter_lines())


def parsed(lines: Iterator[str]) -> Iterator[Told]:
    """Events from the lines of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Told(fields["event"], json.loads(fields["data"]), number)
            fields = {}


def kept(client: httpx2.Client, job: str) -> list[Told]:
    """The events of a job that are kept, when it has ended."""
    return [event for event in events(client, job) if event.number is not None]
