"""What a worker does: one method on one sample, judged. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Lock

from PIL.Image import Image

from npcorrect.diffusion.base import UNWATCHED, ImageModel, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.evaluation.benchmarks.base import Sample, Score
from npcorrect.evaluation.methods import find
from npcorrect.evaluation.methods.base import Task, Tools
from npcorrect.evaluation.plugins import label
from npcorrect.evaluation.run.kept import kept
from npcorrect.evaluation.run.pictures import picture_name
from npcorrect.evaluation.run.records import Key, Record, Step
from npcorrect.files import png
from npcorrect.records import Attempt, Cost, Drawing, Generation, Request
from npcorrect.result import select
from npcorrect.vlm.usage import paying

REMEMBERED = 16
"""Plain pictures and scores that a worker remembers, to share them among a sample's methods."""
BUDGET_SHARE = 1.5
"""Evaluations that a method may spend, for each image compared, in those of a plain picture.

Half as many again, because a guided redrawing takes up to three evaluations where a plain picture
takes two: so every method can be followed to where the dearest one ends.
"""


def plain_pictures(images: int) -> int:
    """How many plain pictures could be had for the budget of so many images."""
    return int(BUDGET_SHARE * images)


@dataclass(frozen=True)
class Job:
    """One method on one sample, for at least ``images`` pictures."""

    method: str
    sample: Sample
    images: int

    @property
    def key(self) -> Key:
        """Under which the store keeps the job's record, so that it is done once."""
        return Key(self.sample.id, self.sample.repeat, label(self.method))


@dataclass(frozen=True)
class Done:
    """A record with its pictures, as PNG files by name."""

    record: Record
    pictures: dict[str, bytes]


@dataclass(frozen=True)
class Drawn:
    """What a method drew for a job within its budget of evaluations."""

    job: Job
    budget: int
    attempts: list[Attempt]


