"""``npc bench`` as a user runs it."""

from __future__ import annotations

import csv
import json
import signal
from hashlib import sha256
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.e2e.program import Start, inside

QUICK = ("--limit", "2", "--images", "2", "--steps", "4", "--threads", "1")
"""Settings under which a picture takes a moment; four steps draw next to nothing right."""


def test_a_run_reports_and_continues(tmp_path: Path, started: Start) -> None:
    run = tmp_path / "a"
    command = ("run", "mini", *QUICK, "--methods", "base,npc", "--out", str(run))
    with started("bench", *command) as first:
        done = first.done()
    assert done.returncode == 0, done.stderr
    assert "4 of 4" in done.stderr
    assert "npc" in done.stdout
    assert {p.name for p in (run / "report").iterdir()} == {
        "report.html", "report.md", "report.csv", "report.json",
        "parts.csv", "summary.csv", "summary.tex",
    }  # fmt: skip
    rows = list(csv.DictReader((run / "report" / "report.csv").read_text().splitlines()))
    assert len(rows) == 4
    before = (run / "report" / "report.html").read_bytes()

    again = inside("bench", "run", "--manifest", str(run / "manifest.json"), "--out", str(run))
    assert again.returncode == 0, again.stderr
    assert (run / "report" / "report.html").read_bytes() == before, "nothing was drawn again"

    other = inside("bench", *command, "--images", "3")
    assert other.returncode == 2
    assert "images 2 instead of 3" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "Name a benchmark"),
        (["run", "nope"], "'nope'"),
        (["run", "mini", "--methods", "magic"], "'magic'"),
        (["run", "mini", "--methods", "base,base"], "each once"),
        (["run", "mini", "--images", "0"], "--images is 0"),
        (["run", "mini", "--limit", "0"], "--limit is 0"),
        (["run", "mini", "--shard", "3/2"], "3/2"),
        (["run", "mini", "--shard", "x"], "'x'"),
        (["run", "mini", "--judge", "openai:gpt-4.1"], "leave --judge out"),
        (["run", "mini", "--methods", "rewrite"], "--vlm"),
        (["run", "mini", "--judge", "none"], "'none' is for geneval"),
        (["run", "mini", "--wording", "upstream"], "leave --wording out"),
        (["run", "mini", "--methods", "/nowhere.py:x"], "is no file"),
        (["judge", "/nowhere", "--judge", "openai:x"], "'/nowhere' holds no run"),
        (["run", "geneval++", "--judge", "openai:x", "--data", "/nowhere"], "npc bench fetch"),
        (["run", "--manifest", "/nowhere.json"], "/nowhere.json"),
        (["score", "geneval++"], "--images"),
        (["score", "mini", "--images", "/nowhere", "--name", "../x"], "--name"),
        (["report", "/nowhere"], "'/nowhere' holds no run"),
        (["merge", "/nowhere", "--out", "/tmp/x"], "'/nowhere' holds no run"),
        (["fetch", "mini"], "'mini' has no official file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    where = ["--out", str(tmp_path / "out")] if arguments[0] in ("run", "score") else []
    done = inside("bench", *arguments, *where)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


OWN = """
from npcorrect.evaluation.benchmarks.base import Score
from npcorrect.evaluation.methods.base import seeds as plain
class Judge:
    name = "own"
    def __init__(self, source):
        pass
    def scores(self, pictures):
        return [Score(1.0) for _ in pictures]
"""


def test_own_methods_and_a_second_judge_take_part(tmp_path: Path) -> None:
    own, run = tmp_path / "my.py", str(tmp_path / "a")
    own.write_text(OWN)
    command = ("run", "mini", *QUICK, "--methods", f"base,{own}:plain", "--out", run)
    done = inside("bench", *command)
    assert done.returncode == 0, done.stderr
    assert "my.py:plain" in done.stdout
    copied = inside(
        "bench", "run", "--manifest", f"{run}/manifest.json", "--out", str(tmp_path / "b")
    )
    assert copied.returncode == 2
    assert "names code" in copied.stderr

    judged = inside("bench", "judge", run, "--judge", f"{own}:Judge")
    assert judged.returncode == 0, judged.stderr
    assert "further judge my.py:Judge: same score for" in judged.stdout
    second = inside("bench", "report", run, "--judge", "my.py:Judge", "--against", "base")
    assert second.returncode == 0, second.stderr
    rows = csv.DictReader((tmp_path / "a" / "report" / "summary.csv").read_text().splitlines())
    assert [row["method"] for row in rows] == ["base", "my.py:plain"]
    report = (tmp_path / "a" / "report" / "report.json").read_text()
    assert json.loads(report)["judge"] == ["my.py:Judge"]
    made = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert len(made["weights"]) == 64, "the embedded model's hash"
    assert made["own"] == {"my.py": sha256(OWN.encode()).hexdigest()}
    own.write_text(OWN + "# changed")
    changed = inside("bench", "run", "mini", *QUICK, "--methods", f"{own}:plain", "--out", run)
    assert changed.returncode == 2
    assert "other code in my.py" in changed.stderr


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    tmp_path: Path, started: Start
) -> None:
    command = ("run", "mini", *QUICK, "--methods", "base", "--out", str(tmp_path))
    with started("bench", *command, "--limit", "200") as run:
        run.until(lambda: list(tmp_path.glob("images/*/*.png")))
        run.send(signal.SIGINT)
        done = run.done()
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "holds no run" not in inside("bench", "report", str(tmp_path)).stderr


def test_settings_of_a_subcommand_come_from_the_file(tmp_path: Path) -> None:
    file, out = tmp_path / "npc.toml", tmp_path / "out"

    def run(text: str) -> CompletedProcess[str]:
        file.write_text(text)
        return inside("--config", str(file), "bench", "run", "mini", "--out", str(out))

    assert "--images is 0" in run("[bench.run]\nimages = 0\n").stderr
    assert "'imags'" in run("[bench.run]\nimags = 1\n").stderr
    assert "it is a table" in run("[bench]\nrun = 1\n").stderr
    assert "'go'" in run("[bench.go]\nimages = 1\n").stderr
