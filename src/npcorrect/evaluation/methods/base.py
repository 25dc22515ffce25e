"""What a method is: a stream of attempts at one sample, made with the tools of a worker.

It yields the loop's own records until the verifier accepts one; the caller stops asking when the
budget is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from itertools import count

from npcorrect.diffusion.base import ImageModel
from npcorrect.errors import NpcError
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge, Sample
from npcorrect.loop import Correction
from npcorrect.records import Attempt, Checklist, Request
from npcorrect.session import Session
from npcorrect.settings import MAX_CANDIDATES, DrawSettings
from npcorrect.vlm.base import VLM


@dataclass(frozen=True)
class Tools:
    """What a worker loads once.

    ``writer`` rewrites prompts. ``draw`` holds what all pictures have in common. The judge is the
    worker's alone: a method sees a :class:`Task`.
    """

    session: Session
    judge: Judge
    benchmark: Benchmark
    writer: VLM | None = None
    draw: DrawSettings = field(default_factory=DrawSettings)


@dataclass(frozen=True)
class Task:
    """One sample for one method. ``images`` is how many pictures are compared at most.

    ``checklist`` is the benchmark's own, for methods that are told what the judge looks for.
    """

    sample: Sample
    images: int
    session: Session
    draw: DrawSettings = field(default_factory=DrawSettings)
    writer: VLM | None = None
    checklist: Callable[[], Checklist] | None = None

    @property
    def request(self) -> Request:
        """The run's settings for this prompt and seed."""
        candidates = min(max(self.images - 1, 0), MAX_CANDIDATES)
        drawn = replace(self.draw, seed=self.sample.seed, candidates=candidates)
        return Request(self.sample.prompt, **vars(drawn))

    def around(self, model: ImageModel) -> Task:
        """The same task where another model draws, such as a wrapper around its own."""
        return replace(self, session=replace(self.session, model=model))

    def correct(self, request: Request, checklist: Checklist | None = None) -> Correction:
        """A correction by the session of the run."""
        return self.session.correct(request, checklist=checklist)


@dataclass(frozen=True)
class Method:
    """A row of the table of methods: one line about it, and its stream of attempts.

    ``asks`` is what it makes of a request of the run, so that what could not work is refused first.
    """

    description: str
    attempts: Callable[[Task], Generator[Attempt]]
    asks: Callable[[Request], Request] = lambda request: request


def unless_spent(correction: Correction) -> Generator[Attempt]:
    """The attempts of a correction, for which a spent budget is the end of the run.

    The loop takes a role that may not ask for one that gave no answer, and goes on without. In a
    benchmark that would make a sample look unscored which nobody looked at.

    Raises:
        NpcError: the budget is spent.
    """
    for attempt in correction:
        if correction.spent:
            raise NpcError(
                "The budget is used up; what was finished is kept. Give the same command with a "
                "larger --budget to continue."
            )
        yield attempt


def seeds(task: Task) -> Generator[Attempt]:
    """A picture from each seed in turn, until the verifier accepts one."""
    known: Checklist | None = None
    for place in count():
        request = replace(task.request, seed=task.sample.seed + place, candidates=0)
        correction = task.correct(request, known)
        for attempt in unless_spent(correction):
            yield replace(attempt, index=place)
            if attempt.verdict.accepted:
                return
        known = correction.checklist if correction.checklist.requirements else None


def restarted(task: Task, run: Callable[[Request], Correction]) -> Generator[Attempt]:
    """A loop, and the loop again from the next unused seed, until the verifier accepts a picture.

    So a loop that runs out of candidates can spend the rest of its budget, as any user would.
    """
    drawn, accepted = 0, None
    while not accepted:
        for attempt in unless_spent(run(replace(task.request, seed=task.sample.seed + drawn))):
            yield replace(attempt, index=drawn)
            drawn, accepted = drawn + 1, attempt.verdict.accepted
