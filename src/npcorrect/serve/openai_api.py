"""OpenAI's pictures endpoint, so that its clients work unchanged.

The picture of each job is its best. With ``stream``, attempts arrive as partial images.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from io import BytesIO
from time import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Request as ClientRequest
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from npcorrect.errors import ModelError, SettingsError
from npcorrect.plan import MAX_PROMPT
from npcorrect.serve.events import EventStream, sse
from npcorrect.serve.jobs_api import Serving
from npcorrect.serve.security import error_record
from npcorrect.serve.service import Service
from npcorrect.serve.store import Job, StoredEvent

router = APIRouter(prefix="/v1", tags=["openai"])
SEEDS = 2**32
"""Seeds that are drawn where a client names none are below."""


class ImageBody(BaseModel):
    """The body of OpenAI's endpoint. Settings of ours may stand beside its fields.

    ``background``, ``moderation``, ``quality``, ``style`` and ``user`` have no effect.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT)
    model: str | None = None
    n: int | None = Field(1, ge=1)
    size: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,5}x[0-9]{1,5}|auto)$")] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png"] | None = None
    output_compression: Literal[100] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    background: str | None = None
    moderation: str | None = None
    quality: str | None = None
    style: str | None = None
    user: str | None = None


class Model(BaseModel):
    """The model that the server draws with."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "npcorrect"


class Models(BaseModel):
    """The one model there is."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def list_models(service: Serving) -> Models:
    """The model that the server draws with."""
    return Models(data=[Model(id=service.model)])


@router.post("/images/generations")
async def generate(body: ImageBody, service: Serving, client: ClientRequest) -> Response:
    """Draw and correct pictures, and answer when they are done; or stream their attempts."""
    jobs = await run_in_threadpool(_submitted, service, body)
    if body.stream:
        return EventStream(_partial_images(service, jobs[0], body.partial_images or 0))
    ended = await service.ended(jobs, client)
    for job in ended:
        if job.best is None:
            return JSONResponse(error_record(500, failure(job)), 500)
    address = str(client.base_url) if body.response_format == "url" else None
    data = [await run_in_threadpool(_image, service, job, address) for job in ended]
    return JSONResponse({"created": int(time()), "data": data})


def failure(job: Job) -> str:
    """Why a job left no picture."""
    return job.error or "The job was stopped before it had a picture."


def _submitted(service: Service, body: ImageBody) -> list[Job]:
    if body.model not in (None, service.model):
        raise ModelError(
            f"There is no model {body.model[:60]!r} here; this server draws with {service.model!r}."
        )
    if body.stream and (body.n or 1) > 1:
        raise SettingsError(f"With 'stream' the number of pictures 'n' is {body.n}; give 1.")
    values = {"seed": secrets.randbelow(SEEDS), **_sides(body.size), **(body.model_extra or {})}
    return service.submit(service.request(body.prompt, values), body.n or 1)


def _sides(size: str | None) -> dict[str, int]:
    if size in (None, "auto"):
        return {}
    width, height = map(int, size.split("x"))
    return {"width": width, "height": height}


def _image(service: Service, job: Job, address: str | None) -> dict[str, Any]:
    """A picture as OpenAI's answer has it, and the job that drew it."""
    assert job.best is not None
    if address:
        shown = {"url": f"{address}v1/jobs/{job.id}/attempts/{job.best}.png"}
    else:
        shown = {"b64_json": b64encode(service.picture(job, job.best)).decode()}
    return {**shown, "job": job.id, "accepted": job.ended == "accepted"}


async def _partial_images(service: Service, job: Job, most: int) -> AsyncIterator[bytes]:
    """The first attempts as partial images, at last the best one."""
    sent = 0
    with service.only_here([job]):
        async for event in service.follow(job):
            if isinstance(event, StoredEvent) and event.kind == "attempt" and sent < most:
                number = event.body["attempt"]["index"]
                shown = await run_in_threadpool(service.picture, job, number)
                yield _picture_event("partial_image", shown, partial_image_index=sent)
                sent += 1
    job = await run_in_threadpool(service.job, job.id)
    if job.best is None:
        yield sse("error", error_record(500, failure(job)))
    else:
        shown = await run_in_threadpool(service.picture, job, job.best)
        yield _picture_event("completed", shown)


def _picture_event(kind: str, shown: bytes, **more: int) -> bytes:
    width, height = Image.open(BytesIO(shown)).size
    body = {
        "type": f"image_generation.{kind}",
        "b64_json": b64encode(shown).decode(),
        "created_at": int(time()),
        "size": f"{width}x{height}",
        "background": "opaque",
        "output_format": "png",
        "quality": "auto",
        **more,
    }
    return sse(f"image_generation.{kind}", body)
