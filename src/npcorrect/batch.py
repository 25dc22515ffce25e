"""Many prompts, one after the other: a folder for each, a page and a table of all.

What is finished is not done again: the folders are the truth, the page and the table are made from
them, so that a batch may be interrupted at any moment and continued.
"""

from __future__ import annotations

import json
from atexit import register
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from operator import attrgetter
from pathlib import Path
from re import sub
from time import monotonic
from typing import Any, Literal

from npcorrect.errors import BudgetError, InputError, NpcError, OutputError, SettingsError
from npcorrect.faults import faults
from npcorrect.files import open_picture, prepare, write_text
from npcorrect.loop import OnEvent
from npcorrect.output import OutputFolder, correct_into
from npcorrect.prompts import Job
from npcorrect.records import Verdict
from npcorrect.result import Outcome, adapter, damaged, file_name, read_record, to_record
from npcorrect.session import (
    Session,
    SessionSettings,
    check,
    check_device,
    check_request,
    family_of,
    open_session,
)
from npcorrect.settings import read_shard
from npcorrect.workers import Pool, set_threads

FAILURES = 3
"""Prompts that may fail one after the other before a batch gives up."""
_PAUSE = 2.0
"""Seconds between two writings of the page and the table, at least."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one prompt came to: a line of ``results.jsonl``, a card of ``index.html``.

    ``wrong`` says what was wrong with the original, ``left`` what still is with the chosen picture.
    ``original`` and ``best`` are files in ``folder``. ``error`` says why there is no result.
    """

    number: int
    folder: str
    prompt: str
    seed: int
    outcome: Outcome | Literal["failed"]
    ended: str | None = None
    score: float | None = None
    wrong: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    original: str = ""
    best: str = ""
    attempts: int = 0
    evaluations: int = 0
    vlm_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    error: str = ""


OnRow = Callable[[Row], None]
Opened = Callable[[SessionSettings], AbstractContextManager[Session]]


@dataclass
class Batch:
    """Jobs, the settings that they share, and the folder for all of them."""

    jobs: Sequence[Job]
    settings: SessionSettings
    out: Path
    overwrite: bool = False
    rows: dict[int, Row] = field(default_factory=dict)
    _written: float = 0.0

    def check(self) -> None:
        """Refuse what could not work, before a model is loaded.

        Raises:
            InputError: a setting, a line or a folder cannot be used.
        """
        check(self.settings)
        family = family_of(self.settings.load)
        wrong = []
        for job in self.jobs:
            try:
                folder = self._folder(job)
                check_request(self.settings, folder.request, family, folder.original)
            except InputError as error:
                wrong.append(f"{job.place}: {error}")
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise SettingsError(wrong[0] + more)

    def collect(self) -> None:
        """Take over what is finished in the folders already.

        Raises:
            InputError: a folder holds something else, or a record in it cannot be read.
        """
        for job in self.jobs:
            folder = self._folder(job)
            if job.number not in self.rows and folder.state() == "finished":
                self.rows[job.number] = row(job, folder.path, read_record(folder.record_path))

    def run(
        self, shard: Sequence[Job], on_event: OnEvent, on_row: OnRow, pool: Pool | None = None
    ) -> None:
        """Do those jobs of a shard that are not finished, here or on the workers of a pool.

        Workers tell of no events. Only this process writes the page and the table.

        Raises:
            InputError: a setting or a folder cannot be used.
            NpcError: several jobs in a row failed, the budget is spent, or workers died again and
                again on one job.
        """
        self.check()
        if pool is None:
            check_device(self.settings.load)
        prepare(self.out)
        if not self.overwrite:
            self.collect()
        try:
            jobs = [job for job in shard if job.number not in self.rows]
            if jobs:
                self._keep(self._made(jobs, on_event, pool), on_row)
        finally:
            self._write()
        if not self.overwrite:
            self.collect()
            self._write()

    def _keep(self, made: Generator[Row], on_row: OnRow) -> None:
        """Take over rows as they are made, unless too much goes wrong."""
        failed = 0
        with closing(made):
            for one in made:
                self.rows[one.number] = one
                on_row(one)
                if monotonic() - self._written > _PAUSE:
                    self._write()
                failed = failed + 1 if one.outcome == "failed" else 0
                if failed == FAILURES:
                    raise NpcError(f"{failed} prompts in a row failed, the last: {one.error}")
                if one.ended == "budget":
                    raise BudgetError(
                        f"The budget is spent at {self.jobs[one.number - 1].place}; what is "
                        "finished is kept, so give the same command with a larger --budget to go "
                        "on."
                    )

    def _made(self, jobs: Sequence[Job], on_event: OnEvent, pool: Pool | None) -> Generator[Row]:
        """The rows of jobs, in any order."""
        if pool is not None:
            # Workers elsewhere have another working directory.
            batch = replace(self, out=self.out.absolute(), rows={})
            work = [(_absolute(job),) for job in jobs]
            title = attrgetter("place")
            yield from pool.perform(BatchWorker, (batch, open_session, pool.threads), work, title)
            return
        with open_session(self.settings) as session:
            for job in jobs:
                yield self.correct(job, session, on_event)

    def correct(self, job: Job, session: Session, on_event: OnEvent | None = None) -> Row:
        """One job in its folder; a failure is a row, too.

        Raises:
            OutputError: the folder cannot be used.
        """
        folder = self._folder(job)
        try:
            with folder.claimed(self.overwrite) as begun:
                result = correct_into(folder, begun, session, on_event)
        except OutputError:
            raise
        except NpcError as error:
            return _row(job, folder.path, outcome="failed", error=str(error))
        return row(job, folder.path, to_record(result))

    def _folder(self, job: Job) -> OutputFolder:
        picture = open_picture(job.image) if job.image else None
        path = self.out / folder_name(job)
        return OutputFolder(path, job.request, self.settings, picture)

    def _write(self) -> None:
        """The page and the table."""
        rows = [self.rows[number] for number in sorted(self.rows)]
        lines = (json.dumps(asdict(one)) + "\n" for one in rows)
        write_text(self.out / "results.jsonl", "".join(lines))
        write_text(self.out / "index.html", page(rows, len(self.jobs)))
        self._written = monotonic()


