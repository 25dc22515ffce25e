"""Jobs on disk: a row for each in ``jobs.sqlite``, its pictures in a folder of its own.

A job is committed before it is acknowledged, and ended in one transaction with its last event, so
that the server may be killed at any moment: what was running then is begun anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from time import time
from typing import Any, Literal
from uuid import uuid4

from PIL.Image import Image
from pydantic import TypeAdapter

from npcorrect.errors import NpcError, OutputError
from npcorrect.files import decode_picture, foreign_to_database, locked, png, prepare
from npcorrect.records import Request
from npcorrect.result import Ended

MAX_STARTS = 5
"""How often a job is begun: one that ends the server again and again is given up."""
State = Literal["queued", "running", "ended"]
JobEnd = Ended | Literal["error"]
"""Why a job ended: as a correction does, or by an error."""
EventKind = Literal["start", "stage", "look", "attempt", "end"]
"""``start`` begins a job, also anew after a restart: what was told of it before is void."""

_REQUEST = TypeAdapter(Request)
_TABLES = """
create table if not exists job (
    number integer primary key autoincrement,
    id text not null unique,
    request text not null,
    state text not null default 'queued',
    ended text,
    error text not null default '',
    attempts integer not null default 0,
    best integer,
    starts integer not null default 0,
    created real not null
);
create table if not exists original (
    job text primary key references job (id),
    picture blob not null
);
create index if not exists job_state on job (state, number);
create table if not exists event (
    number integer primary key autoincrement,
    job text not null references job (id),
    kind text not null,
    body text not null
);
create index if not exists event_job on event (job, number);
"""
_COLUMNS = "number, id, request, state, ended, error, attempts, best, created"


class QueueFullError(NpcError):
    """As many jobs wait as may; one more is refused."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request on its way. ``number`` counts all jobs; ``best`` is the attempt to keep so far.

    ``created`` is a Unix time. ``error`` says why it ended, where ``ended`` is "error".
    """

    number: int
    id: str
    request: Request
    state: State
    ended: JobEnd | None
    error: str
    attempts: int
    best: int | None
    created: float


@dataclass(frozen=True)
class StoredEvent:
    """What happened to a job; ``number`` grows from one event to the next over all jobs."""

    number: int
    kind: EventKind
    body: dict[str, Any]


class Store:
    """The jobs of one server. Its methods may be called from any thread.

    Raises, from every method:
        OutputError: the disk does not take what is written.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self._folder, self._connection, self._lock = folder, connection, Lock()

    def add(
        self, requests: Sequence[Request], limit: int, original: Image | None = None
    ) -> list[Job]:
        """Queue jobs, all of them or none, each with the picture that it corrects if any.

        Raises:
            QueueFullError: more than ``limit`` would wait.
        """
        with self._transaction() as do:
            ((waiting,),) = do("select count(*) from job where state = 'queued'")
            if waiting + len(requests) > limit:
                raise QueueFullError(
                    f"The queue is full: {waiting} jobs wait, and {limit} may; try again later."
                )
            rows = [
                do(
                    f"insert into job (id, request, created) values (?, ?, ?) returning {_COLUMNS}",
                    (uuid4().hex, json.dumps(asdict(request)), time()),
                )[0]
                for request in requests
            ]
            if original is not None:
                for job in map(_job, rows):
                    do("insert into original values (?, ?)", (job.id, png(original)))
        return [_job(row) for row in rows]

    def job(self, job_id: str) -> Job | None:
        """The job of this id, or None where there is none."""
        with self._transaction() as do:
            rows = do(f"select {_COLUMNS} from job where id = ?", (job_id,))
        return _job(rows[0]) if rows else None

    def original(self, job_id: str) -> Image | None:
        """The picture that a job corrects, or None where it draws one first."""
        with self._transaction() as do:
            rows = do("select picture from original where job = ?", (job_id,))
        return decode_picture(rows[0][0], "original") if rows else None

    def jobs(self, before: int | None, limit: int) -> list[Job]:
        """The latest jobs, or those before a number, the latest first."""
        with self._transaction() as do:
            rows = do(
                f"select {_COLUMNS} from job where ? is null or number < ? "
                "order by number desc limit ?",
                (before, before, limit),
            )
        return [_job(row) for row in rows]

    def ahead(self, job: Job) -> int:
        """The number of jobs that have not ended and come before this one."""
        with self._transaction() as do:
            ((count,),) = do(
                "select count(*) from job where state != 'ended' and number < ?", (job.number,)
            )
        return int(count)

    def claim(self) -> Job | None:
        """The job that waits longest, now running; None where none waits."""
        with self._transaction() as do:
            rows = do(
                "update job set state = 'running', starts = starts + 1, attempts = 0, best = null "
                "where number = (select min(number) from job where state = 'queued') "
                f"returning {_COLUMNS}"
            )
            if not rows:
                return None
            job = _job(rows[0])
            _add_event(do, job.id, "start", {})
        return job

    def tell(self, job_id: str, kind: EventKind, body: dict[str, Any]) -> None:
        """Keep an event of a running job; what comes after the end is dropped."""
        with self._transaction() as do:
            if do("select 1 from job where id = ? and state = 'running'", (job_id,)):
                _add_event(do, job_id, kind, body)

    def attempted(self, job_id: str, best: int, body: dict[str, Any]) -> None:
        """Keep an attempt of a running job, and which attempt is the best now."""
        with self._transaction() as do:
            if do(
                "update job set attempts = attempts + 1, best = ? "
                "where id = ? and state = 'running' returning 1",
                (best, job_id),
            ):
                _add_event(do, job_id, "attempt", body)

    def end(self, job_id: str, ended: JobEnd, error: str = "") -> bool:
        """End a job; False where it has ended already."""
        with self._transaction() as do:
            return _end(do, job_id, ended, error)

    def events(self, job_id: str, after: int = 0) -> list[StoredEvent]:
        """What happened to a job after an event, 0 for all, in order."""
        with self._transaction() as do:
            rows = do(
                "select number, kind, body from event where job = ? and number > ? order by number",
                (job_id, after),
            )
        return [StoredEvent(number, kind, json.loads(body)) for number, kind, body in rows]

    def pictures(self, job: Job) -> Path:
        """The folder of a job, as ``npc correct`` writes one."""
        return self._folder / job.id

    def recover(self, job_id: str | None = None) -> None:
        """Queue what was running when the server ended, or the one job whose worker died.

        What has been begun too often is given up.
        """
        running = "state = 'running' and ? in (id, '')"
        with self._transaction() as do:
            given_up = do(
                f"select id from job where {running} and starts >= ?", (job_id or "", MAX_STARTS)
            )
            for (lost,) in given_up:
                _end(do, lost, "error", f"The server ended {MAX_STARTS} times during this job.")
            do(f"update job set state = 'queued' where {running}", (job_id or "",))

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """All that the block does, or nothing."""

        def do(statement: str, values: Sequence[Any] = ()) -> list[Any]:
            return self._connection.execute(statement, values).fetchall()

        try:
            with self._lock, self._connection:
                yield do
        except sqlite3.Error as error:
            raise OutputError(
                f"The jobs in {str(self._folder)!r} cannot be kept ({error}); make room, or choose "
                "another place with --out."
            ) from None


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """The jobs in a folder, which is made where there is none, for this process alone.

    Raises:
        OutputError: it cannot be written, is damaged, or another server uses it.
    """
    prepare(folder)
    taken = (
        f"Another server keeps its jobs in {str(folder)!r}; end it, or choose another place "
        "with --out."
    )
    with locked(folder / "lock", taken), closing(_connect(folder)) as connection:
        store = Store(folder, connection)
        store.recover()
        yield store


