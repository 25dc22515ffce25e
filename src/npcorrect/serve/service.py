"""What every endpoint shares: here requests become jobs, and whoever waits for one is woken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from PIL.Image import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as ClientRequest

from npcorrect.errors import SettingsError
from npcorrect.loop import Event
from npcorrect.records import Request
from npcorrect.serve.store import Job, Store, StoredEvent
from npcorrect.serve.worker import Workers
from npcorrect.settings import DrawSettings, read

HEARTBEAT = 10.0
"""Seconds without news after which a waiting client is told that there are none."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client may ask for: bytes of a body, or of one with a picture in it, pixels of a
    side, pictures at once; and how many jobs may wait.
    """

    body: int = 64 * 1024
    upload: int = 16 * 2**20
    side: int = 2048
    pictures: int = 8
    queue: int = 64


class NoJobError(Exception):
    """There is no job of this id, or it has nothing of what is asked for yet."""


class News:
    """Wakes those who wait for a job on the server's event loop; rung from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def of(self, job_id: str) -> asyncio.Event:
        """Set with the next news of a job; to be taken before looking at what there is."""
        return self._waiting.setdefault(job_id, asyncio.Event())

    def ring(self, job_id: str) -> None:
        """Wake those who wait for news of a job; does nothing once the event loop is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, job_id)

    def _wake(self, job_id: str) -> None:
        if waiting := self._waiting.pop(job_id, None):
            waiting.set()


@dataclass(frozen=True, kw_only=True)
class Service:
    """The jobs, the workers and the limits.

    ``check`` refuses a request that could not work, with the picture that it corrects if any.
    """

    model: str
    store: Store
    workers: Workers
    news: News
    check: Callable[..., object]
    limits: Limits

    def request(
        self, prompt: str, values: dict[str, Any], original: Image | None = None
    ) -> Request:
        """A request from a body's values by the options' names, for a picture if there is one.

        Raises:
            InputError: it cannot work, or asks for more than the limits.
        """
        draw = read(DrawSettings, values, "The body", ("prompt",))
        request = Request(prompt, **vars(draw))
        sides = original.size if original else ()
        for side in (request.size, request.height, request.width, *sides):
            if side is not None and side > self.limits.side:
                raise SettingsError(
                    f"The side {side} is too long; give at most {self.limits.side}."
                )
        self._check(request, original)
        return request

    def _check(self, request: Request, original: Image | None) -> None:
        if original is None:
            self.check(request)
        else:
            self.check(request, original=original)

    def submit(
        self, request: Request, pictures: int = 1, original: Image | None = None
    ) -> list[Job]:
        """Queue a job for each picture; no two of them share a seed.

        Raises:
            InputError: there are too many, or their seeds leave the range.
            QueueFullError: the queue has no room for all of them.
        """
        if not 1 <= pictures <= self.limits.pictures:
            raise SettingsError(
                f"The number of pictures is {pictures}; give 1 to {self.limits.pictures}."
            )
        apart = request.candidates + 1
        requests = [replace(request, seed=request.seed + k * apart) for k in range(pictures)]
        self._check(requests[-1], original)
        jobs = self.store.add(requests, self.limits.queue, original)
        self.workers.ring()
        return jobs

    def job(self, job_id: str) -> Job:
        """The job of this id.

        Raises:
            NoJobError: there is none.
        """
        job = self.store.job(job_id)
        if job is None:
            raise NoJobError(f"There is no job {job_id[:60]!r}.")
        return job

    def stop(self, job_id: str) -> Job:
        """End a job at once; see :meth:`~npcorrect.serve.worker.Workers.stop`.

        Raises:
            NoJobError: there is none.
        """
        self.workers.stop(self.job(job_id).id)
        return self.job(job_id)

    def picture(self, job: Job, attempt: int) -> bytes:
        """The PNG of an attempt, 0 for the original.

        Raises:
            NoJobError: it is not drawn yet.
        """
        return self.file(job, f"attempt-{attempt}.png" if attempt else "original.png")

    def file(self, job: Job, name: str) -> bytes:
        """A file that a job leaves behind; the name is never a client's.

        Raises:
            NoJobError: it is not written yet.
        """
        try:
            return (self.store.pictures(job) / name).read_bytes()
        except OSError:
            raise NoJobError(f"The job {job.id!r} has no {name} yet.") from None

    def progress(self, job: Job) -> Event | None:
        """The step that a job is at, where it is drawn now."""
        return self.workers.step(job.id)

    async def follow(self, job: Job, after: int = 0) -> AsyncIterator[StoredEvent | Event | None]:
        """What happens to a job after an event, until its end.

        Steps come in between, as the loop tells them, the latest alone; None says that there is
        nothing new.
        """
        told: Event | None = None
        while True:
            news = self.news.of(job.id)
            ended = (await run_in_threadpool(self.job, job.id)).state == "ended"
            for event in await run_in_threadpool(self.store.events, job.id, after):
                after = event.number
                yield event
            if ended:
                return
            step = self.progress(job)
            if step is not None and step is not told:
                told = step
                yield step
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT)
            except TimeoutError:
                yield None

    @contextmanager
    def only_here(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Jobs that nobody but this block waits for: they are stopped when it is left."""
        try:
            yield
        finally:
            for job in jobs:
                self.workers.stop(job.id)

    async def ended(self, jobs: Sequence[Job], client: ClientRequest) -> list[Job]:
        """The same jobs when they have ended; they are stopped where the client has gone."""
        with self.only_here(jobs):
            for job in jobs:
                async for _ in self.follow(job):
                    if await client.is_disconnected():
                        return []
            return [self.job(job.id) for job in jobs]
