"""Server-sent events: what happens to a job, as a browser's EventSource reads it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from npcorrect.loop import Event
from npcorrect.serve.service import Service
from npcorrect.serve.store import Job
from npcorrect.serve.worker import event_record


class EventStream(StreamingResponse):
    """A response that is a stream of server-sent events."""

    media_type = "text/event-stream"


def sse(kind: str, body: dict[str, Any], number: int | None = None) -> bytes:
    """One event on the wire; without a number a client does not resume after it."""
    known = None if number is None else str(number)
    return format_sse_event(event=kind, data_str=json.dumps(body), id=known)


async def job_events(service: Service, job: Job, after: int) -> AsyncIterator[bytes]:
    """The events of a job after one, until its end.

    ``stage`` events with a step come as it is drawn, without a number: they are not kept.
    """
    async for event in service.follow(job, after):
        if event is None:
            yield KEEPALIVE_COMMENT
        elif isinstance(event, Event):
            yield sse("stage", event_record(event))
        else:
            yield sse(event.kind, event.body, event.number)