def _connect(folder: Path) -> sqlite3.Connection:
    path = folder / "jobs.sqlite"
    try:
        if foreign := foreign_to_database(path):
            raise sqlite3.OperationalError(foreign)
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("pragma journal_mode = wal")
        connection.executescript(_TABLES)
    except sqlite3.Error as error:
        raise OutputError(
            f"The jobs in {str(folder)!r} cannot be read ({error}); choose another place with "
            "--out."
        ) from None
    return connection


def _job(row: Sequence[Any]) -> Job:
    number, job_id, request, state, ended, error, attempts, best, created = row
    return Job(
        number=number, id=job_id, request=_REQUEST.validate_json(request), state=state,
        ended=ended, error=error, attempts=attempts, best=best, created=created,
    )  # fmt: skip


def _add_event(do: Any, job_id: str, kind: EventKind, body: dict[str, Any]) -> None:
    do("insert into event (job, kind, body) values (?, ?, ?)", (job_id, kind, json.dumps(body)))


def _end(do: Any, job_id: str, ended: JobEnd, error: str) -> bool:
    rows = do(
        "update job set state = 'ended', ended = ?, error = ? "
        "where id = ? and state != 'ended' returning best",
        (ended, error, job_id),
    )
    for (best,) in rows:
        _add_event(do, job_id, "end", {"ended": ended, "error": error, "best": best})
    return bool(rows)
