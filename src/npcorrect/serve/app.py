"""The application: its endpoints, its page, and one sentence for whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi import Request as ClientRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from npcorrect.errors import InputError, OutputError
from npcorrect.serve import a1111, jobs_api, openai_api, page
from npcorrect.serve.security import Access, Guard, problem
from npcorrect.serve.service import Limits, News, NoJobError, Service
from npcorrect.serve.store import QueueFullError, Store
from npcorrect.serve.worker import Opened, Worker, Workers


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server is made of.

    ``opened`` gives a session, to the thread of each of ``workers``. ``check`` refuses a request
    that could not work, with the ``original`` that it corrects if any. ``on_failure`` is called,
    from a worker's thread, where no session is to be had.
    """

    model: str
    store: Store
    opened: Opened
    check: Callable[..., object]
    on_failure: Callable[[], None]
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    a1111: bool = False
    workers: int = 1


class Problem(BaseModel):
    """What went wrong: one sentence, in the shape of OpenAI's errors."""

    class Error(BaseModel):
        """The sentence that says what failed, and its kind."""

        message: str
        type: str
        param: str | None
        code: str | None

    error: Error


def create_app(settings: ServerSettings) -> FastAPI:
    """The application. Its workers begin and end with it; they are in ``state.service``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        news = News(asyncio.get_running_loop())
        each = [
            Worker(settings.store, settings.opened, news.ring, settings.on_failure)
            for _ in range(settings.workers)
        ]
        workers = Workers(settings.store, each, news.ring)
        app.state.service = Service(
            model=settings.model,
            store=settings.store,
            workers=workers,
            news=news,
            check=settings.check,
            limits=settings.limits,
        )
        workers.start()
        yield
        await asyncio.to_thread(workers.close)

    app = FastAPI(
        title="npc serve",
        description="Draws pictures and corrects them with negative prompts.",
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
        responses={"4XX": {"model": Problem, "description": "What was wrong, in one sentence."}},
    )
    app.include_router(jobs_api.router)
    app.include_router(openai_api.router)
    app.include_router(page.router)
    if settings.a1111:
        app.include_router(a1111.router)
    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, answer)
    limits = settings.limits
    app.add_middleware(
        Guard, access=settings.access, body=limits.body, uploads={openai_api.EDITS: limits.upload}
    )
    return app


_NO_OBJECT = (
    'The body is no JSON object; send one such as {"prompt": "two red bananas"}, with the header '
    "'Content-Type: application/json'."
)


async def _invalid(client: ClientRequest, error: Any) -> JSONResponse:
    """The first thing that is wrong with a body, a header or a path."""
    first = error.errors()[0]
    if first["loc"] == ("body",) or first["type"] == "json_invalid":
        return problem(400, _NO_OBJECT)
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return problem(400, f"The value {place[:60]!r} cannot be used: {first['msg']}.")


async def _http(client: ClientRequest, error: Any) -> JSONResponse:
    return problem(error.status_code, f"{error.detail}: {client.method} {client.url.path[:80]}.",
                   error.headers)  # fmt: skip


async def _failed(client: ClientRequest, error: Exception) -> JSONResponse:
    return problem(500, f"The server failed ({type(error).__name__}); its log says how.")


def _with(status: int) -> Any:
    async def answer(client: ClientRequest, error: Exception) -> JSONResponse:
        return problem(status, str(error))

    return answer


_ANSWERS: dict[type[Exception], Any] = {
    InputError: _with(400),
    OutputError: _with(507),
    NoJobError: _with(404),
    QueueFullError: _with(429),
    RequestValidationError: _invalid,
    HTTPException: _http,
    Exception: _failed,
}
