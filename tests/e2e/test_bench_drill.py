"""A run that is killed, starved of its judge, extended twice and merged, by the real program.

One server draws and another plays the verifier and both judges, so that everything but them is the
program itself. What each says follows from what it is asked alone. The settings file shortens the
patience, so the judge is away for longer than anybody waits within seconds.
"""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from subprocess import CompletedProcess
from threading import Event
from typing import Any

import pytest
from pydantic import TypeAdapter

from npcorrect.evaluation.report import page
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store
from tests.e2e.program import inside
from tests.remote.servers import Reply as Drawn
from tests.remote.servers import drawing_server
from tests.vlm.scripted import Body, Reply, completion, error, scripted

COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "brown")
PROMPTS = [f"a photo of a {colour} {thing}" for thing in ("bench", "cat") for colour in COLOURS]
YES = 0.7
QUESTIONS = ["Is it there?", "Is it whole?"]


@dataclass
class World:
    """What plays the verifier and the judges, and when it fails."""

    folder: Path
    pictures: str = ""
    models: str = ""
    answers: float = math.inf
    """Questions about pictures that the first judge still answers before it is away."""

    def answer(self, body: Body) -> Reply:
        """Yes or no by the model, the text and the picture; what was seen instead is dust."""
        model, text = str(body["model"]), json.dumps(body["messages"])
        if model == "judge" and any(question in text for question in QUESTIONS):
            self.answers -= 1
            if self.answers < 0:
                return error("away", 503)
        if observed := re.findall(r"(r\d+): <claim>", text):
            return Reply(completion(json.dumps(dict.fromkeys(observed, "dust"))))
        if "Describe the picture." in text:
            return Reply(completion('{"text": "There is dust.", "phrases": ["dust"]}'))
        chance = sha256(f"{model} {text}".encode()).digest()[0] / 256
        return Reply(completion("yes" if chance < YES else "no"))

    def arguments(self, out: str, *more: str) -> list[str]:
        return [
            *self.program, "run", str(self.folder / "prompts.jsonl"),
            "--model", self.pictures, "--vlm", f"{self.models}/v1#eyes", "--proposer", "rules",
            "--questions", "single", "--judge", f"{self.models}/v1#judge",
            "--images", "2", "--out", str(self.folder / out), *more,
        ]  # fmt: skip

    @property
    def program(self) -> list[str]:
        return ["--config", str(self.folder / "npc.toml"), "bench"]

    def run(self, out: str, *more: str) -> CompletedProcess[str]:
        return inside(*self.arguments(out, *more))

    def done(self, out: str, *more: str) -> None:
        finished = self.run(out, *more)
        assert finished.returncode == 0, finished.stderr

    def records(self, out: str) -> list[Record]:
        return Store(self.folder / out).records()

    def merge(self, *parts: str, out: str) -> None:
        folders = [str(self.folder / part) for part in parts]
        merged = inside("bench", "merge", *folders, "--out", str(self.folder / out))
        assert merged.returncode == 0, merged.stderr

    def second_judge(self, out: str) -> None:
        judge = f"{self.models}/v1#second"
        done = inside(*self.program, "judge", str(self.folder / out), "--judge", judge)
        assert done.returncode == 0, done.stderr


@dataclass
class Stop:
    """Holds one picture for ever, the one after so many others, and tells that it was begun."""

    left: int
    begun: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)

    def __call__(self, path: str, body: dict[str, Any]) -> Drawn | None:
        self.left -= body.get("prompt") in PROMPTS  # and not when the program tries the server
        if self.left < 0 and not self.begun.is_set():
            self.begun.set()
            self.ended.wait()
        return None


@contextmanager
def world(folder: Path, stop: Stop) -> Iterator[World]:
    made = World(folder)
    rows = [
        {"prompt": prompt, "tag": prompt.split()[-1], "questions": QUESTIONS} for prompt in PROMPTS
    ]
    (folder / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "npc.toml").write_text(
        "[vlm]\ntries = 2\nfirst_wait = 0.001\nlongest_wait = 0.002\n"
        f"cache = {json.dumps(str(folder / 'answers.sqlite'))}\n"
    )
    with drawing_server(fault=stop) as pictures, scripted(made.answer) as models:
        made.pictures, made.models = pictures.name, models.url
        yield made
        stop.ended.set()


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if "seconds" not in name}
    return [timeless(one) for one in value] if isinstance(value, list | tuple) else value


def plainly(records: list[Record]) -> Any:
    """The records without their times."""
    return timeless(TypeAdapter(list[Record]).dump_python(records, mode="json"))


def reported(folder: Path) -> dict[str, Any]:
    """Everything that a report says, but for what was measured in time."""
    tables = {
        name: timeless(list(csv.DictReader((folder / name).read_text().splitlines())))
        for name in ("report.csv", "parts.csv", "summary.csv")
    }
    return tables | {"report.json": timeless(json.loads((folder / "report.json").read_text()))}


def killed(command: list[str], stop: Stop) -> None:
    """Start the program, and kill it in the middle of a picture."""
    output = subprocess.DEVNULL
    program = [sys.executable, "-m", "npcorrect", *command]
    with subprocess.Popen(program, stdout=output, stderr=output) as run:
        try:
            assert stop.begun.wait(120)
        finally:
            run.kill()
    assert run.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's.")
def test_killed_starved_extended_twice_and_merged_it_equals_a_plain_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves, which take longest of all, are drawn on the last page alone."""
    monkeypatch.setattr(page, "charts", lambda report, colors: [])
    begun, whole = ["--limit", "14", "--methods", "base"], ["--methods", "base,npc"]
    part, stop = ["--shard", "1/2"], Stop(3)
    with world(tmp_path, stop) as it:
        killed(it.arguments("part-1", *part, *begun), stop)
        finished = it.records("part-1")
        assert 0 < len(finished) < 3

        it.answers = 0
        starved = it.run("part-1", *part, *begun)
        assert starved.returncode == 4, starved.stderr
        assert "503: away" in starved.stderr
        assert sum(bool(record.open_pictures) for record in it.records("part-1")) == 5

        it.answers = math.inf
        it.done("part-1", *part, *whole, "--limit", "15")
        it.second_judge("part-1")
        it.done("part-1", *part, "--methods", "npc,base", "--seeds", "2")
        it.done("part-2", "--shard", "2/2", *whole, "--seeds", "2")
        it.merge("part-1", "part-2", out="merged/run")
        it.second_judge("merged/run")

        it.done("plain/run", *whole, "--seeds", "2")
        monkeypatch.undo()
        it.second_judge("plain/run")
        merged, plain = it.records("merged/run"), it.records("plain/run")
    assert len(plain) == 2 * 2 * len(PROMPTS)
    assert plainly(merged) == plainly(plain)
    assert all(record in merged for record in finished), "nothing was done twice"
    folders = (tmp_path / name / "run" / "report" for name in ("merged", "plain"))
    first, second = map(reported, folders)
    assert first == second
    assert first["report.json"]["agreements"], "the second judge's"
    html = (tmp_path / "plain" / "run" / "report" / "report.html").read_text()
    assert "Score against VLM calls" in html, "also where a server counts no evaluations"
    assert "Score against denoiser evaluations" not in html
    assert "<td>\u2013</td>" in html, "and none is shown"
