"""Corrections whose roles are played behind real sockets, as a user runs them."""

from __future__ import annotations

import json
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from npcorrect.cli import app
from tests.diffusion.tiny import build
from tests.e2e.program import Start
from tests.vlm.loopback import MODEL, TRANSIENT, UNUSABLE, Asked, Server, loopback

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


def inside(*arguments: str) -> Result:
    """The command in this process, where starting it anew would only take time."""
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def passing(asked: Asked) -> str | None:
    draw = int(sha256(asked.key.encode()).hexdigest(), 16)
    return None if asked.again else FAULTS[draw % len(FAULTS)]


def test_a_correction_through_sockets_that_keep_failing(tmp_path: Path, started: Start) -> None:
    with loopback(key=KEY, fault=passing) as server:
        with started(*arguments(server, tmp_path, "--json")) as run:
            done = run.done()
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
def test_ctrl_c_ends_a_run_whose_server_hangs(
    tmp_path: Path, more: list[str], started: Start
) -> None:
    pictures: set[str] = set()

    def hung(asked: Asked) -> str | None:
        """Answers about the original, and then no more where a batch is verified."""
        pictures.update(asked.images)
        return "hung" if len(pictures) > bool(more) else None

    with (
        loopback(key=KEY, fault=hung) as server,
        started(*arguments(server, tmp_path, *more)) as run,
    ):
        run.until(lambda: server.injected)
        run.send(signal.SIGINT)
        done = run.done()
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


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


def test_ollamas_model_leaves_the_card_once_before_each_phase_of_drawing(tmp_path: Path) -> None:
    build("sdxl").save_pretrained(tmp_path / "tiny")
    phases: list[int] = []
    with loopback(key=KEY, ollama=True) as server:
        server.fault = lambda asked: phases.append(len(server.unloaded))
        done = inside(
            *arguments(server, tmp_path, "--json", "--model", str(tmp_path / "tiny")),
            *("--size", "96", "--device", "cpu", "--offload", "model"),
        )
        assert server.unloaded == [{"model": MODEL, "keep_alive": 0}] * 2
        assert server.loaded, "the last to work keeps the card"
    record = json.loads(done.stdout)
    assert done.exit_code == 3, done.output
    assert len(record["attempts"]) == 3
    assert sorted(phases) == phases
    assert set(phases) == {1, 2}, "asked after the first drawing and after the redrawings"
    assert record["cost"]["vlm_calls"] == len(phases)
    assert record["cost"]["swaps"] == 4
    assert [attempt["cost"]["swaps"] for attempt in record["attempts"]] == [2, 2, 0]


def test_the_embedded_model_has_nothing_to_offload(tmp_path: Path) -> None:
    with loopback(key=KEY, ollama=True) as server:
        done = inside(*arguments(server, tmp_path, "--offload", "model"))
        assert not server.asked
        assert not server.unloaded
    assert done.exit_code == 2
    assert "--offload is for models from the Hub or from files" in done.output
