"""The installed program, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.e2e.program import Start, inside

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


def test_a_correction_is_whole_and_drawn_again_bit_for_bit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = npc("correct", "three red apples and one blue cup", "-k", "1", "--seed", "7",
               "--json", "--out", str(out))  # fmt: skip
    record = json.loads(done.stdout)
    assert done.returncode == (0 if record["accepted"] else 3)
    assert record == json.loads((out / "result.json").read_text())
    assert {"original.png", "best.png", "sheet.png"} <= {p.name for p in out.iterdir()}
    for attempt in record["attempts"]:
        with Image.open(out / attempt["file"]) as image:
            assert image.size == (192, 192)
            assert "Sampler: Euler" in image.info["parameters"]
            assert "Model: mini" in image.info["parameters"]
    again = inside("redraw", str(out / "result.json"), "--out", str(tmp_path / "again"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("the same, bit for bit") == len(record["attempts"])
    with Image.open(out / "best.png") as image:
        changed = image.copy()
        changed.putpixel((0, 0), (1, 2, 3))
        info = PngInfo()
        info.add_text("npcorrect", image.info["npcorrect"])
        changed.save(tmp_path / "changed.png", pnginfo=info)
    differs = inside("redraw", str(tmp_path / "changed.png"), "--out", str(tmp_path / "again"))
    assert differs.returncode == 3, differs.stderr
    assert "1 pixels differ" in differs.stdout


def test_a_killed_file_of_prompts_is_continued(tmp_path: Path, started: Start) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "out"
    file.write_text("one red banana\ntwo green clocks\nthree blue cups\n")
    command = ("correct", "--prompts", str(file), "-k", "1", "--steps", "6", "--looks", "0",
               "--rewinds", "0", "--out", str(out))  # fmt: skip
    with started(*command) as run:
        run.until((out / "0002-two-green-clocks/result.json").exists)
    first = (out / "0001-one-red-banana/original.png").stat().st_mtime_ns
    done = inside(*command)
    assert done.returncode in (0, 3), done.stderr
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["number"] for row in rows] == [1, 2, 3]
    assert (out / "0001-one-red-banana/original.png").stat().st_mtime_ns == first
    assert {path.name for path in out.glob("*/.*")} == {".npc.lock"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_standard_output_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*NPC, "models"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert b"No space left on device" in done.stderr


def test_a_terminal_of_few_characters_shows_what_it_can(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NPC, "rank", "three red apples", "zwölf 🔴", "b\udcff"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode in (0, 2)
    assert b"Traceback" not in done.stderr


def test_attention_is_shown_and_tabulated(tmp_path: Path) -> None:
    done = inside("attend", "three red apples and one blue cup", "--negative", "",
                  "--negative", "four apples", "--terms", "three,apples", "--seeds", "2",
                  "--steps", "4", "-n", "2", "--out", str(tmp_path))  # fmt: skip
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
        (["three red apples", "--terms", "three,cats"], "'cats'"),
        (["three lamps"], "'lamps'"),
        (["two bananas", "--rule", "nope"], "'nope'"),
        (["two bananas", "-n", "99"], "99"),
    ],
)
def test_attend_refuses_what_cannot_be_shown(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = inside("attend", *arguments, "--out", str(tmp_path / "new"))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_ctrl_c_keeps_what_was_drawn(tmp_path: Path, started: Start) -> None:
    never_right = ("a smaller cat and a smaller dog", "-k", "50", "--out", str(tmp_path))
    first = tmp_path / "attempt-1.png"
    with started("correct", *never_right) as run:
        run.until(first.exists)
        run.send(signal.SIGINT)
        done = run.done()
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    for path in (tmp_path / "original.png", first):
        with Image.open(path) as image:
            image.load()


def test_rank_scores_without_drawing() -> None:
    done = inside("rank", "three red apples", "four apples", "blue apples")
    assert done.returncode == 0, done.stderr
    assert "four apples" in done.stdout
    assert "blue apples" in done.stdout


def test_rank_by_a_ranker_of_choice() -> None:
    whole = inside("rank", "three red apples", "four apples", "--ranker", "paper")
    assert "negative" in whole.stdout.splitlines()[-2]
    unknown = inside("rank", "three red apples", "four apples", "--ranker", "best")
    assert unknown.returncode == 2
    assert "'ranker' is 'best'; give one of salient" in unknown.stderr


def test_doctor_says_what_would_run() -> None:
    done = inside("doctor")
    assert done.returncode == 0, done.stderr
    assert "embedded model" in done.stdout
    assert "model cache" in done.stdout
