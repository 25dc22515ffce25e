"""Corrections whose roles are played behind real sockets, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from npcorrect.cli import app
from tests.diffusion.tiny import build
from tests.vlm.loopback import TRANSIENT, UNUSABLE, Asked, Server, loopback

PROMPT = "two blue apples and two pink kites"
KEY = "sk-planted-0123456789abcdef"
FAULTS = [f for f in (*TRANSIENT, *UNUSABLE) if f not in ("hung", "slow")]


def config(folder: Path, server: Server, **table: Any) -> Path:
    """A settings file with a price, a key, quick retries and a cache of its own."""
    values = {"first_wait": 0.01, "longest_wait": 0.1, "cache": str(folder / "answers.sqlite")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (values | table).items()]
    path = folder / "npc.toml"
    path.write_text(
        "\n".join(["[vlm]", *lines, "[vlm.keys]", f'"{server.url}" = "{KEY}"',
                   f'[vlm.prices."{server.name}"]', "input = 2.0", "output = 8.0"])
    )  # fmt: skip
    return path


def arguments(server: Server, folder: Path, *more: str, **table: Any) -> list[str]:
    path = config(folder, server, **table)
    return ["--config", str(path), "correct", PROMPT, "--seed", "3", "-k", "2", "--steps", "8",
            "--vlm", server.name, "--out", str(folder / "out"), *more]  # fmt: skip


def npc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "npcorrect", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


def inside(*arguments: str) -> Result:
    """The command in this process, where starting it anew would only take time."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def passing(asked: Asked) -> str | None:
    draw = int(sha256(asked.key.encode()).hexdigest(), 16)
    return None if asked.again else FAULTS[draw % len(FAULTS)]


def test_a_correction_through_sockets_that_keep_failing(tmp_path: Path) -> None:
    with loopback(key=KEY, fault=passing) as server:
        done = npc(*arguments(server, tmp_path, "--json"))
        asked, injected = len(server.questions()), sum(server.injected.values())
        again = inside(*arguments(server, tmp_path, "--proposer", server.name, "--overwrite"))
        assert len(server.questions()) == asked
    record = json.loads(done.stdout)
    assert done.returncode == (0 if record["accepted"] else 3), done.stderr
    assert injected >= 4
    assert all(a["verdict"]["accepted"] is not None for a in record["attempts"])
    checks = record["attempts"][0]["verdict"]["checks"]
    assert all(check["probability"] is not None for check in checks if check["passed"])
    cost = record["cost"]
    assert cost["vlm_calls"] == asked
    assert cost["readings"] > 0, "the embedded grammar asks no model"
    assert cost["retries"] > 0
    assert cost["money"] == pytest.approx(cost["tokens"] * 2e-6, rel=0.5)
    assert again.exit_code == done.returncode, again.output
    kept = json.loads((tmp_path / "out" / "result.json").read_text())
    assert kept["cost"]["tokens"] == 0
    assert [a["verdict"] for a in kept["attempts"]] == [a["verdict"] for a in record["attempts"]]
    for text in (done.stdout, done.stderr, again.output):
        assert KEY not in text
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "npc.toml":
            assert KEY.encode() not in path.read_bytes()


def test_the_budget_ends_a_correction_and_what_was_drawn_is_kept(tmp_path: Path) -> None:
    with loopback(key=KEY) as server:
        done = inside(*arguments(server, tmp_path, "--budget", "8 calls"))
        assert len(server.asked) <= 8
    assert done.exit_code == 3, done.output
    assert "Of the budget of 8 calls" in done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    for attempt in record["attempts"]:
        assert (tmp_path / "out" / attempt["file"]).is_file()
    assert record["attempts"][-1]["verdict"]["accepted"] is not True


def test_a_server_that_refuses_later_leaves_the_picture_unscored(tmp_path: Path) -> None:
    with loopback(key=KEY, fault=lambda asked: "unauthorized") as server:
        done = inside(*arguments(server, tmp_path))
    assert done.exit_code == 3, done.output
    assert "refused the key" in done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [a["verdict"]["accepted"] for a in record["attempts"]] == [None]
    assert (tmp_path / "out" / "original.png").is_file()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--vlm", "gpt"], "'openai:gpt-4.1'"),
        (["--budget", "much"], "'much'"),
        (["--votes", "0"], "0"),
        (["--vlm", "http://127.0.0.1:1/v1#m"], "cannot be reached"),
        (["--vlm", "http://127.0.0.1:1/v1#m", "--budget", "1.0"], "vlm.prices"),
        (["--vlm", "openai:gpt-4.1"], "OPENAI_API_KEY"),
    ],
)
def test_bad_names_are_one_sentence_and_nothing_is_drawn(
    more: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = inside(*arguments(Server(url="http://127.0.0.1:1/v1"), tmp_path, *more, tries=1))
    assert done.exit_code == 2, done.output
    assert says in done.output
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_wrong_table_is_refused(tmp_path: Path) -> None:
    done = inside(*arguments(Server(url="http://127.0.0.1:1/v1"), tmp_path, speed=3))
    assert done.exit_code == 2
    assert "'speed'" in done.output


@pytest.mark.parametrize("more", [[], ["--batch", "2"]])
def test_ctrl_c_ends_a_run_whose_server_hangs(tmp_path: Path, more: list[str]) -> None:
    pictures: set[str] = set()

    def hung(asked: Asked) -> str | None:
        """Answers about the original, and then no more where a batch is verified."""
        pictures.update(asked.images)
        return "hung" if len(pictures) > bool(more) else None

    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from npcorrect.cli import main; main()"
    )
    with loopback(key=KEY, fault=hung) as server:
        run = subprocess.Popen(
            [sys.executable, "-c", start, *arguments(server, tmp_path, *more)],
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while not server.injected and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            run.send_signal(signal.SIGINT)
            _, errors = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130, errors
    assert "Traceback" not in errors


def test_a_model_from_the_hub_is_corrected_through_a_named_model(tmp_path: Path) -> None:
    build("flux-schnell").save_pretrained(tmp_path / "schnell")
    with loopback(key=KEY) as server:
        more = ("--model", str(tmp_path / "schnell"), "--size", "32", "--steps", "2")
        done = inside(*arguments(server, tmp_path, *more))
    assert done.exit_code == 3, done.output
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(record["attempts"]) > 1
    assert all(a["verdict"]["accepted"] is False for a in record["attempts"])
    assert {asked.images[0][:15] for asked in server.asked if asked.images} == {"data:image/png;"}
