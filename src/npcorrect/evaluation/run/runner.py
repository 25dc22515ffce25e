"""Carries out a run: gives jobs to workers, keeps what they finish. Imports no torch.

Jobs of one sample go to one worker, one after the other, because they share pictures. Only the
driver writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, groupby

from npcorrect.evaluation.benchmarks.base import Judge, Place, Sample, Score
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.failures import Failures
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.records import Key, Record
from npcorrect.evaluation.run.store import Store, of_sample
from npcorrect.evaluation.run.worker import Done, Job, Worker
from npcorrect.workers import Pool

Load = Callable[[], Tools]
Jobs = tuple[Job, ...]
"""The jobs of one sample."""
Executor = Callable[[Load, Sequence[Jobs]], Iterator[Done]]
"""Does all jobs, in any order, and yields each as it is finished."""
OnRecord = Callable[[Record], None]

OpenJudge = Callable[[], AbstractContextManager[Judge]]
"""Opens the judge of a run, without anything else of what a worker needs."""


def run(
    store: Store,
    manifest: Manifest,
    samples: Sequence[Sample],
    load: Load,
    executor: Executor,
    on_record: OnRecord,
    open_judge: OpenJudge | None = None,
) -> None:
    """Do what the store does not have yet, and keep each record at once.

    A record that is damaged, lacks a verdict or a part of one, or whose pictures are gone, is done
    again; pictures without a score are judged again, by the judge that ``open_judge`` opens, or
    else done again. ``on_record`` is told of every record, first of those that are there already.

    Raises:
        OutputError: the store cannot be written.
        RunStoppedError: the judge or the verifier failed on several samples in a row.
        SettingsError: the store holds another run.
    """
    with store.writing(manifest) as writer:
        failures = Failures()

        def keep(done: Done) -> None:
            writer.add(done)
            on_record(done.record)
            failures.see(done.record)

        whole = whole_records(store)
        settled = [record for record in whole if not record.open_pictures]
        for record in settled:
            on_record(record)
        finished = {record.key for record in settled}
        left = [record for record in whole if record.open_pictures]
        if left and open_judge:
            with open_judge() as judge:
                for done in judged_again(store, samples, left, judge):
                    keep(done)
                    finished.add(done.record.key)
        settings = manifest.settings
        groups = todo(samples, settings.methods, settings.images, finished)
        for done in executor(load, groups) if groups else ():
            keep(done)


def whole_records(store: Store) -> list[Record]:
    """The records that can be used, and have all of their verdicts and pictures."""
    records = [record for record in store.sound_records() if not record.incomplete]
    names = {step.image for record in records for step in record.steps if step.image}
    gone = {name for name in names if store.read_picture(name) is None}
    return [r for r in records if gone.isdisjoint(step.image for step in r.steps)]


def judged_again(
    store: Store, samples: Sequence[Sample], records: Sequence[Record], judge: Judge
) -> Iterator[Done]:
    """The records with the scores that the judge gives their open pictures now.

    A picture that several methods have is judged once; records of other samples are left out.
    """
    known = {(sample.id, sample.repeat): sample for sample in samples}

    def place(record: Record) -> Place:
        return record.key.sample, record.key.repeat

    for where, group in groupby(sorted(records, key=lambda record: record.key), key=place):
        if where in known:
            members = list(group)
            names = {name for record in members for name in record.open_pictures}
            scores = judge_pictures(store, known[where], sorted(names), judge)
            yield from (Done(record.scored(scores), {}) for record in members)


def judge_pictures(
    store: Store, sample: Sample, names: Sequence[str], judge: Judge
) -> dict[str, Score]:
    """What the judge says of a sample's pictures, by name; those that are gone are left out."""
    images = {name: store.image(name) for name in names}
    shown = {name: image for name, image in images.items() if image is not None}
    given = judge.scores([(sample, image) for image in shown.values()])
    return dict(zip(shown, given, strict=True))


def second_judge(
    store: Store,
    samples: Sequence[Sample],
    judge: Judge,
    label: str,
    on_record: OnRecord,
) -> None:
    """Let another judge score every picture of a run that the first one was shown.

    What it has scored before is not asked again. The scores are kept beside the first judge's,
    under ``label``.

    Raises:
        OutputError: the store cannot be written.
        RunStoppedError: the judge failed on several samples in a row.
        SettingsError: the folder holds no run.
    """
    known = {(sample.id, sample.repeat): sample for sample in samples}
    failures = Failures()
    with store.writing() as writer:
        scores = {place: score for place, score in store.scores(label).items() if not score.open}
        for record in store.records():
            where = record.key.sample, record.key.repeat
            shown = {step.image for step in record.steps if step.score is not None and step.image}
            names = sorted(name for name in shown if (*where, name) not in scores)
            if names and where in known:
                given = judge_pictures(store, known[where], names, judge)
                new = {(*where, name): score for name, score in given.items()}
                writer.add_scores(label, new)
                scores |= new
            rescored = record.scored(of_sample(scores, record))
            on_record(rescored)
            failures.see(rescored)


def todo(
    samples: Sequence[Sample], methods: Sequence[str], images: int, finished: set[Key]
) -> list[Jobs]:
    """The jobs that are left, by sample."""
    jobs = (Job(method, sample, images) for sample in samples for method in methods)
    left = (job for job in jobs if job.key not in finished)
    grouped = groupby(left, key=lambda job: (job.sample.id, job.sample.repeat))
    return [tuple(jobs) for _, jobs in grouped]


def in_process(load: Load, groups: Sequence[Jobs]) -> Iterator[Done]:
    """What one worker in this process makes of each job, in their order."""
    yield from Worker(load).stream(chain.from_iterable(groups))


class RayExecutor(Pool):
    """Workers of their own, each with its own tools; see :class:`~npcorrect.workers.Pool`."""

    def __call__(self, load: Load, groups: Sequence[Jobs]) -> Iterator[Done]:
        """Do all jobs.

        Raises:
            SettingsError: Ray is not installed, or there is no cluster at the address.
            NpcError: workers die again and again on one job.
        """
        return self.perform(Worker, (load,), groups, _title, at_once=2)


def _title(job: Job) -> str:
    return f"{job.method} for the prompt {job.sample.prompt!r}"
