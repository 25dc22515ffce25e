"""What a method is: a stream of attempts at one sample, made with the tools of a worker.

A method is a module of :mod:`npcorrect.evaluation.methods`, called as the module with ``-`` for
``_``. Its function ``attempts(task)`` yields the loop's own records until the verifier accepts one;
the caller stops asking when the budget is spent. The first line of its docstring describes it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, cast

from npcorrect.diffusion.base import ImageModel
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmark import Benchmark, Judge, Sample
from npcorrect.loop import correct
from npcorrect.ranking import Ranker, SourceRanker
from npcorrect.types import Attempt, Checklist, Request
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


Method = Callable[[Task], Generator[Attempt]]


def names() -> tuple[str, ...]:
    """The names of all methods."""
    from npcorrect.evaluation import methods

    return tuple(info.name.replace("_", "-") for info in pkgutil.iter_modules(methods.__path__))


def find(name: str) -> Method:
    """The method with this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in names():
        raise SettingsError(
            f"The method {name!r} is unknown; the methods are {', '.join(names())}."
        )
    return cast(Method, _module(name).attempts)


def describe(name: str) -> str:
    """One line about a method."""
    return str(_module(name).__doc__).partition("\n")[0]


def _module(name: str) -> Any:
    return importlib.import_module(f"npcorrect.evaluation.methods.{name.replace('-', '_')}")


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
