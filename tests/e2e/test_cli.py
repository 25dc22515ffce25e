"""The installed program, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

NPC = (sys.executable, "-m", "npcorrect")


def npc(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NPC, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


def test_help_loads_no_torch() -> None:
    code = "import sys, npcorrect.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    help_text = npc("--help")
    assert help_text.returncode == 0
    assert all(verb in help_text.stdout for verb in ("correct", "rank", "attend", "doctor"))


def test_a_correction_leaves_everything_that_is_promised(tmp_path: Path) -> None:
    done = npc("correct", "three red circles and one blue square", "-k", "1", "--seed", "7",
               "--json", "--out", str(tmp_path))  # fmt: skip
    record = json.loads(done.stdout)
    assert done.returncode == (0 if record["accepted"] else 3)
    assert record == json.loads((tmp_path / "result.json").read_text())
    assert {"original.png", "best.png", "sheet.png"} <= {p.name for p in tmp_path.iterdir()}
    for attempt in record["attempts"]:
        with Image.open(tmp_path / attempt["file"]) as image:
            assert image.size == (96, 96)
            assert "Steps:" in image.info["parameters"]


def test_attention_is_shown_and_tabulated(tmp_path: Path) -> None:
    done = npc("attend", "three red circles and one blue square", "--negative", "",
               "--negative", "four circles", "--terms", "three,circles", "--seeds", "2",
               "--steps", "4", "--window", "2", "--out", str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "targeted" in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    drawn = {"series", "blocks", "maps-0", "maps-1", "maps-2"}
    assert {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")} <= names
    tables = {"scores", "terms", "maps"}
    assert {f"{name}.{kind}" for name in tables for kind in ("csv", "parquet")} <= names
    assert {f"picture-{n}-seed-{seed}.png" for n in range(3) for seed in range(2)} <= names


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["three red circles", "--terms", "three,cats"], "'cats'"),
        (["three lamps"], "'lamps'"),
        (["two stars", "--rule", "nope"], "'nope'"),
        (["two stars", "--window", "99"], "99"),
    ],
)
def test_attend_refuses_what_cannot_be_shown(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = npc("attend", *arguments, "--out", str(tmp_path / "new"))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([""], "empty"),
        (["three lamps"], "'lamps'"),
        (["one star", "--model", "nope"], "'nope'"),
        (["three red circles and " * 5 + "one star"], "twice"),
        (
            [
                "five large red circles, five large blue stars, five large green hearts, "
                "five large pink crosses and five large black squares"
            ],
            "tokens",
        ),
        (["one star", "--size", "100"], "100"),
        (["one star", "-k", "51"], "51"),
        (["one star", "--looks", "24"], "0 to 8"),
        (["one star", "--strength", "0"], "strength is 0"),
        (["one star", "--rewinds", "-1"], "rewinds is -1"),
        (["one star", "-k", "-1"], "-1"),
        (["one star", "--batch", "0"], "batch is 0"),
        (["one star", "-n", "99"], "99"),
        (["one star", "-n", "x"], "'x'"),
        (["one star", "--rule", "magic"], "'magic'"),
        (["one star", "--steps", "0"], "0"),
        (["one star", "--out", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    where = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    done = npc("correct", *arguments, *where)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_was_drawn(tmp_path: Path) -> None:
    never_right = ("nine large red circles", "-k", "50", "--out", str(tmp_path))
    # Started in the background, Python ignores SIGINT, so the handler of a terminal is set.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from npcorrect.cli import main; main()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", start, "correct", *never_right], stderr=subprocess.PIPE, text=True
    )
    first = tmp_path / "attempt-1.png"
    deadline = time.monotonic() + 120
    while not first.exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130, errors
    assert "Traceback" not in errors
    for path in (tmp_path / "original.png", first):
        with Image.open(path) as image:
            image.load()


def test_settings_come_from_flags_then_environment_then_the_file(tmp_path: Path) -> None:
    file = tmp_path / "npc.toml"
    file.write_text("[correct]\nseed = 5\ncandidates = 0\nsteps = 2\n")
    base = ("--config", str(file), "correct", "one star", "--json", "--out", str(tmp_path / "out"))

    def seed(*flags: str, **environment: str) -> int:
        record = json.loads(npc(*base, *flags, **environment).stdout)
        assert len(record["attempts"]) == 1
        return int(record["request"]["seed"])

    assert seed() == 5
    assert seed(NPC_SEED="6") == 6
    assert seed("--seed", "7", NPC_SEED="6") == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [("seed =", "cannot be read"), ("[draw]", "'draw'"), ("[correct]\nsed = 1", "'sed'")],
)
def test_a_wrong_settings_file_is_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "npc.toml"
    file.write_text(text)
    done = npc("--config", str(file), "correct", "one star", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert says in done.stderr


def test_rank_scores_without_drawing() -> None:
    done = npc("rank", "three red circles", "four circles", "blue circles")
    assert done.returncode == 0, done.stderr
    assert "four circles" in done.stdout
    assert "blue circles" in done.stdout


def test_rank_by_a_ranker_of_choice() -> None:
    whole = npc("rank", "three red circles", "four circles", "--ranker", "paper")
    assert "negative" in whole.stdout.splitlines()[-2]
    unknown = npc("rank", "three red circles", "four circles", "--ranker", "best")
    assert unknown.returncode == 2
    assert "'best' is unknown; use salient" in unknown.stderr


def test_doctor_says_what_would_run() -> None:
    done = npc("doctor")
    assert done.returncode == 0, done.stderr
    assert "embedded model" in done.stdout
    assert "model cache" in done.stdout
