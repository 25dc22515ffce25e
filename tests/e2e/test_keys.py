"""A key of any shape goes to its own server; nothing else shows it, whatever that server says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.program import inside
from tests.vlm.scripted import Body, Reply, completion, error, scripted

SENT = [
    "sk-planted-0123456789\r\n",
    "\tsk-planted-tabbed\t",
    "user:planted-password@example.org",
    "per%cent%41%25planted",
    'quoted"planted\'key"',
    "\\\\back\\slash\\\\planted",
    "<b>planted</b>&amp;{{key}}",
    "[bold]planted[/bold]:heart:",
    "planted" * 100,
    "{planted}$$%s%(key)s",
]
REFUSED = [
    "sk-planted\ttabbed",
    "sk-plant\u00e9d",
    "\u201csk-planted\u201d",
    "sk-planted\nX-Evil: 1",
]
ORGANISATION = "org-planted-organisation"


def spellings(key: str) -> set[bytes]:
    """The ways in which a key might be found."""
    escaped = json.dumps(key)[1:-1]
    html = key.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
    return {text.encode() for text in (key, escaped, repr(key)[1:-1], html)}


def found(key: str, folder: Path, *shown: str) -> list[str]:
    """Where a key is: in what was shown, or in a file."""
    texts = {f"output {n}": text.encode() for n, text in enumerate(shown)}
    texts |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wanted = spellings(key) | {ORGANISATION.encode()}
    return [name for name, text in texts.items() if any(one in text for one in wanted)]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", ORGANISATION)
    monkeypatch.setenv("OPENAI_PROJECT_ID", ORGANISATION)
    monkeypatch.setenv("OPENAI_API_KEY", ORGANISATION)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("planted", SENT)
def test_what_a_server_echoes_is_in_no_output(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPC_VLM_KEY", planted)
    key = planted.strip()
    asked = 0

    def answer(body: Body) -> Reply:
        nonlocal asked
        asked += 1
        if "<claim>" not in json.dumps(body) and "prompt" not in json.dumps(body):
            return Reply(completion(f"an apple for {key}"))
        phrase = f"a thing with {key} in it"
        replies = (
            Reply(completion("no")),
            Reply(completion(json.dumps({"text": phrase, "phrases": [phrase]}))),
            error(f"Incorrect API key: Bearer {key}", 400),
            Reply(completion(f"no, {key}")),
            error(f"broken by {key}", 500),
        )
        return replies[asked % len(replies)]

    with scripted(answer) as server:
        vlm = f"{server.url}/v1#m"
        command = ("two red apples", "--steps", "2", "-k", "1", "--vlm", vlm)
        config = tmp_path.parent / f"{tmp_path.name}.toml"
        config.write_text("[vlm]\ntries = 2\nfirst_wait = 0.001\nlongest_wait = 0.01\n")
        done = inside("--config", str(config), "correct", *command, "--out", str(tmp_path / "out"))
    assert done.returncode in (0, 3), done.stderr
    assert {headers.get("authorization") for headers in server.headers} == {f"Bearer {key}"}
    assert not [h for headers in server.headers for h in headers if h.startswith("openai")]
    assert (tmp_path / "out" / "result.json").is_file()
    assert found(key, tmp_path, done.stdout, done.stderr) == []


@pytest.mark.parametrize("planted", REFUSED)
def test_a_key_that_cannot_be_sent_is_one_sentence_without_it(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPC_VLM_KEY", planted)
    with scripted(lambda body: Reply(completion())) as server:
        command = ("correct", "two red apples", "--vlm", f"{server.url}/v1#m")
        done = inside(*command, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "NPC_VLM_KEY" in done.stderr
    assert server.asked == []
    assert not (tmp_path / "out").exists()
    assert found(planted, tmp_path, done.stdout, done.stderr) == []


def test_runs_and_reports_hold_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = SENT[2]
    monkeypatch.setenv("NPC_VLM_KEY", key)

    def answer(body: Body) -> Reply:
        if "<claim>" in json.dumps(body):
            return Reply(completion("no" if len(server.asked) % 3 else f"no, {key}"))
        return Reply(completion(f"an apple for {key}"))

    with scripted(answer) as server:
        quick = ("--limit", "1", "--methods", "npc", "--images", "2", "--steps", "2")
        command = ("bench", "run", "mini", *quick, "--vlm", f"{server.url}/v1#m")
        done = inside(*command, "--out", str(tmp_path / "run"))
    assert done.returncode in (0, 4), done.stderr
    assert {headers.get("authorization") for headers in server.headers} == {f"Bearer {key}"}
    assert (tmp_path / "run" / "manifest.json").is_file()
    assert found(key, tmp_path, done.stdout, done.stderr) == []
