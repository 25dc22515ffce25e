"""Tools for assistants by the Model Context Protocol: draw and correct, verify a picture."""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from io import BytesIO
from typing import Annotated, Any, TypeVar

import anyio
import PIL.Image
from anyio import from_thread, to_thread
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import WithJsonSchema

import npcorrect
from npcorrect.errors import NpcError, SettingsError
from npcorrect.faults import WORDS, faults
from npcorrect.files import decode_picture
from npcorrect.loop import Event
from npcorrect.plan import check_request
from npcorrect.records import Request
from npcorrect.result import Result, cost_record
from npcorrect.session import Session, SessionSettings, check, check_device, open_session
from npcorrect.settings import DrawSettings, model_of, read

T = TypeVar("T")
Draw = Annotated[dict[str, Any] | None, WithJsonSchema(model_of(DrawSettings).model_json_schema())]
"""The settings by the options' names, as bodies of ``npc serve`` have them."""
Answer = list[Image | str]
"""A picture, and what is said of it as JSON."""
_INSTRUCTIONS = (
    "Draws pictures that obey their prompt: a picture is checked claim by claim, and redrawn with "
    "negative prompts until all hold. Say what was wrong, and what was corrected."
)


def serve(settings: SessionSettings) -> None:
    """Serve over standard input and output until the client leaves.

    The model is loaded when a tool is first used: clients wait for the greeting, not for weights.

    Raises:
        InputError: a setting cannot work.
    """
    check(settings)
    check_device(settings.load)
    with ExitStack() as stack:
        refuse = partial(check, settings)
        server(lambda: stack.enter_context(open_session(settings)), refuse).run("stdio")


def server(
    open_model: Callable[[], Session], refuse: Callable[[Request], object] = check_request
) -> MCPServer:
    """The server with its two tools; the session is opened once, when a tool is first used.

    ``refuse`` is asked about each request first, and raises where it could not work.
    """
    tools = _Tools(open_model, refuse)
    made = MCPServer("npc", instructions=_INSTRUCTIONS, version=npcorrect.__version__)
    made.add_tool(tools.draw_and_correct, structured_output=False)
    made.add_tool(tools.verify_picture, structured_output=False)
    return made


class _Tools:
    """The tools; one call at a time has the model."""

    def __init__(
        self, open_model: Callable[[], Session], refuse: Callable[[Request], object]
    ) -> None:
        self._session, self._check = cache(open_model), refuse
        self._turn = anyio.Lock()

    async def draw_and_correct(
        self, prompt: str, context: Context[Any], settings: Draw = None
    ) -> Answer:
        """Draw a prompt, check the picture claim by claim, and correct it until all claims hold.

        Returns the chosen picture, and JSON with its outcome (accepted, corrected, not accepted or
        unscored) and, for each attempt, what was asked and seen where a claim failed, and the
        negative prompts that acted.
        """

        def work() -> Result:
            draw = read(DrawSettings, settings or {}, "The settings")
            request = Request(prompt, **vars(draw))
            self._check(request)
            correction = self._session().correct(request, _Progress(context).tell)
            for _ in correction:
                from_thread.check_cancelled()
            return correction.result

        result = await self._do(work)
        return [_png(result.best.generation.image), json.dumps(summary(result))]

    async def verify_picture(self, prompt: str, picture: str, context: Context[Any]) -> Answer:
        """Say which claims of a prompt hold in a picture that exists.

        ``picture`` is a PNG, JPEG or WebP file in base64. Returns the picture as it was checked,
        and JSON with the verdict and, for each claim that fails, what was asked and seen.
        """

        def work() -> Answer:
            check_request(Request(prompt))
            image = decode_picture(_bytes(picture), "picture")
            roles = self._session().roles
            from_thread.run(context.report_progress, 0, 2, "reading the prompt")
            checklist = roles.checklister.checklist(prompt)
            from_thread.run(context.report_progress, 1, 2, "checking the picture")
            verdict = roles.verifier.verify(image, checklist)
            said = {
                "verdict": WORDS[verdict.accepted],
                "score": verdict.score,
                "claims": [claim.text for claim in checklist.requirements],
                "wrong": faults(verdict),
                "error": verdict.error,
            }
            return [_png(image), json.dumps(said)]

        return await self._do(work)

    async def _do(self, work: Callable[[], T]) -> T:
        """Work in another thread, when it is this call's turn.

        Raises:
            ToolError: in place of the program's own errors.
        """
        try:
            async with self._turn:
                return await to_thread.run_sync(work)
        except NpcError as error:
            raise ToolError(str(error)) from None


class _Progress:
    """Tells the client what is happening, and ends the work where it has cancelled the call."""

    def __init__(self, context: Context[Any]) -> None:
        self._context, self._told = context, 0

    def tell(self, event: Event) -> None:
        """Report an event; attempts are counted, not steps, whose number no one knows before."""
        from_thread.check_cancelled()
        self._told += 1
        step = f", step {event.step} of {event.total}" if event.step else ""
        place = f"attempt {event.attempt} of {event.attempts}" if event.attempt else "original"
        from_thread.run(
            self._context.report_progress, self._told, None, f"{place}: {event.stage}{step}"
        )


def summary(result: Result) -> dict[str, Any]:
    """The part of a result that an assistant gets: outcome, chosen picture and all attempts."""
    return {
        "prompt": result.request.prompt,
        "outcome": result.outcome,
        "ended": result.ended,
        "chosen": result.best_index,
        "attempts": [
            {
                "seed": attempt.generation.drawing.seed,
                "verdict": WORDS[attempt.verdict.accepted],
                "wrong": faults(attempt.verdict),
                "negatives": attempt.generation.negatives,
                "error": attempt.verdict.error,
            }
            for attempt in result.attempts
        ],
        "cost": cost_record(result.cost),
    }


def _bytes(text: str) -> bytes:
    _, _, data = text.rpartition("base64,")  # a data: address is taken too
    try:
        return b64decode(data, validate=True)
    except (Base64Error, ValueError):
        raise SettingsError(
            "The picture is no base64; give a PNG, JPEG or WebP file in it."
        ) from None


def _png(image: PIL.Image.Image) -> Image:
    file = BytesIO()
    image.save(file, "PNG")
    return Image(data=file.getvalue(), format="png")
