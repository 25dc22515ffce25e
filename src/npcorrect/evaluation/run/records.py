"""What a run leaves behind: what each method would hand over after each of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from npcorrect.evaluation.benchmarks.base import Score
from npcorrect.records import Cost

METHOD_NAME = r"^\w[\w .+=@-]*$"
"""What a method may be called: its name becomes that of a folder."""
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
    ``failed`` are the claims that the verifier rejects.
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

    def after(self, images: int) -> int:
        """The step at which the method stands after so many images; it stays once it has ended."""
        return min(images, len(self.steps)) - 1

    def within(self, evaluations: int) -> int | None:
        """The last step before the next picture would exceed the evaluations; None before any."""
        fits = [i for i, step in enumerate(self.steps) if step.cost.evaluations <= evaluations]
        return fits[-1] if fits else None
