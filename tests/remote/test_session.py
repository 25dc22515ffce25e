"""Corrections whose pictures a server draws, from the command to the files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from PIL import Image
from pydantic import TypeAdapter

from npcorrect.errors import InputError, ModelError, SettingsError
from npcorrect.evaluation.run.manifest import RunSettings
from npcorrect.mini.scene import IMAGE_SIZE, Scene, Thing, to_image
from npcorrect.records import Request
from npcorrect.session import SessionSettings, check, load_model, open_session
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.vlm.settings import VLMTable
from tests.e2e.program import inside
from tests.remote.servers import PictureServer, drawing_server, refusal
from tests.serve.fakes import FakeServer, listening
from tests.vlm.loopback import loopback

PROMPT = "three red apples"
SERVER = "http://127.0.0.1:7860"
KEY = "sk-planted-0123456789abcdef"


def apples(acting: Mapping[str, Any], size: tuple[int, int]) -> Image.Image:
    """Four red apples, or three where a negative acts; its corner shows the whole request."""
    count = 3 if "negative_prompt" in acting else 4
    places = [(place // 3, place % 3) for place in range(count)]
    picture = to_image(Scene(tuple(Thing(*place, "apple", "red", "large") for place in places)))
    shade = sum(map(ord, json.dumps(acting, sort_keys=True, default=str)))
    for x in range(2):
        picture.putpixel((x, IMAGE_SIZE - 1), (shade % 97, acting["seed"] % 89, 0))
    return picture


def config(folder: Path, **keys: str) -> Path:
    """A settings file with quick retries and a memory of its own."""
    lines = ["[vlm]", "first_wait = 0.01", "longest_wait = 0.1", "tries = 2",
             f"cache = {json.dumps(str(folder / 'answers.sqlite'))}", "[vlm.keys]",
             *(f"{json.dumps(url)} = {json.dumps(key)}" for url, key in keys.items())]  # fmt: skip
    path = folder / "npc.toml"
    path.write_text("\n".join(lines))
    return path


def npc(folder: Path, *arguments: str) -> CompletedProcess[str]:
    path = folder / "npc.toml"
    return inside("--config", str(path if path.is_file() else config(folder)), *arguments)


def mini_server(**options: Any) -> Any:
    """A server whose pictures the loopback VLM can read."""
    return drawing_server(paint=apples, sizes=(IMAGE_SIZE,), **options)


def at_its_size(server: PictureServer) -> None:
    """Pictures of the embedded world's size where nobody asks for one."""
    plain = server.paint
    server.paint = lambda acting, size: plain(acting, (IMAGE_SIZE, IMAGE_SIZE))
    server.sizes = (32, IMAGE_SIZE)


