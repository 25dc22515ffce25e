"""Threads that own a session each: a worker opens it, and corrects job after job.

Pictures are written before the event that tells of them is committed.
"""

from __future__ import annotations

import logging
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from threading import Event as Flag
from threading import Thread
from typing import Protocol

from PIL.Image import Image

from npcorrect.errors import NpcError
from npcorrect.files import prepare
from npcorrect.loop import Event, OnEvent
from npcorrect.records import Attempt, Request
from npcorrect.result import Ended, Result, to_record
from npcorrect.serve.store import EventKind, Job, JobEnd, Store
from npcorrect.workers import WorkerDiedError

PREVIEW = 256
"""Longer side of a preview in pixels, at most."""
logger = logging.getLogger(__name__)


class Correcting(Protocol):
    """A correction under way, here or elsewhere; see :class:`npcorrect.loop.Correction`."""

    @property
    def result(self) -> Result:
        """The attempts so far, with their pictures and verdicts."""
        ...

    @property
    def ended(self) -> Ended | None:
        """Why no attempt follows; None while one may."""
        ...

    def __iter__(self) -> Iterator[Attempt]:
        """The attempts, each when it is final."""
        ...

    def stop(self) -> None:
        """End after the present step or question; from any thread."""
        ...


class Corrector(Protocol):
    """What a worker needs of a session."""

    def correct(
        self, request: Request, on_event: OnEvent, *, original: Image | None = None
    ) -> Correcting:
        """A correction of one prompt, of a picture if there is one."""
        ...


Opened = Callable[[], AbstractContextManager[Corrector]]


