"""OpenAI's endpoints of pictures, so that its clients work unchanged.

The picture of each job is its best. With ``stream``, attempts arrive as partial images. A picture
that is sent to be edited is corrected, as ``npc correct --original`` does.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from time import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, UploadFile
from fastapi import Request as ClientRequest
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from npcorrect.errors import ModelError, SettingsError
from npcorrect.files import decode_picture, read_json
from npcorrect.plan import MAX_PROMPT
from npcorrect.serve.events import EventStream, sse
from npcorrect.serve.jobs_api import Serving
from npcorrect.serve.security import error_record
from npcorrect.serve.service import Service
from npcorrect.serve.store import Job, StoredEvent
from npcorrect.settings import DrawSettings, options

router = APIRouter(prefix="/v1", tags=["openai"])
EDITS = "/v1/images/edits"
"""The one place that takes a file."""
_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
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
    output_compression: int | None = Field(None, ge=100, le=100)
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    background: str | None = None
    moderation: str | None = None
    quality: str | None = None
    style: str | None = None
    user: str | None = None


class EditBody(ImageBody):
    """The form of OpenAI's endpoint: the same fields, and the one picture that is corrected.

    ``input_fidelity`` has no effect.
    """

    model_config = ConfigDict(extra="allow", strict=False)  # a form has nothing but texts

    image: list[UploadFile] = []
    images: list[UploadFile] = Field(default=[], alias="image[]")
    mask: UploadFile | None = None
    input_fidelity: str | None = None

    def picture(self) -> UploadFile:
        """The picture.

        Raises:
            SettingsError: there is none, there are several, or there is a mask.
        """
        if self.mask is not None:
            raise SettingsError("Whole pictures are corrected; leave 'mask' out.")
        pictures = [*self.image, *self.images]
        if len(pictures) != 1:
            raise SettingsError(f"There are {len(pictures)} pictures; send one, as 'image'.")
        return pictures[0]


class Model(BaseModel):
    """The model that the server draws with."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "npcorrect"


class Models(BaseModel):
    """The list of models, which has the one that draws."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def list_models(service: Serving) -> Models:
    """The model that the server draws with."""
    return Models(data=[Model(id=service.model)])


@router.post("/images/generations", responses=_STREAMED)
async def generate(body: ImageBody, service: Serving, client: ClientRequest) -> Response:
    """Draw and correct pictures, and answer when they are done; or stream their attempts."""
    values = body.model_extra or {}
    jobs = await run_in_threadpool(_submitted, service, body, values)
    return await _answer(service, client, body, jobs, "image_generation")


@router.post("/images/edits", response_class=JSONResponse, responses=_STREAMED)
async def edit(
    body: Annotated[EditBody, Form()], service: Serving, client: ClientRequest
) -> Response:
    """Correct a picture that exists: it takes the place of the first drawing.

    It is checked, and where it is wrong, redrawn; whole pictures are, so a mask is refused.
    """
    values = _from_texts(body.model_extra or {})
    content = await body.picture().read()
    jobs = await run_in_threadpool(_submitted, service, body, values, content)
    return await _answer(service, client, body, jobs, "image_edit")


async def _answer(
    service: Service, client: ClientRequest, body: ImageBody, jobs: list[Job], name: str
) -> Response:
    """The pictures of jobs when they have ended, or the stream of the only one's attempts."""
    if body.stream:
        return EventStream(_partial_images(service, jobs[0], body.partial_images or 0, name))
    ended = await service.ended(jobs, client)
    for job in ended:
        if job.best is None:
            return JSONResponse(error_record(500, failure(job)), 500)
    address = str(client.base_url) if body.response_format == "url" else None
    data = [await run_in_threadpool(_image, service, job, address) for job in ended]
    return JSONResponse({"created": int(time()), "data": data})


def failure(job: Job) -> str:
    """One sentence that says why a job left no picture: its error, or that it was stopped."""
    return job.error or "The job was stopped before it had a picture."


def _submitted(
    service: Service, body: ImageBody, more: Mapping[str, Any], picture: bytes | None = None
) -> list[Job]:
    if body.model not in (None, service.model):
        raise ModelError(
            f"There is no model {body.model[:60]!r} here; this server draws with {service.model!r}."
        )
    if body.stream and (body.n or 1) > 1:
        raise SettingsError(f"With 'stream' the number of pictures 'n' is {body.n}; give 1.")
    values = {"seed": secrets.randbelow(SEEDS), **_sides(body.size), **more}
    original = None if picture is None else decode_picture(picture, "image")
    request = service.request(body.prompt, values, original)
    return service.submit(request, body.n or 1, original)


def _from_texts(values: Mapping[str, Any]) -> dict[str, Any]:
    """A form's settings as JSON has them; those that are texts, or unknown, stay as they are."""
    texts = {one.name for one in options(DrawSettings) if str in one.kinds}
    return {
        name: value if name.replace("_", "-") in texts else _from_text(value)
        for name, value in values.items()
    }


def _from_text(value: Any) -> Any:
    """What a text stands for in JSON; a field that is sent twice is a list, which is no value."""
    if not isinstance(value, str):
        return value if isinstance(value, list) else "a file"
    try:
        return read_json(value)
    except ValueError:
        return value


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


async def _partial_images(service: Service, job: Job, most: int, name: str) -> AsyncIterator[bytes]:
    """The first attempts as partial images, at last the best one."""
    sent = 0
    with service.only_here([job]):
        async for event in service.follow(job):
            if isinstance(event, StoredEvent) and event.kind == "attempt" and sent < most:
                number = event.body["attempt"]["index"]
                shown = await run_in_threadpool(service.picture, job, number)
                yield _picture_event(f"{name}.partial_image", shown, partial_image_index=sent)
                sent += 1
    job = await run_in_threadpool(service.job, job.id)
    if job.best is None:
        yield sse("error", error_record(500, failure(job)))
    else:
        shown = await run_in_threadpool(service.picture, job, job.best)
        yield _picture_event(f"{name}.completed", shown)


def _picture_event(kind: str, shown: bytes, **more: int) -> bytes:
    width, height = Image.open(BytesIO(shown)).size
    body = {
        "type": kind,
        "b64_json": b64encode(shown).decode(),
        "created_at": int(time()),
        "size": f"{width}x{height}",
        "background": "opaque",
        "output_format": "png",
        "quality": "auto",
        **more,
    }
    return sse(kind, body)
