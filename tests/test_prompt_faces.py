"""Whatever somebody types as a prompt is drawn or refused in one sentence, through every face."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mcp import Client
from typer.testing import CliRunner

from comfyui.text import plain as without_embeddings
from npcorrect.batch import folder_name, page, row
from npcorrect.cli import app
from npcorrect.errors import InputError
from npcorrect.files import picture_texts
from npcorrect.mcp import server
from npcorrect.prompts import Job, parsed, texts_of
from npcorrect.records import Request
from npcorrect.result import load_result, to_record
from tests.fakes import session
from tests.serve.fakes import FakeServer, served

AWKWARD = st.sampled_from(
    ["[/x]", "[red]", ":heart:", "\x1b[2J", "\x9b31m", "\u202e", "\r\n", "\t", "\x00", "\ud800",
     "{{ x }}", "{% if %}", "%s", "</script>", "<b>", "&amp;", "embedding:x", "(a:1.2)", "BREAK",
     "Steps: 3", "Negative prompt: x", '"', "'", "\\", "`", "$(id)", "../../etc", "--seed 3",
     "\u2028", "\ufeff", "\u4e09\u4e2a", "\U0001f600", " " * 50, "a" * 300]
)  # fmt: skip
PROMPTS = st.lists(AWKWARD | st.text(max_size=8) | st.just("three apples"), max_size=5).map("".join)
quick = settings(max_examples=30, suppress_health_check=list(HealthCheck))


def one_sentence(call: Callable[[], Any]) -> Any:
    """What a call returns, or None where it is refused, in one line."""
    try:
        return call()
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 (both outcomes are right)
        return None


@quick
@given(PROMPTS)
@example("three apples\nNegative prompt: x\nSteps: 3")
def test_python_and_what_it_leaves(prompt: str) -> None:
    opened = session()
    request = Request(prompt, candidates=1, ranker="source")
    result = one_sentence(lambda: _finished(opened.correct(request)))
    if result is None:
        return
    with TemporaryDirectory() as folder:
        result.save(folder)
        assert load_result(folder).request.prompt == prompt
        assert (Path(folder) / "sheet.png").is_file()
        picture_texts(Path(folder) / "best.png")
        texts_of(Path(folder) / "best.png")
        job = Job(1, request, "p, line 1")
        html = page([row(job, Path(folder_name(job)), to_record(result))], 1)
    assert "</script>" not in html
    assert set(folder_name(job)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def _finished(correction: Any) -> Any:
    for _ in correction:
        pass
    return correction.result


@quick
@given(PROMPTS, st.sampled_from(["", ".jsonl", ".csv", ".tsv"]))
def test_files_of_prompts(prompt: str, suffix: str) -> None:
    one_sentence(lambda: list(parsed(prompt, "p", suffix)))
    line = json.dumps({"prompt": prompt})
    assert [values for _, values in parsed(line, "p", ".jsonl")] == [{"prompt": prompt}]


@settings(quick, max_examples=3)
@given(st.lists(PROMPTS, min_size=5, max_size=5))
def test_assistants(prompts: list[str]) -> None:
    async def main() -> None:
        async with Client(server(session)) as client:
            for prompt in prompts:
                sent = prompt.encode("utf-8", "replace").decode()
                asked = {"prompt": sent, "settings": {"candidates": 1, "ranker": "source"}}
                answer = await client.call_tool("draw_and_correct", asked)
                assert answer.content
                assert "Traceback" not in str(answer.content)

    anyio.run(main)


ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/jobs": {"settings": {"ranker": "source"}},
    "/v1/images/generations": {"ranker": "source"},
    "/sdapi/v1/txt2img": {"width": 16, "height": 16, "steps": 4},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with served(FakeServer(tmp_path_factory.mktemp("jobs"))) as client:
        yield client


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@settings(quick, max_examples=10)
@given(PROMPTS, st.sampled_from(["prompt", "negative_prompt"]))
def test_clients_of_the_server(
    client: httpx2.Client, endpoint: str, prompt: str, name: str
) -> None:
    asked = {"prompt": "three circles", **ENDPOINTS[endpoint], name: prompt}
    content = json.dumps(asked).encode()
    answer = client.post(endpoint, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text


@settings(quick, max_examples=4)
@given(PROMPTS, PROMPTS)
@example("three circles", "[/x] \x1b[2J")
@example("three circles [/x] \x1b[2J", "\u202e \ud800")
def test_the_command_line(prompt: str, negative: str) -> None:
    with TemporaryDirectory() as folder:
        drawn = ["--steps", "4", "-k", "1", "--out", f"{folder}/out"]
        for command in (
            ["correct", *drawn, f"--negative-prompt={negative}", "--", prompt],
            ["rank", "--", prompt, "four circles", negative],
        ):
            done = CliRunner().invoke(app, command)
            assert done.exception is None or isinstance(done.exception, SystemExit)
            assert done.exit_code in (0, 2, 3)
            assert not {"\x1b", "\u202e"} & {*done.output}


@quick
@given(PROMPTS)
def test_nodes_of_comfyui(prompt: str) -> None:
    assert "embedding:" not in without_embeddings(prompt)
