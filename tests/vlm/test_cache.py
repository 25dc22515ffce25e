"""The file of answers: what is kept, and that processes may share it and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.vlm.base import Encoding, Message, Question, Reply, Usage
from npcorrect.vlm.cache import AnswerFile, CachedVLM
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.pictures import fingerprint

PICTURE = Image.new("RGB", (8, 8), "red")
QUESTION = Question((Message("user", "Is it red?", (PICTURE,)),), choices=("yes", "no"))


@pytest.fixture
def file(tmp_path: Path) -> AnswerFile:
    return AnswerFile(tmp_path / "deep" / "answers.sqlite")


def test_an_identical_question_is_answered_from_the_file(file: AnswerFile) -> None:
    answer = Reply(
        "yes",
        probabilities={"yes": 0.9, "no": 0.1},
        usage=Usage(1, 5, 1),
        model="m",
        tokens={" yes": 0.6},
    )
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
    fake = FakeVLM(["one", "two"])
    replies = CachedVLM(fake, file).ask([QUESTION, other])
    assert [reply.text for reply in replies] == ["one", "two"]


def test_another_model_is_asked_itself(file: AnswerFile) -> None:
    CachedVLM(FakeVLM(["yes"], name="one"), file).ask([QUESTION])
    assert CachedVLM(FakeVLM(["no"], name="two"), file).ask([QUESTION])[0].text == "no"


def test_what_failed_is_asked_again(file: AnswerFile) -> None:
    failed = Reply("da", "no usable answer")
    cached = CachedVLM(FakeVLM([failed, "yes"]), file)
    assert cached.ask([QUESTION])[0].error
    assert cached.ask([QUESTION])[0].text == "yes"
    assert cached.ask([QUESTION])[0].cached


@pytest.mark.parametrize("content", [b"not a database at all, but something else" * 50])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"answers\.sqlite.*--no-cache"):
        AnswerFile(path)
    with pytest.raises(SettingsError, match="cannot be used"):
        AnswerFile(path / "below" / "answers.sqlite")


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
    with file._connection() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_pictures_that_differ_in_their_palette_alone_are_told_apart() -> None:
    red, blue = (Image.new("P", (4, 4)) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert fingerprint(red) != fingerprint(blue)
    assert fingerprint(PICTURE) == fingerprint(PICTURE.copy())
