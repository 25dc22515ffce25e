"""``npc doctor``: what is installed, and what a model's answers say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from npcorrect.cli import app
from tests.remote.servers import drawing_server
from tests.vlm.loopback import loopback


def doctor(*arguments: str, config: Path | None = None) -> Result:
    settings = ["--config", str(config)] if config else []
    return CliRunner().invoke(app, [*settings, "doctor", *arguments], env={"COLUMNS": "160"})


def test_it_says_what_is_installed_and_asks_nobody() -> None:
    done = doctor()
    assert done.exit_code == 0, done.output
    for text in ("torch", "2.13.0", "mini (intact, ", "cpu threads"):
        assert text in done.output
    assert "order of yes and no" not in done.output


def test_it_asks_a_named_model_and_says_what_a_correction_costs() -> None:
    with loopback() as server:
        done = doctor("--vlm", server.name, "--trials", "4")
        asked = len(server.asked)
    assert done.exit_code == 0, done.output
    assert asked > 10
    for text in (
        "structure",
        "all claims in one question",
        "claims answered alike",
        "0 of 4 answers differ from most",
        "calls,",
    ):
        assert text in done.output


def test_it_says_what_a_server_that_draws_can(tmp_path: Path) -> None:
    (tmp_path / "npc.toml").write_text(f"[vlm]\ncache = '{tmp_path / 'answers.sqlite'}'\n")
    with drawing_server() as server:
        server.names = {"seed": "seed", "negative_prompt": "negative_prompt"}
        done = doctor("--model", server.name, config=tmp_path / "npc.toml")
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in done.output.splitlines()]
    assert ["size", "32x32, or as asked"] in rows
    assert ["negative", "negative_prompt"] in rows
    assert ["steps", "not taken"] in rows


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--vlm", "gpt"), "not understood"),
        (("--vlm", "http://127.0.0.1:1/v1#m"), "cannot be reached"),
        (("--model", "http://127.0.0.1:1"), "cannot be reached"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    (tmp_path / "npc.toml").write_text("[vlm]\ntries = 1\n")
    done = doctor(*arguments, config=tmp_path / "npc.toml")
    assert done.exit_code == 2, done.output
    assert says in done.output
