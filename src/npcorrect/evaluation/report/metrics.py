"""How good, at what cost, and how sure: pure functions of records.

Intervals of shares are Wilson's; those of means of several shares are put together from these by
MOVER (Zou and Donner, Statistics in Medicine 27, 2008). Means of other scores and differences are
bootstrapped over *prompts* (all seeds of a prompt go together). Methods are told apart on the
samples that both have scored: by McNemar's exact test where pictures are right or wrong, else by
the paired bootstrap of the difference of the means. All intervals are 95 %, and repeatable.
Unscored pictures are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, bootstrap

from npcorrect.evaluation.benchmarks.base import Figure, mean_of
from npcorrect.evaluation.run.records import Record
from npcorrect.records import Cost

MCNEMAR, BOOTSTRAP = "McNemar's exact test", "paired bootstrap of the means"
RESAMPLES = 4000
KEEPS = 0.9
"""The share of the first picture that a correction keeps at least, to count as one that kept it."""
_SEED = 0

Array = npt.NDArray[np.float64]
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
    """What a sample took on average.

    ``calls`` were sent to a model, ``readings`` answered without one. ``money`` is None where
    nothing has a price.
    """

    images: float
    evaluations: float
    calls: float
    readings: float
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

    ``first`` and ``second`` are their scores on these. ``first_better`` and ``second_better`` count
    the samples on which one method is better than the other. ``difference`` is that of the means,
    ``test`` the test that gives ``p``, and ``holm`` is ``p`` after Holm's correction for all
    methods that were compared at the same limit.
    """

    first: Estimate
    second: Estimate
    first_better: int
    second_better: int
    difference: Estimate
    test: str
    p: float
    holm: float


@dataclass(frozen=True)
class Official:
    """A benchmark's own figure with its 95 % interval, over ``n`` values."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    fault: str = ""


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
    drawn = _bootstrap(scored)
    return Estimate(mean, drawn.low, drawn.high, n, unscored)


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
    differences = {key: x - y for key, (x, y) in pairs.items()}
    drawn = _bootstrap(differences)
    better = sum(x > y for x, y in pairs.values()), sum(y > x for x, y in pairs.values())
    binary = all(value in (0, 1) for pair in pairs.values() for value in pair)
    p = _mcnemar(*better) if binary else _two_sided(drawn.distribution)
    unscored = len(first.keys() | second.keys()) - len(pairs)
    scores = (estimate({key: pair[place] for key, pair in pairs.items()}) for place in (0, 1))
    ours, theirs = (score for score in scores if score is not None)
    mean = sum(differences.values()) / len(differences)
    difference = Estimate(mean, drawn.low, drawn.high, len(pairs), unscored)
    test = MCNEMAR if binary else BOOTSTRAP
    return Comparison(ours, theirs, *better, difference, test, p, p)


def _mcnemar(first: int, second: int) -> float:
    """The p-value of McNemar's exact test, from the numbers of discordant pairs."""
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def _two_sided(distribution: Array) -> float:
    """The p-value of a bootstrapped difference: twice the rarer side of 0, at least one draw."""
    if not distribution.any():
        return 1.0
    sides = float((distribution <= 0).mean()), float((distribution >= 0).mean())
    return min(1.0, 2 * max(min(sides), 1 / len(distribution)))


def holm(ps: Sequence[float]) -> list[float]:
    """P-values, in their order, after Holm's step-down correction (Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, least = list(ps), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = least
    return corrected


def kappa(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Cohen's kappa of two judges, with quadratic weights; for right or wrong it is the plain one.

    ``1 - E(x - y)^2 / E(x - y')^2``, where y' is independent of x. None where it is not defined:
    both give one and the same score throughout.
    """
    if not pairs:
        return None
    x, y = np.array(pairs, dtype=float).T
    chance = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(1 - ((x - y) ** 2).mean() / chance) if chance > 0 else None


