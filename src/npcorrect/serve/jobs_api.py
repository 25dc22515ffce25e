"""The service's own endpoints: jobs, their events, and what they leave behind."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query
from fastapi import Request as ClientRequest
from fastapi.responses import Response
from pydantic import BaseModel, Field, WithJsonSchema, create_model

from npcorrect.plan import MAX_PROMPT
from npcorrect.serve.events import EventStream, job_events
from npcorrect.serve.service import Service
from npcorrect.serve.store import Job, JobEnd, State
from npcorrect.settings import MAX_CANDIDATES, DrawSettings, model_of, options

router = APIRouter(prefix="/v1", tags=["jobs"])
LARGEST = 2**63 - 1


def service_of(client: ClientRequest) -> Service:
    """The service that the application behind a client's request holds."""
    service: Service = client.app.state.service
    return service


Serving = Annotated[Service, Depends(service_of)]
JobId = Annotated[str, Path(description="What the job was called when it was queued.")]
_BODY = create_model(
    "JobBody",
    __base__=model_of(DrawSettings),
    prompt=(str, Field(description="What to draw.", min_length=1, max_length=MAX_PROMPT)),
)
JobBody = Annotated[dict[str, Any], Body(), WithJsonSchema(_BODY.model_json_schema())]


def _answers(kind: str) -> dict[str, Any]:
    """For an endpoint that answers with this type of content, and with errors as all do."""
    return {"response_class": Response, "responses": {200: {"content": {kind: {}}}}}


class JobView(BaseModel):
    """A job: what was asked for, how far it is, and why it ended.

    ``ahead`` jobs come before it. ``best`` is the number of the attempt to keep so far.
    """

    id: str
    number: int
    prompt: str
    settings: dict[str, Any]
    state: State
    ended: JobEnd | None
    error: str
    ahead: int
    attempts: int
    best: int | None
    created: float


class Jobs(BaseModel):
    """All jobs that are kept, the latest first."""

    jobs: list[JobView]


def job_of(job_id: JobId, service: Serving) -> Job:
    """The job whose id is in the path.

    Raises:
        NoJobError: there is none.
    """
    return service.job(job_id)


Named = Annotated[Job, Depends(job_of)]


@router.post("/jobs", status_code=202)
def create_job(body: JobBody, service: Serving) -> JobView:
    """Queue a correction. Refused at once where it could not work; 429 where the queue is full."""
    values = dict(body)
    request = service.request(values.pop("prompt", ""), values)
    (job,) = service.submit(request)
    return _view(service, job)


@router.get("/jobs")
def list_jobs(
    service: Serving,
    before: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 24,
) -> Jobs:
    """The latest jobs, or those before a number."""
    return Jobs(jobs=[_view(service, job) for job in service.store.jobs(before, limit)])


@router.get("/jobs/{job_id}")
def get_job(job: Named, service: Serving) -> JobView:
    """The job's state, and how many attempts and waiting jobs it has."""
    return _view(service, job)


@router.delete("/jobs/{job_id}")
def stop_job(job: Named, service: Serving) -> JobView:
    """End a job at once. Its attempts stay; one that has ended is left as it is."""
    return _view(service, service.stop(job.id))


@router.get("/jobs/{job_id}/events", **_answers("text/event-stream"))
async def get_events(
    job: Named,
    service: Serving,
    last_event_id: Annotated[int, Header(ge=0, le=LARGEST)] = 0,
) -> Response:
    """What happens to a job, as server-sent events: start, stage, look, attempt, end."""
    return EventStream(job_events(service, job, last_event_id))


@router.get("/jobs/{job_id}/attempts/{number}.png", **_answers("image/png"))
def get_attempt(
    job: Named, service: Serving, number: Annotated[int, Path(ge=0, le=MAX_CANDIDATES)]
) -> Response:
    """The picture of an attempt, 0 for the original, with its parameters."""
    return Response(service.picture(job, number), media_type="image/png")


@router.get("/jobs/{job_id}/sheet.png", **_answers("image/png"))
def get_sheet(job: Named, service: Serving) -> Response:
    """A PNG of the original beside the best picture; 404 while it is not written."""
    return Response(service.file(job, "sheet.png"), media_type="image/png")


@router.get("/jobs/{job_id}/result.json", **_answers("application/json"))
def get_result(job: Named, service: Serving) -> Response:
    """All attempts with their verdicts and costs, as ``npc correct`` writes them."""
    return Response(service.file(job, "result.json"), media_type="application/json")


def _view(service: Service, job: Job) -> JobView:
    return JobView(
        id=job.id,
        number=job.number,
        prompt=job.request.prompt,
        settings={one.name: getattr(job.request, one.field) for one in options(DrawSettings)},
        state=job.state,
        ended=job.ended,
        error=job.error,
        ahead=0 if job.state == "ended" else service.store.ahead(job),
        attempts=job.attempts,
        best=job.best,
        created=job.created,
    )