class Worker:
    """Loads its tools once and does one job after the other."""

    def __init__(self, load: Callable[[], Tools]) -> None:
        self._load = load
        self._scores: dict[tuple[int, int, str], Score] = {}
        self._plain: int | None = None
        self._drawing, self._judging = Lock(), Lock()

    @cached_property
    def _tools(self) -> Tools:
        """Loaded by the first job, which then raises what loading raises."""
        loaded = self._load()
        sharing = _Sharing(loaded.session.model)
        return replace(loaded, session=replace(loaded.session, model=sharing))

    @property
    def _model(self) -> _Sharing:
        model = self._tools.session.model
        assert isinstance(model, _Sharing)
        return model

    @property
    def _waits(self) -> bool:
        """Whether judging mostly waits for a server."""
        return bool(getattr(self._tools.judge, "remote", False))

    def perform(self, job: Job) -> Done:
        """Draw, choose and judge; the same job gives the same record, but for the seconds.

        Of threads that call it, one draws while a judge that waits for a server judges another's.
        """
        with self._drawing:
            drawn = self._drawn(job)
            if not self._waits:
                return self._judged(drawn)
        with self._judging:
            return self._judged(drawn)

    def stream(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Each job as it is done, in their order, all drawn by the thread that asks for them.

        A judge that waits for a server judges one in a thread of its own while the next is drawn.
        """
        jobs = iter(jobs)
        if not self._waits:
            yield from map(self.perform, jobs)
            return
        pool = ThreadPoolExecutor(1, "npcorrect-judge")
        judged: Future[Done] | None = None
        try:
            for job in jobs:
                drawn = self._drawn(job)
                if judged is not None:
                    yield judged.result()
                judged = pool.submit(self._judged, drawn)
            if judged is not None:
                yield judged.result()
        finally:
            # After Ctrl-C nobody waits for a server; what it has answered is in the cache.
            pool.shutdown(wait=False, cancel_futures=True)

    def _drawn(self, job: Job) -> Drawn:
        budget = plain_pictures(job.images) * self._plain_evaluations(job.sample)
        return Drawn(job, budget, self._attempts(job, budget))

    def _judged(self, drawn: Drawn) -> Done:
        job, attempts = drawn.job, drawn.attempts
        chosen = [select(attempts[: i + 1]) for i in range(len(attempts))]
        images = [attempt.generation.image for attempt in attempts]
        files = [png(image) for image in images]
        names = [picture_name(file) for file in files]
        costs = _sums([attempt.cost for attempt in attempts])
        sample = job.sample
        shown = {names[place]: images[place] for place in sorted(set(chosen))}
        shares = {place: kept(images[0], images[place]) for place in set(chosen) - {0}}
        scores = self._judge(sample, shown)
        steps = [
            replace(
                _step(*row),
                score=scores.get(row[1]) if place in chosen else None,
                kept=shares.get(place),
            )
            for place, row in enumerate(zip(attempts, names, chosen, costs, strict=True))
        ]
        record = Record(job.key, sample.tag, sample.prompt, sample.seed, drawn.budget, tuple(steps))
        return Done(record, dict(zip(names, files, strict=True)))

    def _attempts(self, job: Job, budget: int) -> list[Attempt]:
        """Attempts until the method ends, or its images and its evaluations are both spent."""
        task = self._task(job)
        attempts: list[Attempt] = []
        evaluations = 0
        self._model.take_saved_seconds()
        with paying() as payer, closing(find(job.method).attempts(task)) as stream:
            for attempt in stream:
                cost = attempt.cost
                saved = self._model.take_saved_seconds() + payer.take_saved_seconds()
                seconds = cost.seconds + saved
                attempts.append(replace(attempt, cost=replace(cost, seconds=seconds)))
                evaluations += cost.evaluations
                if len(attempts) >= job.images and evaluations >= budget:
                    break
        return attempts

    def _task(self, job: Job) -> Task:
        tools, sample = self._tools, job.sample
        checklist = partial(tools.benchmark.checklist, sample)
        return Task(sample, job.images, tools.session, tools.draw, tools.writer, checklist)

    def _plain_evaluations(self, sample: Sample) -> int:
        """Evaluations of a plain picture; drawn once, and shared by the first sample."""
        if self._plain is None:
            request = Request(sample.prompt, **vars(self._tools.draw))
            plan = self._model.plan(replace(request, seed=sample.seed, candidates=0))
            self._plain = self._model.draw([plan.drawing(0, None)])[0].evaluations
        return self._plain

    def _judge(self, sample: Sample, images: Mapping[str, Image]) -> dict[str, Score]:
        """The judge's word on pictures; the same picture of a sample is judged once."""
        keys = {name: (sample.id, sample.repeat, name) for name in images}
        new = [name for name, key in keys.items() if key not in self._scores]
        judged = self._tools.judge.scores([(sample, images[name]) for name in new])
        self._scores.update(zip((keys[name] for name in new), judged, strict=True))
        scores = {name: self._scores[key] for name, key in keys.items()}
        while len(self._scores) > REMEMBERED:
            self._scores.pop(next(iter(self._scores)))
        return scores


class _Sharing(Wrapper):
    """Draws the same plain picture once; its seconds still count each time."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__(model)
        self._plain: dict[Drawing, Generation] = {}
        self._saved_seconds = 0.0

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        if len(drawings) != 1 or drawings[0].negative_prompt is not None:
            return super().draw(drawings, watch)
        (drawing,) = drawings
        if drawing in self._plain:
            self._saved_seconds += self._plain[drawing].seconds
            return [self._plain[drawing]]
        drawn = super().draw(drawings, watch)
        self._plain[drawing] = drawn[0]
        if len(self._plain) > REMEMBERED:
            self._plain.pop(next(iter(self._plain)))
        return drawn

    def take_saved_seconds(self) -> float:
        """Seconds that sharing has saved since the last call."""
        saved, self._saved_seconds = self._saved_seconds, 0.0
        return saved


def _step(attempt: Attempt, image: str, chosen: int, cost: Cost) -> Step:
    """A picture of a method, before anything compares it with others."""
    verdict, ranked = attempt.verdict, attempt.ranked
    generation = attempt.generation
    failed = [check for check in verdict.checks if check.passed is False]
    return Step(
        image,
        generation.drawing.seed,
        generation.negatives,
        ranked.candidate.source if ranked else "",
        verdict.accepted,
        tuple(check.requirement.text for check in failed),
        verdict.error,
        chosen,
        cost,
        looks=generation.steering,
        observed=tuple(check.observed for check in failed),
    )


def _sums(costs: Sequence[Cost]) -> list[Cost]:
    sums = [Cost()]
    for cost in costs:
        sums.append(sums[-1] + cost)
    return sums[1:]
