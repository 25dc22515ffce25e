"""What a benchmark is: samples, and how a judge scores a picture of one. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    means *unscored*: ``reason`` then says why, and ``raw`` keeps what the judge said. ``missing``
    says that there was no picture to judge, so that asking again would not help. ``parts`` are the
    figures that the value was computed from. ``bounds`` is the interval that the value lies in
    where the judge leaves it open, ``asked`` what the judge was shown and asked, as text, and
    ``again`` the values that it gave the same picture when it was asked again. ``deferred`` leaves
    the picture to the upstream script, and ``fatal`` says that the judge answers nobody until the
    user acts.
    """

    value: float | None
    reason: str = ""
    raw: str = ""
    parts: tuple[tuple[str, float], ...] = ()
    usage: Usage = field(default_factory=Usage)
    missing: bool = False
    bounds: tuple[float, float] | None = None
    asked: str = ""
    again: tuple[float | None, ...] = ()
    deferred: bool = False
    fatal: bool = False

    @property
    def open(self) -> bool:
        """Whether the judge has to be asked for it once more."""
        return self.value is None and not self.missing and not self.deferred


@dataclass(frozen=True)
class Judged:
    """A prompt with the scores of its pictures, one for each repeat."""

    id: int
    tag: str
    scores: tuple[Score, ...]


Picture = tuple[Sample, Image]
"""What a judge is shown."""
Place = tuple[int, int]
"""A sample by the id of its prompt and its repeat."""


class Judge(Protocol):
    """Scores pictures. No method ever consults it."""

    @property
    def name(self) -> str:
        """The judge as the report and the warning of a judge that verifies name it."""
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
        """The benchmark as ``npc bench run`` takes it and the manifest keeps it."""
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

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The official figures, the main one first; needs no official file."""
        ...

    @property
    def upstream_judge(self) -> str | None:
        """The model that upstream judges with; None where no model judges."""
        ...

    def judge(self, vlm: VLM | None) -> Judge:
        """The judge of this benchmark; ``vlm`` is there where a model judges."""
        ...


@dataclass(frozen=True)
class Term:
    """What one prompt adds to a figure: the sum of ``count`` values, in a group of prompts."""

    group: str
    total: float
    count: float


@dataclass(frozen=True)
class Figure:
    """One figure of a benchmark's protocol: the weighted mean of the groups' means.

    A group without a weight is left out; without ``weights``, all groups weigh the same. ``fault``
    says which fault of the upstream script the figure reproduces; such a figure is only shown when
    it is asked for, beside the right one.
    """

    name: str
    terms: tuple[Term, ...]
    weights: Mapping[str, float] | None = None
    fault: str = ""

    @property
    def groups(self) -> dict[str, tuple[float, tuple[Term, ...]]]:
        """The weight and the terms of each group that counts; the weights add up to 1."""
        members: dict[str, list[Term]] = {}
        for term in self.terms:
            if term.count and (self.weights is None or self.weights.get(term.group)):
                members.setdefault(term.group, []).append(term)
        weight = {name: 1.0 if self.weights is None else self.weights[name] for name in members}
        whole = sum(weight.values())
        return {name: (weight[name] / whole, tuple(terms)) for name, terms in members.items()}

    @property
    def value(self) -> float | None:
        """The figure; None where nothing is scored."""
        means = [(weight, mean_of(terms)) for weight, terms in self.groups.values()]
        return sum(weight * mean for weight, mean in means) if means else None

    @property
    def n(self) -> int:
        """The number of values that it is the mean of."""
        return round(sum(term.count for _, terms in self.groups.values() for term in terms))


def mean_of(terms: Sequence[Term]) -> float:
    """The mean of all values of some terms, of which there is at least one."""
    return sum(term.total for term in terms) / sum(term.count for term in terms)


def value_of(score: Score) -> float | None:
    """The score's value; None where it is unscored."""
    return score.value


def missing_as_wrong(score: Score) -> float | None:
    """The score's value, and 0 where there is no picture."""
    return 0.0 if score.missing else score.value


def unscored_as_wrong(score: Score) -> float | None:
    """The score's value, and 0 where it is unscored."""
    return score.value or 0.0


def part_of(name: str) -> Callable[[Score], float | None]:
    """Reads one of the parts of a score."""
    return lambda score: dict(score.parts).get(name)


def figure(
    name: str,
    judged: Sequence[Judged],
    value: Callable[[Score], float | None] = value_of,
    group: Callable[[Judged], str] = lambda one: "",
    weights: Mapping[str, float] | None = None,
    fault: str = "",
) -> Figure:
    """The mean over prompts and repeats of what ``value`` reads in a score, by groups of prompts.

    What it reads None in is left out.
    """
    terms = []
    for one in judged:
        values = [read for score in one.scores if (read := value(score)) is not None]
        terms.append(Term(group(one), sum(values), len(values)))
    return Figure(name, tuple(terms), weights, fault)


def by_tag(one: Judged) -> str:
    """The key under which a sample's score is averaged first: its tag."""
    return one.tag


@dataclass(frozen=True)
class Unjudged:
    """Leaves every picture to the upstream script, whose results are read back."""

    name: str = "none"

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """A deferred score for each picture, which ``npc bench score`` fills in."""
        reason = "left to the upstream script; read its results back with 'npc bench score'"
        return [Score(None, reason, deferred=True) for _ in pictures]