def official(figure: Figure, binary: bool) -> Official:
    """A benchmark's figure with its interval; ``binary`` where its values are right or wrong.

    Prompts are drawn within their groups, as the benchmark's design has them.
    """
    if figure.value is None:
        return Official(figure.name, None, None, None, 0, figure.fault)
    low, high = _mover(figure) if binary else _stratified(figure)
    return Official(figure.name, figure.value, low, high, figure.n, figure.fault)


def _mover(figure: Figure) -> tuple[float, float]:
    below = above = 0.0
    for weight, terms in figure.groups.values():
        n, right = round(sum(t.count for t in terms)), round(sum(t.total for t in terms))
        bounds = binomtest(right, n).proportion_ci(method="wilson")
        below += (weight * (right / n - float(bounds.low))) ** 2
        above += (weight * (float(bounds.high) - right / n)) ** 2
    value = figure.value or 0.0
    return value - below**0.5, value + above**0.5


def _stratified(figure: Figure) -> tuple[float, float]:
    """Percentile interval of a figure, over prompts drawn with all their seeds in each group."""
    fixed, groups = 0.0, []
    for weight, terms in figure.groups.values():
        if len(terms) == 1:
            fixed += weight * mean_of(terms)
        else:
            table = np.array([[term.total, term.count] for term in terms])
            groups.append((weight, *table.T))
    if not groups:
        return fixed, fixed

    def statistic(*places: Array, axis: int) -> Array:
        means = (
            weight * totals[drawn].sum(axis=axis) / counts[drawn].sum(axis=axis)
            for (weight, totals, counts), drawn in zip(groups, places, strict=True)
        )
        return np.asarray(fixed + sum(means))

    places = tuple(np.arange(len(totals)) for _, totals, _ in groups)
    drawn = _resampled(places, statistic, paired=False)
    return drawn.low, drawn.high


def values_at(records: Iterable[Record], images: int) -> dict[Sample, float | None]:
    """Scores by sample, when each may have so many pictures."""
    return {_sample(r): r.score(r.after(images)).value for r in records}


def kept_by_corrections(records: Iterable[Record], images: int, full: float) -> Values:
    """How much of the first picture is kept, by sample that was wrong at first and then right.

    Right is a score of at least ``full``. None where the record does not say how much is kept.
    """
    placed = ((r, r.after(images)) for r in records)
    return {_sample(r): r.kept(i) for r, i in placed if _corrected(r, i, full)}


def _corrected(record: Record, place: int, full: float) -> bool:
    first, last = record.score(0).value, record.score(place).value
    return first is not None and last is not None and first < full <= last


def whether_kept(shares: Values) -> Values:
    """1 where at least ``KEEPS`` of the first picture is kept, else 0."""
    return {key: None if share is None else float(share >= KEEPS) for key, share in shares.items()}


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
        total.usage.readings / n,
        total.usage.tokens / n,
        total.seconds / n,
        None if total.usage.money is None else total.usage.money / n,
    )


def _sample(record: Record) -> Sample:
    return record.key.sample, record.key.repeat


@dataclass(frozen=True)
class _Drawn:
    """A bootstrapped statistic: its percentile interval and all draws."""

    low: float
    high: float
    distribution: Array


def _bootstrap(values: Mapping[Sample, float]) -> _Drawn:
    """The mean, over prompts drawn with all their seeds."""
    prompts: dict[int, list[float]] = {}
    for (prompt, _), value in values.items():
        prompts.setdefault(prompt, []).append(value)
    sums = np.array([sum(group) for group in prompts.values()])
    sizes = np.array([len(group) for group in prompts.values()])
    if len(prompts) == 1:
        mean = float(sums[0] / sizes[0])
        return _Drawn(mean, mean, np.zeros(1))
    return _resampled(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
    )


def _resampled(data: Any, statistic: Any, paired: bool) -> _Drawn:
    drawn = bootstrap(
        data,
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    interval = drawn.confidence_interval
    return _Drawn(float(interval.low), float(interval.high), drawn.bootstrap_distribution)