def test_a_picture_of_a_server_is_corrected_to_the_end(tmp_path: Path) -> None:
    with mini_server(key=f"Bearer {KEY}") as server, loopback() as vlm:
        at_its_size(server)
        config(tmp_path, **{server.url: KEY})
        command = ["correct", PROMPT, "--seed", "7", "--model", server.name, "--vlm", vlm.name]
        done = npc(tmp_path, *command, "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        asked = len(server.drawn)
        again = npc(tmp_path, *command, "--out", str(tmp_path / "again"))
        assert again.returncode == 0, again.stderr
        assert len(server.drawn) == asked + 2, "what it can is remembered"
        redrawn = npc(tmp_path, "redraw", str(tmp_path / "out"), "--out", str(tmp_path / "re"))
        assert redrawn.returncode == 0, redrawn.stderr + redrawn.stdout
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["accepted"]
    assert [attempt["generation"]["evaluations"] for attempt in record["attempts"]] == [0, 0]
    assert (record["cost"]["images"], record["cost"]["evaluations"]) == (2, 0)
    assert "unknown denoiser evaluations" in done.stdout
    original, redrawing = server.drawn[-4:-2]
    assert original["seed"] == redrawing["seed"] == 7
    assert "negative_prompt" not in original
    assert "apple" in redrawing["negative_prompt"]
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or path.name == "npc.toml" or KEY.encode() not in path.read_bytes()


def test_a_file_of_prompts_goes_to_the_server_too(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\ntwo red apples\n")
    with mini_server() as server, loopback() as vlm:
        at_its_size(server)
        done = npc(
            tmp_path, "correct", "--prompts", str(tmp_path / "prompts.txt"), "--model", server.name,
            "--vlm", vlm.name, "-k", "1", "--out", str(tmp_path / "out"),
        )  # fmt: skip
    lines = (tmp_path / "out" / "results.jsonl").read_text().strip().split("\n")
    assert [json.loads(line)["ended"] for line in lines] == ["accepted", "exhausted"], done.stderr


def test_a_benchmark_is_drawn_by_the_server(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\n")
    with mini_server() as server, loopback() as vlm:
        at_its_size(server)
        done = npc(
            tmp_path, "bench", "run", str(tmp_path / "prompts.txt"), "--methods", "base,npc",
            "--images", "2", "--model", server.name, "--vlm", vlm.name, "--judge", vlm.name,
            "--out", str(tmp_path / "run"),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize("method", ["npc-paper", "npc-oracle", "npc-no-negatives", "static"])
def test_methods_that_need_a_model_in_this_process_are_refused(tmp_path: Path, method: str) -> None:
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\n")
    done = npc(
        tmp_path, "bench", "run", str(tmp_path / "prompts.txt"), "--methods", f"base,{method}",
        "--model", SERVER, "--vlm", "http://localhost:1/v1#m", "--judge", "http://localhost:1/v1#m",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 2
    assert repr(method) in done.stderr


def test_a_manifests_server_is_not_asked(tmp_path: Path) -> None:
    made = RunSettings("mini", ("base",), load=LoadSettings(model=SERVER))
    content = {"settings": TypeAdapter(RunSettings).dump_python(made, mode="json")}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    done = npc(tmp_path, "bench", "run", "--manifest", str(tmp_path / "manifest.json"))
    assert done.returncode == 2
    assert "names a server that draws" in done.stderr


def test_openais_shape_is_drawn_and_verified_but_not_corrected(tmp_path: Path) -> None:
    with (
        mini_server(openai=True, names={}, strict=True) as server,
        loopback() as vlm,
    ):
        at_its_size(server)
        command = ["correct", PROMPT, "--model", server.name, "--vlm", vlm.name]
        refused = npc(tmp_path, *command, "--out", str(tmp_path / "out"))
        questions = len(vlm.questions())
        done = npc(tmp_path, *command, "--candidates", "0", "--out", str(tmp_path / "out"))
    assert refused.returncode == 2
    assert "takes no seed" in refused.stderr
    assert questions == 0, "nobody was asked about a picture"
    assert done.returncode == 3, done.stderr


def test_a_server_of_our_own_draws_for_us(tmp_path: Path) -> None:
    own = FakeServer(tmp_path / "served", good=0)
    with listening(own) as address, loopback() as vlm:
        command = ["correct", PROMPT, "--model", address, "--vlm", vlm.name, "--candidates", "0"]
        done = npc(tmp_path, *command, "--out", str(tmp_path / "out"))
        lost = npc(
            tmp_path, *command, "--steps", "9", "--scale", "2",
            "--strength", "0.5", "--out", str(tmp_path / "lost"),
        )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    with Image.open(tmp_path / "out" / "original.png") as picture:
        assert picture.size == (16, 16)
    assert lost.returncode == 2
    assert "the server at" in lost.stderr.lower()


def test_a_server_needs_neither_torch_nor_the_hub(tmp_path: Path) -> None:
    with drawing_server() as server:
        code = f"""
import sys
for name in ("torch", "diffusers", "transformers", "huggingface_hub"):
    sys.modules[name] = None
from npcorrect import correct_prompt
from npcorrect.vlm.base import Reply
from npcorrect.vlm.fake import FakeVLM
yes = FakeVLM([Reply("yes")], repeat=True)
result = correct_prompt("two red apples", model={server.name!r}, vlm=yes, seed=7)
result.save({str(tmp_path / "out")!r})
print(result.accepted, result.best.generation.image.size)
"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            check=False,
        )
    assert done.stdout == "True (32, 32)\n", done.stderr
    assert server.drawn[-1]["seed"] == 7


def settings(model: str = SERVER, vlm: str = "http://localhost:1/v1#m", **load: Any) -> Any:
    return SessionSettings(load=LoadSettings(model=model, **load), roles=RoleSettings(vlm=vlm))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"looks": 2}, "0 looks"),
        ({"rewinds": 1}, "number of rewinds is 1"),
        ({"negative": "0.2..0.7"}, "leave the interval out"),
        ({"rule": "extra"}, "use rule 'paper'"),
        ({"rule": "nag"}, "use rule 'paper'"),
        ({"ranker": "salient"}, "needs the model's text encoder.*use 'source'"),
        ({"ranker": "paper"}, "needs the model's text encoder.*use 'source'"),
        ({"scale": 1.0}, "no effect on the server at"),
    ],
)
def test_what_no_server_can_is_refused_before_it_is_asked(
    request_: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        check(settings(), Request(PROMPT, **request_))


@pytest.mark.parametrize(
    ("load", "says"),
    [
        ({"model": "http://127.0.0.1:port"}, "is not understood; a server that draws"),
        ({"model": "http://localhost:8000/v1"}, "needs a model"),
        ({"model": "http://me:SECRET@host"}, "holds a key"),
        ({"model": "openai:gpt-image-1"}, "needs a key; set OPENAI_API_KEY"),
        ({"lora": ("x.safetensors",)}, "--lora is for models from the Hub"),
        ({"offload": "model"}, "--offload is for models"),
        ({"family": "sdxl"}, "--family is for models"),
    ],
)
def test_what_is_wrong_with_a_server_is_refused_before_it_is_asked(
    load: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match=says) as caught:
        check(settings(**load), Request(PROMPT))
    assert "SECRET" not in str(caught.value)


def test_pictures_of_a_server_need_a_model_that_looks() -> None:
    with pytest.raises(SettingsError, match="the embedded verifier cannot read"):
        check(SessionSettings(load=LoadSettings(model=SERVER)), Request(PROMPT))


def test_what_reads_a_models_inside_has_none_on_a_server() -> None:
    with pytest.raises(SettingsError, match="neither its attention nor its text encoder"):
        load_model(LoadSettings(model=SERVER))
    for command in (["rank", PROMPT, "four apples"], ["attend", PROMPT]):
        done = inside(*command, "--model", SERVER)
        assert done.returncode == 2
        assert "on a server" in done.stderr


def test_the_key_of_the_environment_goes_to_the_server_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPC_MODEL_KEY", KEY)
    monkeypatch.setenv("NPC_VLM_KEY", "sk-of-the-roles")
    table = VLMTable(cache=tmp_path / "answers.sqlite", tries=1)
    with drawing_server(fault=lambda path, body: refusal("no", 401)) as server, loopback() as vlm:
        wanted = settings(server.name, vlm.name)
        wanted = SessionSettings(load=wanted.load, roles=wanted.roles, table=table)
        with pytest.raises(ModelError, match="refused the key"), open_session(wanted):
            pass
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        assert all(KEY not in str(asked.headers) for asked in vlm.asked)


def test_the_record_of_somebody_else_gets_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mini_server() as server, loopback() as vlm:
        at_its_size(server)
        npc(tmp_path, "correct", PROMPT, "--model", server.name, "--vlm", vlm.name, "-k", "0",
            "--out", str(tmp_path / "out"))  # fmt: skip
        monkeypatch.setenv("NPC_MODEL_KEY", KEY)
        server.headers.clear()
        npc(tmp_path, "redraw", str(tmp_path / "out"), "--out", str(tmp_path / "re"))
        assert server.headers
        assert all("authorization" not in headers for headers in server.headers)
