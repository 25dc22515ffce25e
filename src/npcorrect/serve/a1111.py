"""A shim of A1111's API, for clients that know no other. Only with ``--a1111``.

Its negative prompt, sizes, seeds, steps and guidance scale are used; what else a client sends is
named in the answer as ignored. An empty negative prompt is none: clients send one in any case.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi import Request as ClientRequest
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from npcorrect.errors import ModelError
from npcorrect.plan import MAX_PROMPT
from npcorrect.serve.jobs_api import Serving
from npcorrect.serve.openai_api import SEEDS, failure
from npcorrect.serve.security import problem
from npcorrect.serve.service import Service
from npcorrect.serve.store import Job

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])
SAMPLER, SCHEDULER = "Euler", "automatic"
"""What models are asked to draw with; there is no choice."""


class TextToImage(BaseModel):
    """The fields of A1111's body that are used. A seed of -1 is a random one."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT)
    negative_prompt: str | None = None
    seed: int = Field(-1, ge=-1)
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    batch_size: int = Field(1, ge=1)
    n_iter: int = Field(1, ge=1)

    @property
    def ignored(self) -> list[str]:
        """The names of further fields that the client gave a value, sorted; none has an effect."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value)


@router.post("/txt2img")
async def text_to_image(body: TextToImage, service: Serving, client: ClientRequest) -> JSONResponse:
    """Draw and correct pictures, and answer with the best of each."""
    jobs = await run_in_threadpool(_submitted, service, body)
    ended = await service.ended(jobs, client)
    for job in ended:
        if job.best is None:
            return problem(500, failure(job))
    images = await run_in_threadpool(_images, service, ended)
    parameters = body.model_dump(exclude_none=True)
    info = _info(body, ended)
    return JSONResponse({"images": images, "parameters": parameters, "info": json.dumps(info)})


@router.get("/progress")
def progress(service: Serving) -> dict[str, Any]:
    """How far the job under way is, with its latest preview."""
    worker = service.workers.busy
    job, step = (worker.current, worker.step) if worker else (None, None)
    looks = service.store.events(job.id) if job else []
    shown = [event.body["preview"] for event in looks if event.kind == "look"]
    state = {"job": job.id if job else "", "job_count": int(job is not None)}
    counted = {
        "sampling_step": step.step if step else 0,
        "sampling_steps": step.total if step else 0,
    }
    return {
        "progress": step.step / step.total if step else 0.0,
        "eta_relative": 0.0,
        "state": state | counted,
        "current_image": shown[-1].partition(",")[2] if shown else None,
        "textinfo": step.detail if step else None,
    }


@router.post("/interrupt")
def interrupt(service: Serving) -> dict[str, Any]:
    """End the job under way at once, whoever asked for it; an empty object in any case."""
    if (worker := service.workers.busy) and (job := worker.current):
        service.stop(job.id)
    return {}


@router.get("/options")
def get_options(service: Serving) -> dict[str, Any]:
    """The options that clients read: the name of the one model there is."""
    return {"sd_model_checkpoint": service.model}


@router.post("/options")
def set_options(body: Annotated[dict[str, Any], Body()], service: Serving) -> None:
    """Accept options; none has an effect.

    Raises:
        ModelError: the options name a model that is not the server's.
    """
    wanted = body.get("sd_model_checkpoint", service.model)
    if wanted != service.model:
        raise ModelError(f"There is no model {str(wanted)[:60]!r} here, but {service.model!r}.")


@router.get("/sd-models")
def models(service: Serving) -> list[dict[str, Any]]:
    """The model that the server draws with."""
    name = service.model
    return [{"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name}]


@router.get("/samplers")
def samplers() -> list[dict[str, Any]]:
    """The list of samplers, whose one entry is the model's own."""
    return [{"name": SAMPLER, "aliases": [], "options": {}}]


@router.get("/schedulers")
def schedulers() -> list[dict[str, Any]]:
    """The list of schedulers, whose one entry is the model's own."""
    return [{"name": SCHEDULER, "label": SCHEDULER.title()}]


@router.get("/upscalers")
@router.get("/latent-upscale-modes")
@router.get("/sd-vae")
def nothing() -> list[dict[str, Any]]:
    """An empty list: the server has no upscalers and no other autoencoders."""
    return []


def _submitted(service: Service, body: TextToImage) -> list[Job]:
    given = {
        "steps": body.steps,
        "scale": body.cfg_scale,
        "negative-prompt": body.negative_prompt or None,
        "width": body.width,
        "height": body.height,
    }
    values: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
    values["seed"] = secrets.randbelow(SEEDS) if body.seed == -1 else body.seed
    pictures = body.batch_size * body.n_iter
    return service.submit(service.request(body.prompt, values), pictures)


def _images(service: Service, jobs: list[Job]) -> list[str]:
    return [b64encode(service.picture(job, job.best or 0)).decode() for job in jobs]


def _info(body: TextToImage, jobs: list[Job]) -> dict[str, Any]:
    seeds = [job.request.seed for job in jobs]
    return {
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt or "",
        "seed": seeds[0] if seeds else None,
        "all_seeds": seeds,
        "jobs": [job.id for job in jobs],
        "accepted": [job.ended == "accepted" for job in jobs],
        "ignored": body.ignored,
    }
