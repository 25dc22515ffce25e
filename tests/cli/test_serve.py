"""What ``npc serve`` refuses before it listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from npcorrect.cli import app
from npcorrect.errors import ModelError


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "say with --token"),
        (["--host", "studio.lan"], "say with --token"),
        (["--token", "short"], "16 letters"),
        (["--token", "with a line\nbreak in it"], "16 letters"),
        (["--host", "0.0.0.0", "--token", "a" * 16, "--vlm", "nope"], "'nope'"),
        (["--model", "/nowhere", "--vlm", "http://x/v1#y"], "/nowhere"),
        (["--host", "192.0.2.1", "--token", "a" * 16], "Cannot listen on 192.0.2.1"),
    ],
)
def test_what_could_not_work_is_refused(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["serve", "--out", str(tmp_path / "jobs"), *arguments])
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.output.split())
    assert not (tmp_path / "jobs").exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["serve", "--out", str(tmp_path / "jobs"), "--port", port])
    assert done.exit_code == 2
    assert f"port {port}" in done.output


def test_without_its_packages_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("npcorrect.extras.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["serve", "--out", str(tmp_path / "jobs")])
    assert done.exit_code == 2
    assert "npcorrect[serve]" in done.output


def test_without_its_model_the_server_ends_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def opened(settings: object) -> None:
        raise ModelError("The weights are gone.")

    monkeypatch.setattr("npcorrect.serve.server.open_session", opened)
    done = CliRunner().invoke(app, ["serve", "--out", str(tmp_path / "jobs"), "--port", "0"])
    assert done.exit_code == 2
    assert "The weights are gone." in done.output
