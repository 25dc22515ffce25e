"""The file of answers: what is kept, and that processes may share it and die."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.settings import RoleSettings
from npcorrect.vlm import build
from npcorrect.vlm.base import Encoding, Message, Question, Reply, Usage
from npcorrect.vlm.cache import AnswerFile, AnswerMemory, CachedVLM
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.pictures import fingerprint
from npcorrect.vlm.settings import VLMSettings
from npcorrect.vlm.usage import paying

PICTURE = Image.new("RGB", (8, 8), "red")
QUESTION = Question((Message("user", "Is it red?", (PICTURE,)),), choices=("yes", "no"))


@pytest.fixture
def file(tmp_path: Path) -> AnswerFile:
    return AnswerFile(tmp_path / "deep" / "answers.sqlite")


@pytest.mark.parametrize("turn", range(2))
def test_no_test_finds_what_another_or_the_user_kept(turn: int) -> None:
    memory = build.memory_of(VLMSettings(RoleSettings()))
    assert isinstance(memory, AnswerFile)
    assert memory.recall("a key") is None
    memory.keep("a key", f"answer {turn}")
    assert build.memory_of(VLMSettings(RoleSettings())).recall("a key") == f"answer {turn}"


def test_an_identical_question_is_answered_from_the_file(file: AnswerFile) -> None:
    answer = Reply("yes", probabilities={"yes": 0.9, "no": 0.1}, usage=Usage(1, 5, 1), model="m")
    fake = FakeVLM([answer])
    first, again = CachedVLM(fake, file).ask([QUESTION, QUESTION])
    (later,) = CachedVLM(FakeVLM(), file).ask([QUESTION])
    assert first == answer
    assert again == later == replace(answer, usage=Usage(), cached=True)
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        replace(QUESTION, choices=("no", "yes")),
        replace(QUESTION, temperature=0.5),
        replace(QUESTION, seed=1),
        replace(QUESTION, max_tokens=7),
        replace(QUESTION, tokens=True),
        replace(QUESTION, messages=(replace(QUESTION.messages[0], text_first=True),)),
        replace(QUESTION, messages=(replace(QUESTION.messages[0], encoding=Encoding("JPEG")),)),
        replace(QUESTION, choices=(), schema={"type": "object"}),
        replace(QUESTION, messages=(Message("user", "Is it blue?", (PICTURE,)),)),
        replace(QUESTION, messages=(Message("system", "Is it red?", (PICTURE,)),)),
        replace(QUESTION, messages=(Message("user", "Is it red?"),)),
        replace(
            QUESTION,
            messages=(Message("user", "Is it red?", (Image.new("RGB", (8, 8), (255, 0, 1)),)),),
        ),
        replace(QUESTION, messages=(Message("user", "Is it red?", (PICTURE.resize((4, 16)),)),)),
    ],
)
def test_a_question_that_differs_in_anything_is_asked(file: AnswerFile, other: Question) -> None:
    fake = FakeVLM(["yes", "no"])
    replies = CachedVLM(fake, file).ask([QUESTION, other])
    assert [reply.text for reply in replies] == ["yes", "no"]


def test_another_model_is_asked_itself(file: AnswerFile) -> None:
    CachedVLM(FakeVLM(["yes"], name="one"), file).ask([QUESTION])
    assert CachedVLM(FakeVLM(["no"], name="two"), file).ask([QUESTION])[0].text == "no"


def test_whoever_pays_pays_for_a_known_answer_once() -> None:
    took = Usage(1, 5, 1, seconds=2.0)
    vlm = CachedVLM(FakeVLM([Reply("yes", usage=took)]), AnswerMemory())
    free = vlm.ask([QUESTION, QUESTION])
    assert [reply.usage for reply in free] == [took, Usage()]
    for _ in range(2):
        with paying() as payer:
            replies = [*vlm.ask([QUESTION, QUESTION]), *vlm.ask([QUESTION])]
            assert [reply.usage for reply in replies] == [took, Usage(), Usage()]
            assert (payer.take_saved_seconds(), payer.take_saved_seconds()) == (2.0, 0.0)
    assert vlm.ask([QUESTION])[0].usage == Usage()


def test_who_asks_first_pays_once_and_answers_of_other_runs_are_free(file: AnswerFile) -> None:
    took = Usage(1, 5, 1)
    vlm = CachedVLM(FakeVLM([Reply("yes", usage=took)]), file)
    with paying() as payer:
        replies = [*vlm.ask([QUESTION]), *vlm.ask([QUESTION])]
        assert [reply.usage for reply in replies] == [took, Usage()]
        assert payer.take_saved_seconds() == 0
    with paying():
        (later,) = CachedVLM(FakeVLM(), file).ask([QUESTION])
    assert (later.usage, later.cached) == (Usage(), True)


def test_what_was_of_no_use_is_asked_again_by_later_runs_too(file: AnswerFile) -> None:
    fake = FakeVLM(["yes", "no"])
    cached = CachedVLM(fake, file)
    cached.ask([QUESTION])
    cached.forget([QUESTION])
    (again,) = CachedVLM(fake, file).ask([QUESTION])
    assert (again.text, again.cached) == ("no", False)
    (kept,) = CachedVLM(FakeVLM(), file).ask([QUESTION])
    assert (kept.text, kept.cached) == ("no", True)


def test_what_failed_is_asked_again(file: AnswerFile) -> None:
    failed = Reply("da", "no usable answer")
    cached = CachedVLM(FakeVLM([failed, "yes"]), file)
    assert cached.ask([QUESTION])[0].error
    assert cached.ask([QUESTION])[0].text == "yes"
    assert cached.ask([QUESTION])[0].cached


GARBAGE = b"not a database at all, but something else" * 50


@pytest.mark.parametrize(
    "kind", ["garbage", "folder", "below a file", "read only", "fifo", "fifo beside"]
)
def test_a_file_that_cannot_be_used_is_given_up_with_a_warning(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.sqlite"
    if kind == "garbage":
        path.write_bytes(GARBAGE)
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "fifo beside":
        os.mkfifo(tmp_path / "answers.sqlite-journal")
    elif kind == "below a file":
        path.write_bytes(GARBAGE)
        path = path / "below" / "answers.sqlite"
    else:
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE answers (value BLOB)")
    fake = FakeVLM(["yes"])
    cached = CachedVLM(fake, AnswerFile(path))
    assert [cached.ask([QUESTION])[0].text for _ in range(3)] == ["yes"] * 3
    assert len(fake.asked) == 1
    (record,) = caplog.records
    assert "answers.sqlite" in record.getMessage()
    assert "--no-cache" in record.getMessage()


def test_a_file_system_without_locks_keeps_answers_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unlockable(*args: Any, **options: Any) -> sqlite3.Connection:
        raise sqlite3.OperationalError("locking protocol")

    monkeypatch.setattr(sqlite3, "connect", unlockable)
    fake = FakeVLM(["yes"])
    cached = CachedVLM(fake, AnswerFile(tmp_path / "answers.sqlite"))
    assert [cached.ask([QUESTION])[0].text for _ in range(3)] == ["yes"] * 3
    assert len(fake.asked) == 1
    assert len(caplog.records) == 1


def test_a_full_disk_loses_no_answer(
    file: AnswerFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = sqlite3.connect

    def full(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*args, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    questions = [replace(QUESTION, seed=seed) for seed in range(3)]
    fake = FakeVLM(["x" * 5000], repeat=True)
    plain = [replace(question, choices=()) for question in questions]
    assert all(reply.text == "x" * 5000 for reply in CachedVLM(fake, file).ask(plain))
    assert "full" in caplog.text


def row(**values: Any) -> str:
    good = {"text": "yes", "probabilities": {"yes": 0.9, "no": 0.1}, "fields": {}}
    good |= {"tokens": {}, "model": "m"}
    return json.dumps(good | values)


@pytest.mark.parametrize(
    "kept",
    [
        "", "null", "[]", "{", "{}", "\x00", row(text="maybe"), row(text=["yes"]), row(text=None),
        row(probabilities={"yes": 2.0}), row(probabilities={"yes": -0.1}),
        row(probabilities={"maybe": 0.5}), row(probabilities={"yes": 0.9, "no": 0.9}),
        row(probabilities={"yes": "much"}), row(probabilities={"yes": float("nan")}),
        row(fields={"r1": {"maybe": 1.0}}), row(tokens={"yes": 0.5}),
        row(error=""), row(text="y" * 2**20),
    ],
)  # fmt: skip
def test_what_is_kept_is_trusted_no_more_than_a_fresh_reply(file: AnswerFile, kept: str) -> None:
    fake = FakeVLM(["no"])
    cached = CachedVLM(fake, file)
    file.keep(cached._key(QUESTION), kept)
    assert cached.ask([QUESTION])[0].text == "no"
    assert cached.ask([QUESTION])[0].cached
    assert len(fake.asked) == 1


def test_first_tokens_are_kept_as_they_came(file: AnswerFile) -> None:
    question = replace(QUESTION, choices=(), tokens=True)
    answer = Reply(" Yes", tokens={" Yes": 0.6, "no": 0.3}, model="m")
    first, again = CachedVLM(FakeVLM([answer]), file).ask([question, question])
    (later,) = CachedVLM(FakeVLM(), file).ask([question])
    assert first == answer
    assert again == later == replace(answer, cached=True)


def test_a_row_that_is_no_text_is_asked_again(file: AnswerFile) -> None:
    cached = CachedVLM(FakeVLM(["yes"]), file)
    with file._connection(writes=True) as connection:
        values = (cached._key(QUESTION), b"\xff\x00")
        connection.execute("INSERT INTO answers VALUES (?, ?)", values)
    assert cached.ask([QUESTION])[0].text == "yes"


def test_kept_answers_pass_the_questions_own_check(file: AnswerFile) -> None:
    def refuse(text: str) -> None:
        raise ValueError("it is not in English")

    CachedVLM(FakeVLM(["yes"]), file).ask([QUESTION])
    again = FakeVLM(["no"])
    assert CachedVLM(again, file).ask([replace(QUESTION, check=refuse)])[0].text == "no"


def test_one_model_has_one_cache_however_it_is_spelled(file: AnswerFile) -> None:
    names = ["http://LOCALHOST:80/v1/#m", "http://127.0.0.1/v1#m"]
    fakes = [FakeVLM(["yes"], name=name) for name in names]
    for fake in fakes:
        CachedVLM(fake, file).ask([QUESTION])
    assert [len(fake.asked) for fake in fakes] == [1, 0]


def test_without_a_file_answers_are_kept_for_the_run() -> None:
    cached = CachedVLM(fake := FakeVLM(["yes"]), AnswerMemory())
    assert [cached.ask([QUESTION])[0].cached for _ in range(2)] == [False, True]
    assert len(fake.asked) == 1


OPENER = """
import sys
from pathlib import Path
from npcorrect.vlm.cache import AnswerFile
sys.stdin.readline()
AnswerFile(Path(sys.argv[1])).keep(sys.argv[2], "kept")
"""


def test_many_processes_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fresh" / "answers.sqlite"
    command = [sys.executable, "-c", OPENER, str(path)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen([*command, str(n)], text=True, **pipes) for n in range(8)]
    time.sleep(1)
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=120)[1] == ""
    file = AnswerFile(path)
    assert [file.recall(str(n)) for n in range(8)] == ["kept"] * 8


WRITER = """
import sys
from pathlib import Path
from npcorrect.vlm.cache import AnswerFile
file, name = AnswerFile(Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3])):
    file.keep(f"shared {number}", "the same")
    file.keep(f"{name} {number}", "x" * 500)
    assert file.recall(f"{name} {number}") == "x" * 500
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_write_at_once_and_a_killed_one_loses_nothing_that_it_finished(
    tmp_path: Path,
) -> None:
    path = tmp_path / "answers.sqlite"
    doomed = [writer(path, f"doomed{n}", 10**6) for n in range(2)]
    steady = [writer(path, f"steady{n}", 60) for n in range(2)]
    for process in doomed:
        assert process.stdout
        process.stdout.readline()
    time.sleep(0.3)
    for process in doomed:
        os.kill(process.pid, signal.SIGKILL)
    done = [len(process.communicate()[0].splitlines()) for process in doomed]
    for process in steady:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    file = AnswerFile(path)
    for name, count in [*((f"steady{n}", 60) for n in range(2)),
                        *((f"doomed{n}", 1 + count) for n, count in enumerate(done))]:  # fmt: skip
        assert file.recall(f"{name} {count - 1}") == "x" * 500
    with file._connection(writes=False) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_pictures_that_differ_in_their_palette_alone_are_told_apart() -> None:
    red, blue = (Image.new("P", (4, 4)) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert fingerprint(red) != fingerprint(blue)
    assert fingerprint(PICTURE) == fingerprint(PICTURE.copy())
