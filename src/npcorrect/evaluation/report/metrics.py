"""How good, at what cost, and how sure: pure functions of records.

Intervals of shares are Wilson's, means of other scores and differences are bootstrapped over
*prompts* (all seeds of a prompt go together), and methods are told apart by McNemar's exact test on
the same prompts and seeds. All are 95 % and repeatable. Unscored pictures are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap

from npcorrect.evaluation.run.records import Record
from npcorrect.records import Cost

RESAMPLES = 4000
_SEED = 0

Sample = tuple[int, int]
"""The prompt's id and the repeat."""
Values = Mapping[Sample, float | None]
"""A method's score of each sample; None where it is unscored."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, over ``n`` scored samples; ``unscored`` were left out."""

    mean: float
    low: float
    high: float
    n: int
    unscored: int = 0

    def apart(self, other: Estimate) -> bool:
        """Whether the two intervals do not overlap."""
        return self.low > other.high or other.low > self.high


@dataclass(frozen=True)
class MeanCost:
    """What a sample took on average; ``money`` is None where nothing has a price."""

    images: float
    evaluations: float
    vlm_calls: float
    tokens: float
    seconds: float
    money: float | None = None


@dataclass(frozen=True)
class Point:
    """A method at one limit, of images or of evaluations: its score there, and its mean cost."""

    limit: int
    score: Estimate | None
    cost: MeanCost


@dataclass(frozen=True)
class Comparison:
    """Two methods on the samples that both have scored.

    ``first_better`` and ``second_better`` count the samples on which one method is better than the
    other; where pictures are right or wrong, these are right with one method alone, and the exact
    sign test that gives ``p`` is McNemar's. ``difference`` is that of the means.
    """

    first_better: int
    second_better: int
    p: float
    difference: Estimate


def estimate(values: Values) -> Estimate | None:
    """The mean of scored values; None where there is none."""
    scored = {key: value for key, value in values.items() if value is not None}
    if not scored:
        return None
    unscored = len(values) - len(scored)
    n, mean = len(scored), sum(scored.values()) / len(scored)
    if all(value in (0, 1) for value in scored.values()):
        bounds = binomtest(round(sum(scored.values())), n).proportion_ci(method="wilson")
        return Estimate(mean, float(bounds.low), float(bounds.high), n, unscored)
    low, high = _bootstrap(scored)
    return Estimate(mean, low, high, n, unscored)


def as_wrong(values: Values) -> Values:
    """The same with 0 for what is unscored, as upstream scripts count it."""
    return {key: value or 0.0 for key, value in values.items()}


def compare(first: Values, second: Values) -> Comparison | None:
    """Tell two methods apart; None where no sample was scored for both."""
    pairs = {
        key: (x, y)
        for key, x in first.items()
        if x is not None and (y := second.get(key)) is not None
    }
    if not pairs:
        return None
    first_better = sum(x > y for x, y in pairs.values())
    second_better = sum(y > x for x, y in pairs.values())
    told_apart = first_better + second_better
    p = float(binomtest(first_better, told_apart).pvalue) if told_apart else 1.0
    differences = {key: x - y for key, (x, y) in pairs.items()}
    mean = sum(differences.values()) / len(differences)
    low, high = _bootstrap(differences)
    unscored = len(first.keys() | second.keys()) - len(pairs)
    return Comparison(
        first_better, second_better, p, Estimate(mean, low, high, len(pairs), unscored)
    )


def values_at(records: Iterable[Record], images: int) -> dict[Sample, float | None]:
    """Scores by sample, when each may have so many pictures."""
    return {_sample(r): r.score(r.after(images)).value for r in records}


def values_within(records: Iterable[Record], evaluations: int) -> dict[Sample, float | None]:
    """Scores by sample, when each may take so many denoiser evaluations.

    A sample whose first picture does not fit has 0: there is nothing to hand over.
    """
    places = ((r, r.within(evaluations)) for r in records)
    return {_sample(r): 0.0 if i is None else r.score(i).value for r, i in places}


def at_images(records: Sequence[Record], images: int) -> Point:
    """A method when each sample may have so many pictures."""
    cost = mean_cost((r, r.after(images)) for r in records)
    return Point(images, estimate(values_at(records, images)), cost)


def at_evaluations(records: Sequence[Record], evaluations: int) -> Point:
    """A method when each sample may take so many denoiser evaluations."""
    cost = mean_cost((r, r.within(evaluations)) for r in records)
    return Point(evaluations, estimate(values_within(records, evaluations)), cost)


def mean_cost(places: Iterable[tuple[Record, int | None]]) -> MeanCost:
    """The mean of what records took up to a step; None is nothing yet."""
    costs = [Cost() if place is None else record.steps[place].cost for record, place in places]
    total, n = sum(costs, Cost()), len(costs)
    return MeanCost(
        total.images / n,
        total.evaluations / n,
        total.usage.calls / n,
        total.usage.tokens / n,
        total.seconds / n,
        None if total.usage.money is None else total.usage.money / n,
    )


def _sample(record: Record) -> Sample:
    return record.key.sample, record.key.repeat


def _bootstrap(values: Mapping[Sample, float]) -> tuple[float, float]:
    """Percentile interval of the mean, over prompts drawn with all their seeds."""
    prompts: dict[int, list[float]] = {}
    for (prompt, _), value in values.items():
        prompts.setdefault(prompt, []).append(value)
    sums = np.array([sum(group) for group in prompts.values()])
    sizes = np.array([len(group) for group in prompts.values()])
    if len(prompts) == 1:
        return float(sums[0] / sizes[0]), float(sums[0] / sizes[0])
    drawn = bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
