"""What the commands of ``npc bench`` take: manifests, which may come from anyone, and options."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from npcorrect.cli import app, bench
from npcorrect.evaluation.run.fake import fake_manifest
from npcorrect.settings import LoadSettings, RoleSettings

THEIRS = "http://theirs.example/v1#m"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    made = fake_manifest(
        roles=RoleSettings(vlm=THEIRS), load=LoadSettings(model="mini", trust_remote_code=True)
    )
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(asdict(made)))
    return path


@pytest.mark.parametrize(
    ("given", "trusts", "key_for"),
    [
        ((), False, ""),
        (("--vlm", "http://mine/v1#m"), False, "http://mine/v1#m"),
        (("--trust-remote-code",), True, ""),
    ],
)
def test_keys_and_trust_are_the_users_own_word(
    given: tuple[str, ...],
    trusts: bool,
    key_for: str,
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(bench, "_run", lambda *arguments: taken.extend(arguments))
    monkeypatch.setattr(bench, "show_report", lambda *_, **__: None)
    done = CliRunner().invoke(app, ["bench", "run", "--manifest", str(manifest), *given])
    assert done.exit_code == 0, done.output
    settings, _, _, _, table, *_ = taken
    assert settings.roles.vlm == THEIRS
    assert settings.load == replace(settings.load, trust_remote_code=trusts)
    assert table.key_for == key_for


def test_a_part_of_a_manifests_run_is_done_and_other_settings_are_refused(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(bench, "_run", lambda *arguments: taken.extend(arguments))
    monkeypatch.setattr(bench, "show_report", lambda *_, **__: None)
    command = ["bench", "run", "--manifest", str(manifest)]
    done = CliRunner().invoke(app, [*command, "--shard", "2/4"])
    assert done.exit_code == 0, done.output
    assert str(taken[0].shard) == "2/4"
    for given in (("--images", "3"), ("--limit", "2"), ("--steps", "5"), ("--judge", "mini")):
        refused = CliRunner().invoke(app, [*command, *given])
        assert refused.exit_code == 2
        assert f"leave {given[0]} out" in refused.output


@pytest.mark.parametrize("name", ["score", "judge"])
def test_a_judges_options_are_those_that_all_faces_declare(name: str) -> None:
    command: Any = get_command(app)
    taken = {one.name: one.envvar for one in command.commands["bench"].commands[name].params}
    assert (taken["budget"], taken["cache"]) == ("NPC_BUDGET", "NPC_CACHE")