class Worker:
    """Works on the jobs of a store until it is closed, in a thread of its own.

    ``opened`` gives the session; it is opened again where its process died, and the job under way
    is begun anew. ``on_change`` is called with a job's id after each change of it.
    ``on_failure`` is called once where no session is to be had or nothing can be kept any more; the
    error is then in ``failure``.
    """

    def __init__(
        self,
        store: Store,
        opened: Opened,
        on_change: Callable[[str], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.failure: BaseException | None = None
        self._store, self._opened = store, opened
        self._on_change, self._on_failure = on_change, on_failure
        self._bell, self._closing = Flag(), Flag()
        self._current: tuple[Job, Correcting] | None = None
        self._step: Event | None = None
        self._thread = Thread(target=self._run, name="npcorrect-worker", daemon=True)

    @property
    def current(self) -> Job | None:
        """The job being worked on, or None where the worker is idle."""
        current = self._current
        return current[0] if current else None

    @property
    def step(self) -> Event | None:
        """The latest step of the job under way; steps are not kept."""
        return self._step

    def start(self) -> None:
        """Start the worker's thread; it opens the session and takes jobs until it is closed."""
        self._thread.start()

    def ring(self) -> None:
        """Wake the worker for a new job; it may be called from any thread."""
        self._bell.set()

    def stop(self, job_id: str) -> None:
        """End a job if it is the one under way; the worker goes on with the next one.

        That is after the present step or question.
        """
        current = self._current
        if current and current[0].id == job_id:
            current[1].stop()

    def leave(self) -> None:
        """Let go after the present step or question; the job under way is begun anew next time."""
        self._closing.set()
        self._bell.set()
        current = self._current
        if current:
            current[1].stop()

    def join(self) -> None:
        """Wait for the thread's end, a few seconds at most."""
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                with self._opened() as session:
                    self._serve(session)
        except Exception as error:
            self.failure = error
            self._on_failure()

    def _serve(self, session: Corrector) -> None:
        """Do jobs until the worker is closed, or the session is lost."""
        while job := self._next():
            try:
                self._work(session, job)
            except WorkerDiedError as error:
                logger.warning("job %s is begun anew: %s", job.id, error)
                self._current = self._step = None
                self._store.recover(job.id)
                self._on_change(job.id)
                return

    def _next(self) -> Job | None:
        """The next job, as soon as there is one; None where the worker is closed."""
        while True:
            self._bell.clear()  # first, so that what is said from here on is heard below
            if self._closing.is_set():
                return None
            if job := self._store.claim():
                return job
            self._bell.wait()

    def _work(self, session: Corrector, job: Job) -> None:
        ended, error = self._corrected(session, job)
        self._current = self._step = None
        if not self._closing.is_set():
            self._store.end(job.id, ended, error)
            self._on_change(job.id)

    def _corrected(self, session: Corrector, job: Job) -> tuple[JobEnd, str]:
        """Why the job ended, and the error where one ended it."""
        self._on_change(job.id)
        try:
            original = self._store.original(job.id)
            correction = session.correct(job.request, self._teller(job), original=original)
            self._current = job, correction
            self._follow(job, correction)
        except WorkerDiedError:
            raise
        except NpcError as error:
            return "error", str(error)
        except Exception as error:
            logger.exception("job %s failed", job.id)
            return "error", f"The server failed ({type(error).__name__}); its log says how."
        return correction.ended or "stopped", ""

    def _follow(self, job: Job, correction: Correcting) -> None:
        """Keep each attempt the moment it is final."""
        folder = self._store.pictures(job)
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder)
        if self._closing.is_set() or _has_ended(self._store, job):
            correction.stop()
        for attempt in correction:
            correction.result.save_attempt(folder, attempt)
            correction.result.save_summary(folder)
            self._step = None
            self._store.attempted(job.id, correction.result.best_index, _told(correction.result))
            self._on_change(job.id)
        if correction.result.attempts:
            correction.result.save_summary(folder)

    def _teller(self, job: Job) -> OnEvent:
        def tell(event: Event) -> None:
            if event.step:
                self._step = event
            else:
                self._step = None
                kind: EventKind = "look" if event.preview else "stage"
                self._store.tell(job.id, kind, event_record(event))
            self._on_change(job.id)

        return tell


class Workers:
    """The workers of a server; the job that waits longest goes to the first one that is free."""

    def __init__(
        self, store: Store, each: Sequence[Worker], on_change: Callable[[str], None]
    ) -> None:
        self._store, self._each, self._on_change = store, each, on_change

    @property
    def failure(self) -> BaseException | None:
        """Why a worker could not go on, if one could not."""
        return next((one.failure for one in self._each if one.failure), None)

    @property
    def busy(self) -> Worker | None:
        """The worker whose job was queued first; None where all are idle."""
        jobs = ((worker.current, worker) for worker in self._each)
        busy = [(job.number, worker) for job, worker in jobs if job]
        return min(busy, key=lambda pair: pair[0])[1] if busy else None

    def step(self, job_id: str) -> Event | None:
        """The latest step of a job, where one is at it."""
        steps = ((worker.current, worker.step) for worker in self._each)
        return next((step for job, step in steps if job and job.id == job_id), None)

    def start(self) -> None:
        """Start the thread of each worker; they take jobs from one queue."""
        for worker in self._each:
            worker.start()

    def ring(self) -> None:
        """Wake the workers for new jobs; it may be called from any thread."""
        for worker in self._each:
            worker.ring()

    def stop(self, job_id: str) -> None:
        """End a job at once, whether it waits or is under way; its attempts stay."""
        self._store.end(job_id, "stopped")
        for worker in self._each:
            worker.stop(job_id)
        self._on_change(job_id)

    def close(self) -> None:
        """Tell each worker to end after its step, and wait a few seconds for them."""
        for worker in self._each:
            worker.leave()
        for worker in self._each:
            worker.join()


def event_record(event: Event) -> dict[str, object]:
    """An event of the loop as JSON values; its preview is a small JPEG in a data URL."""
    return vars(event) | {"preview": preview(event.preview) if event.preview else None}


def preview(image: Image) -> str:
    """A picture as a data URL, reduced to :data:`PREVIEW` pixels."""
    small = image.convert("RGB")
    small.thumbnail((PREVIEW, PREVIEW))
    file = BytesIO()
    small.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()


def _told(result: Result) -> dict[str, object]:
    """The latest attempt as ``result.json`` has it, and which one is the best now."""
    return {"attempt": to_record(result)["attempts"][-1], "best": result.best_index}


def _has_ended(store: Store, job: Job) -> bool:
    kept = store.job(job.id)
    return kept is None or kept.state == "ended"
