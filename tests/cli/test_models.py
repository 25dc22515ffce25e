"""``npc models`` and the loading options, in process; ``test_one_run`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from npcorrect.cli import app
from npcorrect.diffusion.families import FAMILIES
from tests.diffusion.tiny import build
from tests.vlm.loopback import loopback


@pytest.fixture(scope="module")
def schnell(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "schnell"
    build("flux-schnell").save_pretrained(folder)
    return str(folder)


def npc(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def test_every_family_is_listed() -> None:
    listed = json.loads(npc("models", "--json").stdout)
    assert [row["family"] for row in listed] == list(FAMILIES)
    rows = {row["family"]: row for row in listed}
    assert rows["flux-dev"]["window"] == "first 3"
    assert rows["flux-dev"]["then"] == "prompt alone"
    assert rows["sdxl"]["then"] == "empty prompt"
    assert rows["z-image-turbo"]["rules"] == ["nag"]
    assert rows["flux-schnell"]["rules"] == ["nag", "vsf"]
    assert "distilled" in rows["z-image-turbo"]["note"]
    table = npc("models").stdout
    assert all(name in table for name in FAMILIES)
    assert "trained weights were tried for 'mini' only" in " ".join(table.split())


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    listed = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["models"]).output
    assert "\N{HORIZONTAL ELLIPSIS}" not in listed


def test_one_model_is_shown_without_its_weights(schnell: str) -> None:
    for file in Path(schnell).glob("*/*.safetensors"):
        assert file.stat().st_size > 0
    shown = npc("models", "show", schnell)
    assert shown.exit_code == 0
    assert "FLUX.1 [schnell] (guidance_embeds is false)" in shown.stdout
    assert "was distilled to draw without guidance" in shown.stdout
    assert "embedded" in npc("models", "show", "mini").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("models", "show", "nowhere"), "There is no model 'nowhere'"),
        (("models", "show", "a/b", "--offline"), "not in the local cache"),
        (("models", "show", "a/b", "--family", "sd9"), "family 'sd9' is unknown"),
        (("correct", "a cat", "--model", "nowhere"), "There is no model 'nowhere'"),
        (("correct", "a cat", "--offload", "moon"), "'offload' is 'moon'; give one of none, model"),
        (
            ("correct", "a cat", "--quantize", "3bit"),
            "'quantize' is '3bit'; give one of 8bit, 4bit",
        ),
        (("correct", "a cat", "--rule", "magic"), "one of paper, extra, turns, dynamic"),
        (("correct", "a banana", "--rule", "vsf"), "'vsf' is not written for the embedded model"),
        (("correct", "a banana", "--rule", "paper", "--scale", "1.0"), "scale of 1 a negative"),
        (
            ("correct", "a banana", "--rule", "paper", "--scale", "1", "--seed", "3"),
            "has no effect",
        ),
        (("correct", "two red bananas", "--compile"), "--compile is for models from the Hub"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out")) if arguments[0] == "correct" else ()
    done = npc(*arguments, *out)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not list(tmp_path.glob("out/*"))


def test_a_real_model_without_eyes_is_one_sentence(schnell: str, tmp_path: Path) -> None:
    done = npc("correct", "a cat", "--model", schnell, "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert "is FLUX.1 [schnell], whose pictures the embedded verifier cannot read" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rule", "evaluations"), [("nag", [4, 8, 8]), ("vsf", [4, 4, 4])])
def test_a_model_from_a_folder_is_corrected_through_eyes_on_a_server(
    schnell: str, tmp_path: Path, rule: str, evaluations: list[int]
) -> None:
    with loopback() as server:
        done = npc("correct", "three red apples", "--model", schnell, "--vlm", server.name,
                   "--device", "cpu", "--size", "96", "-k", "2", "--batch", "2", "--no-cache",
                   *(() if rule == "nag" else ("--rule", rule)), "--json",
                   "--out", str(tmp_path))  # fmt: skip
    assert done.exit_code in (0, 3), done.stderr
    attempts = json.loads(done.stdout)["attempts"]
    assert [attempt["generation"]["evaluations"] for attempt in attempts] == evaluations
    assert {attempt["generation"]["rule"] for attempt in attempts} == {rule}
    assert (tmp_path / "sheet.png").is_file()


def test_one_run(schnell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npcorrect", "models", "show", schnell, "--offline"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "flux-schnell" in done.stdout
