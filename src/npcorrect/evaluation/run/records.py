"""What a run leaves behind: what each method would hand over after each of its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from typing import Annotated

from pydantic import Field

from npcorrect.evaluation.benchmarks.base import Score
from npcorrect.records import Cost

METHOD_NAME = r"^\w[\w .+=@-]*(:\w+)?$"
"""What a method may be called: its name becomes that of a folder, without the colon that one in a
file of the user's has (``my.py:name``)."""
Picture = Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
"""The name of a picture's file without its ending; empty where there is none."""


@dataclass(frozen=True, order=True)
class Key:
    """What is done once: a method on one prompt with one seed. Orders as the benchmark does."""

    sample: int
    repeat: int
    method: Annotated[str, Field(pattern=METHOD_NAME)]


@dataclass(frozen=True)
class Step:
    """One picture of a method, and where the method stands after it.

    ``chosen`` is the place of the picture that would be handed over if it ended here; only pictures
    that were chosen at some time have a ``score``. ``cost`` is that of all pictures so far.
    ``failed`` are the claims that the verifier rejects. ``looks`` are the looks that changed the
    picture's negative while it emerged: the step, and the text beside it, None where the emerging
    picture was right. ``observed`` is what the verifier saw in place of each of ``failed``.
    ``kept`` is the share of the first picture that one chosen later keeps, 0 to 1; None for all
    others, and in records of earlier versions.
    """

    image: Picture
    seed: int
    negatives: tuple[str, ...]
    source: str
    accepted: bool | None
    failed: tuple[str, ...]
    error: str
    chosen: int
    cost: Cost
    score: Score | None = None
    looks: tuple[tuple[int, str | None], ...] = ()
    observed: tuple[str, ...] = ()
    kept: float | None = None


@dataclass(frozen=True)
class Record:
    """A method on one sample, from the first picture to the last.

    ``budget`` is the number of evaluations up to which the method was followed: unless a picture
    was accepted, it drew on until that many were spent.
    """

    key: Key
    tag: str
    prompt: str
    seed: int
    budget: int
    steps: tuple[Step, ...]

    def score(self, place: int = -1) -> Score:
        """The judge's word on what the method would hand over after this step."""
        score = self.steps[self.steps[place].chosen].score
        assert score is not None
        return score

    def picture(self, place: int = -1) -> str:
        """The name of the picture that the method would hand over after this step."""
        return self.steps[self.steps[place].chosen].image

    def kept(self, place: int = -1) -> float | None:
        """How much of the first picture is kept by what the method would hand over after this."""
        return self.steps[self.steps[place].chosen].kept

    @property
    def unverified(self) -> bool:
        """Whether a picture has no verdict, so that the method could not do what it does."""
        return any(step.accepted is None and step.error for step in self.steps)

    @property
    def incomplete(self) -> bool:
        """Whether the verifier left out anything, so that other pictures might have been drawn."""
        return any(step.error for step in self.steps)

    @property
    def open_pictures(self) -> tuple[str, ...]:
        """The names of the pictures whose score is still to be had from the judge."""
        opened = (s.image for s in self.steps if s.image and s.score is not None and s.score.open)
        return tuple(dict.fromkeys(opened))

    def scored(self, scores: Mapping[str, Score]) -> Record:
        """The record with these scores of its pictures, by name, in place of those that it had."""
        steps = (
            replace(step, score=scores[step.image])
            if step.score is not None and step.image in scores
            else step
            for step in self.steps
        )
        return replace(self, steps=tuple(steps))

    def after(self, images: int) -> int:
        """The step at which the method stands after so many images; it stays once it has ended."""
        return min(images, len(self.steps)) - 1

    def within(self, evaluations: int) -> int | None:
        """The last step before the next picture would exceed the evaluations; None before any."""
        fits = [i for i, step in enumerate(self.steps) if step.cost.evaluations <= evaluations]
        return fits[-1] if fits else None


def fault(record: Record) -> str:
    """What is wrong with the meaning of a record that came from a file; empty where nothing is."""
    steps = record.steps
    if not steps:
        return "it has no step"
    for place, step in enumerate(steps):
        if not 0 <= step.chosen <= place:
            return f"step {place} hands over picture {step.chosen}, which is not drawn yet"
        if steps[step.chosen].score is None:
            return f"step {place} hands over picture {step.chosen}, which has no score"
        if not all(map(isfinite, _numbers(step))):
            return f"step {place} has a number that is not finite"
        if min(_counts(step.cost)) < 0:
            return f"step {place} has a negative cost"
        if step.kept is not None and not 0 <= step.kept <= 1:
            return f"step {place} keeps {step.kept} of the first picture, which is no share"
    for before, after in pairwise(steps):
        if before.cost.evaluations > after.cost.evaluations:
            return "its evaluations grow less"
    return ""


def _numbers(step: Step) -> list[float]:
    numbers = [step.cost.seconds, step.cost.usage.seconds, step.cost.usage.money or 0.0]
    if step.score is not None:
        numbers += [step.score.value or 0.0, *(step.score.bounds or ())]
        numbers += [value for _, value in step.score.parts]
        numbers += [value for value in step.score.again if value is not None]
    return numbers


def _counts(cost: Cost) -> tuple[float, ...]:
    usage = cost.usage
    return (
        cost.images, cost.evaluations, cost.seconds, usage.calls, usage.input_tokens,
        usage.output_tokens, usage.seconds, usage.retries, usage.money or 0, usage.readings,
    )  # fmt: skip
