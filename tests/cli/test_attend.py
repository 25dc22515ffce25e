"""``npc attend`` on a model of another family than the embedded one, in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from npcorrect.cli import app
from npcorrect.files import picture_texts
from tests.diffusion.tiny import SIZE, build

PROMPT = "two red dogs on a wooden table"


@pytest.fixture(scope="module")
def pixart(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "pixart"
    build("pixart-sigma").save_pretrained(folder)
    return str(folder)


def attend(model: str, out: Path, *arguments: str) -> Any:
    size = ("--size", str(SIZE), "--steps", "2", "--seeds", "2", "--device", "cpu")
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["attend", PROMPT, "--model", model, "--out", str(out), *size, *arguments]
    )


def test_a_model_of_another_family_is_looked_into(pixart: str, tmp_path: Path) -> None:
    done = attend(pixart, tmp_path, "--terms", "two, dogs", "--negative", "four dogs")
    assert done.exit_code == 0, done.stderr
    assert "targeted" in done.stdout
    rows = pyarrow.parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    assert {row["negative"] for row in rows} == {None, "four dogs"}
    assert {row["block"] for row in rows} == {
        "all", "transformer_blocks.0.attn2", "transformer_blocks.1.attn2",
    }  # fmt: skip


def test_the_negatives_are_texts_and_when_they_act_is_n(pixart: str, tmp_path: Path) -> None:
    done = attend(pixart, tmp_path, "--terms", "two", "--negative", "four dogs", "-n", "1..2")
    assert done.exit_code == 0, done.stderr
    texts = picture_texts(tmp_path / "picture-1-seed-0.png")["parameters"]
    assert "Negative prompt: four dogs" in texts
    assert "NPC window: 1..2" in texts
    assert "NPC acted in: 1..2" in texts
    refused = attend(pixart, tmp_path, "--terms", "two", "--negative", "four dogs", "-n", "2..3")
    assert refused.exit_code == 2
    assert "'negative' is '2..3'" in refused.stderr


def test_without_readable_requirements_it_asks_for_terms(pixart: str, tmp_path: Path) -> None:
    done = attend(pixart, tmp_path / "new", "--negative", "four dogs")
    assert done.exit_code == 2
    assert "--terms" in done.stderr
    assert not (tmp_path / "new").exists()