class BatchWorker:
    """A worker of a batch in a process of its own, with a session of its own."""

    def __init__(self, batch: Batch, opened: Opened, threads: int) -> None:
        self._batch, self._opened, self._threads = batch, opened, threads

    @cached_property
    def _session(self) -> Session:
        """Opened by the first job, which then raises what opening raises; open until the end."""
        stack = ExitStack()
        register(stack.close)
        session = stack.enter_context(self._opened(self._batch.settings))
        set_threads(self._threads)
        return session

    def perform(self, job: Job) -> Row:
        """What comes of one prompt, corrected in a folder of its own."""
        return self._batch.correct(job, self._session)


def shard(jobs: Sequence[Job], part: str) -> Sequence[Job]:
    """Every n-th job: ``"2/4"`` is the second of four parts.

    Raises:
        SettingsError: it is no part.
    """
    number, count = read_shard(part)
    return jobs[number - 1 :: count]


def folder_name(job: Job) -> str:
    """``0012-three-red-apples``: the place in the file and the prompt's first words."""
    words = sub(r"[^a-z0-9]+", "-", job.request.prompt[:200].lower()).strip("-")
    return f"{job.number:04d}-{words[:40].strip('-')}".rstrip("-")


def row(job: Job, folder: Path, record: Mapping[str, Any]) -> Row:
    """The row of a finished correction from its record.

    Raises:
        SettingsError: the record is damaged.
    """
    try:
        first, best = record["attempts"][0], record["attempts"][record["best"]]
        before, after = (adapter(Verdict).validate_python(one["verdict"]) for one in (first, best))
        generation, cost = best["generation"], record["cost"]
        acted = [generation["negative_prompt"], *(text for _, text in generation["steering"])]
        return _row(
            job,
            folder,
            outcome=record["outcome"],
            ended=record["ended"],
            score=after.score,
            wrong=faults(before),
            left=faults(after),
            negatives=tuple(dict.fromkeys(text for text in acted if text)),
            original=file_name(0),
            best=file_name(best["index"]),
            attempts=len(record["attempts"]),
            evaluations=cost["evaluations"],
            vlm_calls=cost["vlm_calls"],
            tokens=cost["tokens"],
            seconds=cost["seconds"],
            error=before.error,
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged(folder / "result.json", error) from None


def page(rows: Sequence[Row], jobs: int) -> str:
    """``index.html``: every prompt with its pictures; it loads nothing but those."""
    outcomes = ("accepted", "corrected", "not accepted", "unscored", "failed")
    counts = {name: sum(one.outcome == name for one in rows) for name in outcomes}
    return str(_template().render(rows=rows, jobs=jobs, counts=counts))


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("npcorrect", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html.j2")


def _absolute(job: Job) -> Job:
    return replace(job, image=job.image.absolute()) if job.image else job


def _row(job: Job, folder: Path, **values: Any) -> Row:
    prompt, seed = job.request.prompt, job.request.seed
    return Row(number=job.number, folder=folder.name, prompt=prompt, seed=seed, **values)
