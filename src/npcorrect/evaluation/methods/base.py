"""What a method is: a stream of attempts at one sample, made with the tools of a worker.

It yields the loop's own records until the verifier accepts one; the caller stops asking when the
budget is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from npcorrect.diffusion.base import ImageModel
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge, Sample
from npcorrect.loop import correct
from npcorrect.ranking import Ranker, SourceRanker
from npcorrect.records import Attempt, Checklist, Request
from npcorrect.vlm.base import VLM
from npcorrect.vlm.roles import Checklister, Roles


@dataclass(frozen=True)
class Tools:
    """What a worker loads once.

    ``rankers`` has them by name, ``writer`` rewrites prompts. ``request`` holds what all pictures
    have in common, such as their size.
    """

    model: ImageModel
    roles: Roles
    rankers: Mapping[str, Ranker]
    judge: Judge
    benchmark: Benchmark
    writer: VLM | None = None
    request: Request = field(default_factory=lambda: Request(""))


@dataclass(frozen=True)
class Task:
    """One sample for one method. ``images`` is how many pictures are compared at most."""

    sample: Sample
    images: int
    tools: Tools

    @property
    def request(self) -> Request:
        """The program's defaults for this prompt and seed."""
        sample = self.sample
        return replace(
            self.tools.request,
            prompt=sample.prompt,
            seed=sample.seed,
            max_candidates=max(self.images - 1, 0),
        )


@dataclass(frozen=True)
class Method:
    """A row of the table of methods: one line about it, and its stream of attempts."""

    description: str
    attempts: Callable[[Task], Generator[Attempt]]


def seeds(
    task: Task, model: ImageModel | None = None, prompt: str | None = None
) -> Generator[Attempt]:
    """A picture from each seed in turn, until the verifier accepts one.

    ``prompt`` is drawn in place of the sample's own, which is still what is verified.
    """
    tools = task.tools
    noted = _Noted(tools.roles.checklister, task.sample.prompt)
    roles = replace(tools.roles, checklister=noted)
    for place in count():
        seed = task.sample.seed + place
        request = replace(
            task.request, prompt=prompt or task.sample.prompt, seed=seed, max_candidates=0
        )
        (attempt,) = correct(
            request, model or tools.model, roles, SourceRanker(), checklist=noted.known
        )
        yield replace(attempt, index=place)
        if attempt.verdict.accepted:
            return


class _Noted:
    """Takes one prompt apart whatever it is given, and keeps the answer."""

    def __init__(self, checklister: Checklister, prompt: str) -> None:
        self._checklister, self._prompt = checklister, prompt
        self.known: Checklist | None = None

    def checklist(self, prompt: str) -> Checklist:
        """The checklist of the one prompt."""
        self.known = self._checklister.checklist(self._prompt)
        return self.known


def restarted(task: Task, run: Callable[[Request], Iterable[Attempt]]) -> Generator[Attempt]:
    """A loop, and the loop again from the next unused seed, until the verifier accepts a picture.

    So a loop that runs out of candidates can spend the rest of its budget, as any user would.
    """
    drawn, accepted = 0, None
    while not accepted:
        for attempt in run(replace(task.request, seed=task.sample.seed + drawn)):
            yield replace(attempt, index=drawn)
            drawn, accepted = drawn + 1, attempt.verdict.accepted
