"""A run whose server fails all the time, and is away for longer than anybody waits."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL.Image import Image

from npcorrect.errors import ModelError, RunStoppedError
from npcorrect.evaluation.benchmarks.base import Judge, Sample, Score
from npcorrect.evaluation.benchmarks.judge import VLMJudge
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run import manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, fake_manifest, fake_tools, holds
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store
from npcorrect.vlm import addresses, transport
from npcorrect.vlm.base import Message, Question
from npcorrect.vlm.openai import OpenAIVLM
from npcorrect.vlm.settings import RetryPolicy
from npcorrect.vlm.verifier import VLMVerifier
from tests.vlm import loopback
from tests.vlm.scripted import Body, Reply, completion, error

FAULTS = 200
PATIENCE = RetryPolicy(tries=1, timeout=60.0, first_wait=0.0005, longest_wait=0.001, parallel=4)
PASSING = (
    error("busy", 429),
    error("broken", 500),
    Reply("<html>"),
    Reply(completion("")),
    Reply(completion("<think>no")),
    Reply(completion("yes and no")),
    Reply({"choices": [{"message": {"content": "no"}, "finish_reason": "length"}]}),
    Reply(json.dumps(completion("no"))[:40]),
)


class Judging:
    """Asks whether a picture holds enough."""

    name = "served"

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        text = "Is this true of the picture? <claim>2 holds</claim>"
        return (Question((Message("user", text, (image,)),), choices=("yes", "no")),)

    def read(self, sample: Sample, replies: Sequence[Any]) -> Score:
        return Score(float(replies[0].text == "yes"))


class Failing:
    """A server that sees shades; every other request fails once, and outages swallow many."""

    def __init__(self, away: Sequence[range] = (), faults: bool = True) -> None:
        self._away, self._faults = away, cycle(PASSING) if faults else None
        self._rng = random.Random(3)
        self.asked, self.injected = 0, Counter[str]()

    def __call__(self, body: Body) -> Reply:
        text = json.dumps(body["messages"])
        asked = re.findall(r"(?:(r\d): )?<claim>(\d) holds", text)
        if not asked:
            return Reply(completion("a shade"))
        self.asked += 1
        if any(self.asked in outage for outage in self._away):
            self.injected["away"] += 1
            return error("away", 503)
        if self._faults and self._rng.random() < 0.15:
            self.injected["passing"] += 1
            return next(self._faults)
        names = [name for name, _ in asked if name]
        if names:
            return Reply(completion(json.dumps(dict.fromkeys(names, "dust"))))
        holding = int(asked[0][1]) < holds(loopback._picture(_picture(body)))
        return Reply(completion("yes" if holding else "no"))


def _picture(body: Body) -> str:
    turns = (m["content"] for m in body["messages"] if isinstance(m["content"], list))
    parts = (part for turn in turns for part in turn)
    return str(next(part["image_url"]["url"] for part in parts if part["type"] == "image_url"))


@contextmanager
def opening(judge: Judge) -> Iterator[Judge]:
    yield judge


def tools(vlm: OpenAIVLM) -> Tools:
    made = fake_tools()
    roles = replace(made.session.roles, verifier=VLMVerifier(vlm, questions="single"))
    judge = VLMJudge(Judging(), vlm)
    return replace(made, judge=judge, session=replace(made.session, roles=roles))


def serve(server: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server answer whatever is sent."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        reply = server(json.loads(request.content))
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        return httpx2.Response(reply.code, text=text)

    mocked = partial(httpx2.AsyncClient, transport=httpx2.MockTransport(answer))
    monkeypatch.setattr(transport, "_client", lambda headers, timeout: mocked())


def give_command(folder: Path) -> None:
    """The command of the run, once."""
    made = fake_manifest(methods=("base", "npc"), images=2)
    samples = manifest.samples(made.settings, FakeBench())
    named = addresses.server("http://served/v1#m")
    with closing(OpenAIVLM(named, retry_policy=PATIENCE)) as vlm:
        opened = partial(opening, VLMJudge(Judging(), vlm))
        load = partial(tools, vlm)
        runner.run(Store(folder), made, samples, load, runner.in_process, ignore, opened)


def carry_out(folder: Path, server: Failing, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The same command as often as it takes until nothing is open; it ends, or is stopped."""
    serve(server, monkeypatch)
    while True:
        server.injected["commands"] += 1
        try:
            give_command(folder)
        except (RunStoppedError, ModelError):  # or away when it is to be opened
            server.injected["stops"] += 1
            assert server.injected["stops"] < 40
            continue
        records = Store(folder).records()
        if len(records) == 2 * len(FakeBench().samples()) and not any(map(is_open, records)):
            return records


def is_open(record: Record) -> bool:
    return bool(record.incomplete or record.open_pictures)


def ignore(record: Record) -> None:
    pass


def decisions(records: Sequence[Record]) -> list[Any]:
    """What the records say, without what the repeated questions cost, and where they went."""
    return [
        (r.key, s.image, s.negatives, s.accepted, s.failed, s.chosen, s.observed)
        + ((s.score.value,) if s.score else ())
        for r in records
        for s in r.steps
    ]


def test_a_run_through_outages_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = carry_out(tmp_path / "calm", Failing(faults=False), monkeypatch)
    server = Failing([range(start, start + 50) for start in range(20, 500, 80)])
    stormy = carry_out(tmp_path / "stormy", server, monkeypatch)
    assert server.injected["away"] + server.injected["passing"] >= FAULTS
    assert server.injected["stops"] >= 3, "outages are longer than the patience"
    assert decisions(stormy) == decisions(calm)


class Refusing(Failing):
    """A calm server that refuses some requests with a status, whatever is in them."""

    def __init__(self, code: int, refused: Sequence[int]) -> None:
        super().__init__(faults=False)
        self._code, self._refused = code, refused

    def __call__(self, body: Body) -> Reply:
        answered = super().__call__(body)
        return error("not that", self._code) if self.asked in self._refused else answered


@pytest.mark.parametrize("code", [401, 402, 403, 404, 429])
def test_one_refusal_in_a_run_stops_nothing_and_is_asked_again(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = carry_out(tmp_path / "calm", Failing(faults=False), monkeypatch)
    server = Refusing(code, [20, 60])
    refused = carry_out(tmp_path / "refused", server, monkeypatch)
    assert server.asked > 60
    assert decisions(refused) == decisions(calm)
    assert server.injected["commands"] == 2, "what is unscored stays open for the next command"
    assert not server.injected["stops"]


@pytest.mark.parametrize(("code", "samples"), [(401, 3), (403, 5)])
def test_refusals_in_a_row_stop_the_run_with_the_reason(
    code: int, samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Refusing(code, range(20, 1000)), monkeypatch)
    with pytest.raises(RunStoppedError, match=rf"after {samples} samples in a row.*\({code}"):
        give_command(tmp_path)
