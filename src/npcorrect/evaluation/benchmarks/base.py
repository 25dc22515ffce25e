"""What a benchmark is: samples, and how a judge scores a picture of one. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL.Image import Image

from npcorrect.records import Checklist
from npcorrect.vlm.base import VLM, Usage

SEED_STEP = 1000
"""Between the seeds of two prompts."""
REPEAT_STEP = 500
"""Between the seeds of two repeats of one prompt: a method may take up to so many seeds."""


@dataclass(frozen=True)
class Sample:
    """One prompt with one seed. ``id`` counts prompts from 1, as the official files do.

    ``facts`` is the official line, for judges and for checklists of the benchmark's own.
    """

    id: int
    tag: str
    prompt: str
    seed: int
    repeat: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Score:
    """A judge's word on one picture.

    ``value`` is 0 or 1 where the benchmark is binary, otherwise on the benchmark's own scale; None
    means *unscored*: ``reason`` then says why, and ``raw`` keeps what the judge said. ``parts`` are
    the figures that the value was computed from.
    """

    value: float | None
    reason: str = ""
    raw: str = ""
    parts: tuple[tuple[str, float], ...] = ()
    usage: Usage = field(default_factory=Usage)


Picture = tuple[Sample, Image]
"""What a judge is shown."""


class Judge(Protocol):
    """Scores pictures. No method ever consults it."""

    @property
    def name(self) -> str:
        """What the report calls the judge."""
        ...

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """The score of each picture, in order; one that cannot be judged is unscored.

        Raises:
            InputError: nothing can be judged at all: no such model, no key, no server.
            BudgetError: the user's limit does not allow the questions.
        """
        ...


class Benchmark(Protocol):
    """A set of prompts and its protocol."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def scale(self) -> float:
        """The best value that a picture can have."""
        ...

    def samples(self) -> tuple[Sample, ...]:
        """All prompts in the official order, with the seeds of the first repeat.

        Raises:
            InputError: the official file is missing, or is not the one whose checksum is known.
        """
        ...

    def checksum(self) -> str:
        """SHA-256 of the file that the samples come from."""
        ...

    def checklist(self, sample: Sample) -> Checklist:
        """The benchmark's own checklist, which only ``npc-oracle`` may see."""
        ...

    def figures(self, scores: Mapping[int, Sequence[Score]]) -> tuple[Figure, ...]:
        """The official figures from the scores of each prompt's repeats, the main one first."""
        ...

    @property
    def upstream_judge(self) -> str | None:
        """The model that upstream judges with; None where no model judges."""
        ...

    def judge(self, vlm: VLM | None) -> Judge:
        """The judge of this benchmark; ``vlm`` is there where a model judges."""
        ...


@dataclass(frozen=True)
class Figure:
    """One figure of a benchmark's protocol.

    ``fault`` says which fault of the upstream script it reproduces; such a figure is only shown
    when it is asked for, beside the right one.
    """

    name: str
    value: float | None
    fault: str = ""


def mean_of_groups(
    scores: Mapping[int, Sequence[Score]],
    groups: Mapping[int, str],
    weights: Mapping[str, float] | None = None,
) -> float | None:
    """The mean of the groups' means, weighted if weights are given; a group without one has none.

    Unscored pictures and groups with nothing scored are left out; None where nothing is scored.
    """
    values: dict[str, list[float]] = {}
    for prompt, of_prompt in scores.items():
        scored = [score.value for score in of_prompt if score.value is not None]
        values.setdefault(groups[prompt], []).extend(scored)
    weight = {name: 1.0 if weights is None else weights.get(name, 0.0) for name in values}
    used = [name for name, of_group in values.items() if of_group and weight[name]]
    if not used:
        return None
    total = sum(weight[name] * sum(values[name]) / len(values[name]) for name in used)
    return total / sum(weight[name] for name in used)
