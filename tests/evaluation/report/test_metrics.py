"""Figures against hand-computed cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.evaluation.benchmarks.base import Score, mean_of_groups
from npcorrect.evaluation.report import metrics
from npcorrect.evaluation.report.metrics import Estimate
from npcorrect.evaluation.run.records import Key, Record, Step
from npcorrect.records import Cost, Usage


def step(evaluations: int, chosen: int, value: float | None, accepted: bool = False) -> Step:
    cost = Cost(1, evaluations, 0.5, Usage(2, 20, 10, 0.0, 0, 0.25))
    return Step("f", 0, (), "", accepted, (), "", chosen, cost, Score(value))


def record(*steps: Step, sample: int = 1, repeat: int = 0) -> Record:
    total, summed = Cost(), []
    for one in steps:
        total = total + one.cost
        summed.append(replace(one, cost=total))
    return Record(Key(sample, repeat, "m"), "tag", "p", 0, 100, tuple(summed))


THREE = record(step(48, 0, 0.0), step(60, 0, 1.0), step(60, 2, 1.0, True))
"""Wrong; a second picture that is not chosen; a third that is, and is right."""


def test_a_sample_stands_where_its_last_picture_left_it() -> None:
    assert [THREE.score(THREE.after(n)).value for n in (1, 2, 3, 9)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("budget", "place"), [(47, None), (48, 0), (107, 0), (108, 1), (167, 1), (168, 2), (999, 2)]
)
def test_no_picture_is_counted_that_exceeds_the_evaluations(budget: int, place: int | None) -> None:
    assert THREE.within(budget) == place
    value = metrics.values_within([THREE], budget)[(1, 0)]
    assert value == (0.0 if place is None else THREE.score(place).value)


def test_costs_are_means_of_what_was_taken_up_to_the_limit() -> None:
    one = record(step(48, 0, 1.0, True), sample=2)
    point = metrics.at_images([THREE, one], 2)
    assert (point.cost.images, point.cost.evaluations) == (1.5, (108 + 48) / 2)
    assert point.cost.vlm_calls == 3
    assert point.cost.money == pytest.approx(0.375)
    assert metrics.at_evaluations([THREE, one], 10).cost.images == 0


def test_wilson() -> None:
    """Newcombe 1998, table I: 81 of 263."""
    values = {(i, 0): float(i < 81) for i in range(263)}
    found = metrics.estimate(values)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert found.n == 263


def test_unscored_samples_are_left_out_or_counted_as_wrong() -> None:
    values = {(1, 0): 1.0, (2, 0): None, (3, 0): 0.0, (4, 0): 1.0}
    found, wrong = metrics.estimate(values), metrics.estimate(metrics.as_wrong(values))
    assert found is not None
    assert wrong is not None
    assert found.mean == pytest.approx(2 / 3)
    assert (found.n, found.unscored) == (3, 1)
    assert (wrong.mean, wrong.n, wrong.unscored) == (0.5, 4, 0)
    assert metrics.estimate({(1, 0): None}) is None


def test_means_of_other_scores_are_bootstrapped_over_prompts() -> None:
    """Seeds that agree within a prompt add no certainty."""
    once = {(i, 0): float(i) for i in range(10)}
    thrice = {(i, r): float(i) for i in range(10) for r in range(3)}
    a, b = metrics.estimate(once), metrics.estimate(thrice)
    assert a is not None
    assert b is not None
    assert a.mean == b.mean == 4.5
    assert (a.low, a.high) == pytest.approx((b.low, b.high))
    assert 2.5 < a.low < 3.2
    assert 5.8 < a.high < 6.5


def test_mcnemar() -> None:
    """Discordant pairs 10 and 2: twice the tail of a fair coin, 158 / 4096."""
    first = {(i, 0): float(i < 20) for i in range(30)}
    second = {(i, 0): float(10 <= i < 22) for i in range(30)}
    found = metrics.compare(first, second)
    assert found is not None
    assert (found.first_better, found.second_better) == (10, 2)
    assert found.p == pytest.approx(158 / 4096)
    assert found.difference.mean == pytest.approx(8 / 30)
    assert found.difference.low > 0


def test_a_comparison_uses_samples_that_both_have_scored() -> None:
    first = {(1, 0): 1.0, (2, 0): None, (3, 0): 1.0}
    second = {(1, 0): 0.0, (2, 0): 1.0, (4, 0): 1.0}
    found = metrics.compare(first, second)
    assert found is not None
    assert (found.first_better, found.second_better, found.difference.n) == (1, 0, 1)
    assert found.difference.unscored == 3
    assert metrics.compare({(1, 0): None}, {(1, 0): 1.0}) is None


def test_methods_that_agree_are_not_told_apart() -> None:
    values = {(i, 0): float(i % 2) for i in range(8)}
    found = metrics.compare(values, values)
    assert found is not None
    assert found.p == 1
    assert found.difference == Estimate(0, 0, 0, 8)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((0.1, 0.2), (0.3, 0.4), True),
        ((0.3, 0.4), (0.1, 0.2), True),
        ((0.1, 0.3), (0.3, 0.4), False),
    ],
)
def test_intervals_are_apart(
    one: tuple[float, float], other: tuple[float, float], apart: bool
) -> None:
    assert Estimate(0, *one, 9).apart(Estimate(0, *other, 9)) is apart


def test_the_mean_of_groups() -> None:
    groups = {1: "a", 2: "a", 3: "b", 4: "c"}
    scores = {
        1: [Score(1.0), Score(None)],
        2: [Score(0.0)],
        3: [Score(1.0)],
        4: [Score(None)],
    }
    assert mean_of_groups(scores, groups) == 0.75
    assert mean_of_groups(scores, groups, {"a": 3, "b": 1, "c": 9}) == (3 * 0.5 + 1) / 4
    assert mean_of_groups({4: [Score(None)]}, groups) is None


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 9), st.integers(0, 2)),
        st.one_of(st.none(), st.floats(0, 10)),
        min_size=1,
    )
)
def test_an_estimate_lies_in_its_interval(values: dict[tuple[int, int], float | None]) -> None:
    found = metrics.estimate(values)
    scored = [value for value in values.values() if value is not None]
    if found is None:
        assert not scored
        return
    assert found.n == len(scored)
    assert found.n + found.unscored == len(values)
    assert min(scored) - 1e-9 <= found.low <= found.high <= max(scored) + 1e-9 or set(scored) <= {
        0,
        1,
    }
    assert found.low - 1e-9 <= found.high
