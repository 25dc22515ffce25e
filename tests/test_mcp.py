"""The tools, through the protocol's own client; ``test_over_standard_output`` as assistants do."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.mcp import server
from npcorrect.records import Request
from npcorrect.session import Session
from tests.fakes import FakeViewer, session

Use = Callable[[Client], Awaitable[Any]]


def using(opened: Session, use: Use) -> Any:
    async def main() -> Any:
        async with Client(server(lambda: opened)) as client:
            return await use(client)

    return anyio.run(main)


def picture(answer: Any) -> Image.Image:
    return Image.open(BytesIO(b64decode(answer.content[0].data)))


def encoded(image: Image.Image) -> str:
    file = BytesIO()
    image.save(file, "PNG")
    return b64encode(file.getvalue()).decode()


def test_two_tools_are_offered_with_every_setting() -> None:
    listed = using(session(), lambda client: client.list_tools())
    by_name = {tool.name: tool for tool in listed.tools}
    assert set(by_name) == {"draw_and_correct", "verify_picture"}
    schema = json.dumps(by_name["draw_and_correct"].input_schema)
    assert all(name in schema for name in ("seed", "candidates", "negative-scale", "looks"))


def test_a_picture_is_drawn_and_corrected_with_progress() -> None:
    notes: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        notes.append(message or "")

    def use(client: Client) -> Awaitable[Any]:
        asked = {
            "prompt": "three apples",
            "settings": {"seed": 7, "candidates": 3, "ranker": "source"},
        }
        return client.call_tool("draw_and_correct", asked, progress_callback=note)

    opened = session(FakeViewer(["four apples", ""]))
    answer = using(opened, use)
    assert not answer.is_error
    said = json.loads(answer.content[1].text)
    assert said["outcome"] == "corrected"
    assert said["attempts"][0]["wrong"] == ["asked exactly three apples, saw four apples"]
    assert said["attempts"][1]["negatives"] == ["4 apples"]
    assert said["attempts"][0]["seed"] == 7
    assert picture(answer).getpixel((0, 0)) == (7, sum(map(ord, "4 apples")) % 256, 0)
    assert "attempt 1 of 3: draw, step 4 of 4" in notes


def test_a_picture_that_exists_is_verified() -> None:
    red = Image.new("RGB", (20, 10), "red")

    def use(client: Client) -> Awaitable[Any]:
        asked = {"prompt": "three apples", "picture": encoded(red)}
        return client.call_tool("verify_picture", asked)

    answer = using(session(), use)
    said = json.loads(answer.content[1].text)
    assert said["verdict"] == "not accepted"
    assert said["wrong"] == ["asked exactly three apples, saw four apples"]
    assert picture(answer).size == (20, 10)


def test_what_cannot_be_used_is_one_sentence() -> None:
    async def use(client: Client) -> list[Any]:
        return [
            await client.call_tool("verify_picture", {"prompt": "x", "picture": "???"}),
            await client.call_tool("verify_picture", {"prompt": "x", "picture": "aGk="}),
            await client.call_tool("draw_and_correct", {"prompt": "  "}),
            await client.call_tool(
                "draw_and_correct", {"prompt": "x", "settings": {"candidates": 10**9}}
            ),
        ]

    answers = using(session(), use)
    assert all(answer.is_error for answer in answers)
    texts = [answer.content[0].text for answer in answers]
    says = (
        "no base64",
        "cannot be read",
        "The prompt is empty",
        "'candidates' is 1000000000; give",
    )
    assert all(one in text for one, text in zip(says, texts, strict=True)), texts


def test_a_cancelled_call_ends_before_its_next_step() -> None:
    opened = session()

    async def main() -> int:
        async with Client(server(lambda: opened)) as client:
            seen = anyio.Event()

            async def note(progress: float, total: float | None, message: str | None) -> None:
                if "attempt 1 of" in (message or ""):
                    seen.set()

            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    asked = {"prompt": "three apples", "settings": {"candidates": 50}}
                    await client.call_tool("draw_and_correct", asked, progress_callback=note)

                tasks.start_soon(call)
                await seen.wait()
                tasks.cancel_scope.cancel()
            # Its turn comes once the cancelled call has let go of the model.
            await client.call_tool("verify_picture", {"prompt": "x", "picture": "aGk="})
            return len(opened.model.drawings)  # type: ignore[attr-defined]

    assert anyio.run(main) < 51


def test_over_standard_output() -> None:
    async def main() -> Any:
        program = StdioServerParameters(
            command=sys.executable, args=["-m", "npcorrect", "mcp"], env={**os.environ}
        )
        async with Client(program) as client:
            asked = {"prompt": "one red banana", "settings": {"candidates": 0, "steps": 4}}
            return await client.call_tool("draw_and_correct", asked)

    answer = anyio.run(main)
    assert not answer.is_error, answer.content
    assert json.loads(answer.content[1].text)["prompt"] == "one red banana"
    assert picture(answer).size == (192, 192)


def test_settings_are_those_of_every_other_face() -> None:
    refused: list[Request] = []

    def refuse(request: Request) -> None:
        refused.append(request)
        raise SettingsError("Not this one.")

    async def use(client: Client, **given: Any) -> str:
        asked = {"prompt": "three apples", "settings": given}
        answer = await client.call_tool("draw_and_correct", asked)
        first: Any = answer.content[0]
        return str(first.text) if answer.is_error else ""

    async def main() -> list[str]:
        async with Client(server(session)) as client:
            texts = [
                await use(client, keep=True, candidates=0),
                await use(client, kep=True),
                await use(client, keep=True, fresh=True),
                await use(client, **{"negative-scale": 1, "negative_scale": 2}),
                await use(client, seed=None),
            ]
        async with Client(server(never, refuse)) as client:
            return [*texts, await use(client, fresh=False)]

    def never() -> Any:
        raise AssertionError("weights were loaded")

    texts = anyio.run(main)
    says = ("", "did you mean keep", "again", "again", "'seed' is None; give", "Not this one.")
    assert all(one in text for one, text in zip(says, texts, strict=True)), texts
    assert not any("\n" in text for text in texts)
    assert [request.fresh for request in refused] == [False]


def test_an_empty_prompt_is_not_asked_about() -> None:
    viewer = FakeViewer()

    async def use(client: Client) -> Any:
        asked = {"prompt": " ", "picture": encoded(Image.new("RGB", (16, 16)))}
        return await client.call_tool("verify_picture", asked)

    assert using(session(viewer), use).is_error
    assert not viewer.asked
