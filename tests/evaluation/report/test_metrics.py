"""Figures against hand-computed cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from npcorrect.evaluation.benchmarks.base import Judged, Score, by_tag, figure
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
    assert point.cost.calls == 3
    assert point.cost.money == pytest.approx(0.375)
    assert metrics.at_evaluations([THREE, one], 10).cost.images == 0


def corrected(
    values: Sequence[float | None], kept: float | None, sample: int, repeat: int = 0
) -> Record:
    """A first and a second picture, both handed over in turn."""
    first, second = (step(48, place, value) for place, value in enumerate(values))
    return record(first, replace(second, kept=kept), sample=sample, repeat=repeat)


def test_what_is_kept_counts_where_the_first_picture_was_wrong_and_the_last_is_right() -> None:
    records = [
        corrected((0.0, 1.0), 0.5, sample=1),
        corrected((0.0, 1.0), None, sample=1, repeat=1),
        corrected((1.0, 1.0), 0.6, sample=2),
        corrected((0.0, 0.0), 0.7, sample=3),
        corrected((None, 1.0), 0.8, sample=4),
        corrected((0.0, None), 0.9, sample=5),
        corrected((1.0, 0.0), 0.4, sample=6),
    ]
    assert metrics.kept_by_corrections(records, 2, 1.0) == {(1, 0): 0.5, (1, 1): None}
    assert metrics.kept_by_corrections(records, 1, 1.0) == {}
    graded = [corrected((8.0, end), 0.5, sample=n) for n, end in enumerate((9.5, 10.0))]
    assert metrics.kept_by_corrections(graded, 2, 10.0) == {(1, 0): 0.5}


def test_a_correction_keeps_the_picture_from_nine_tenths_on() -> None:
    shares = {(1, 0): 0.9, (2, 0): 0.89, (3, 0): 1.0, (4, 0): None}
    assert metrics.whether_kept(shares) == {(1, 0): 1, (2, 0): 0, (3, 0): 1, (4, 0): None}


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
    """Discordant pairs 10 and 2: twice the tail of a fair binomial, 158 / 4096."""
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
    assert (found.first.mean, found.first.n, found.second.mean) == (1.0, 1, 0.0)
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


def judged(values: Mapping[str, Sequence[float | None]]) -> list[Judged]:
    """A prompt for each value, in groups."""
    pairs = [(tag, value) for tag, some in values.items() for value in some]
    return [Judged(n, tag, (Score(value),)) for n, (tag, value) in enumerate(pairs, 1)]


def test_a_figure_is_the_mean_of_groups() -> None:
    some = judged({"a": [1.0, None, 0.0], "b": [1.0], "c": [None]})
    assert figure("f", some, group=by_tag).value == 0.75
    weighted = figure("f", some, group=by_tag, weights={"a": 3, "b": 1, "c": 9})
    assert weighted.value == (3 * 0.5 + 1) / 4
    assert (weighted.n, figure("f", some).n) == (3, 3)
    assert figure("f", judged({"c": [None]})).value is None


def test_the_interval_of_one_share_is_wilsons() -> None:
    some = judged({"a": [1.0] * 81 + [0.0] * 182})
    one = metrics.official(figure("f", some), binary=True)
    assert one.value == pytest.approx(81 / 263)
    assert (round(one.low or 0, 4), round(one.high or 0, 4)) == (0.2553, 0.3662)


def test_the_interval_of_a_mean_of_shares_is_put_together_from_theirs() -> None:
    """MOVER by hand, with Wilson's interval of 3 of 10, [0.1078, 0.6032], and of 10 of 10."""
    some = judged({"a": [1.0] * 3 + [0.0] * 7, "b": [1.0] * 10})
    one = metrics.official(figure("f", some, group=by_tag), binary=True)
    wilson = [binomtest(k, 10).proportion_ci(method="wilson") for k in (3, 10)]
    low = 0.65 - 0.5 * hypot(0.3 - wilson[0].low, 1 - wilson[1].low)
    high = 0.65 + 0.5 * hypot(wilson[0].high - 0.3, wilson[1].high - 1)
    assert (one.value, one.low, one.high) == pytest.approx((0.65, low, high))
    nothing = metrics.official(figure("f", judged({"a": [None]})), binary=True)
    assert (nothing.value, nothing.low, nothing.n) == (None, None, 0)


def test_the_interval_of_grades_is_bootstrapped_within_groups() -> None:
    """Groups that agree within themselves leave nothing open, however far they are apart."""
    apart = judged({"a": [2.0] * 9, "b": [9.0] * 9, "c": [4.0]})
    one = metrics.official(figure("f", apart, group=by_tag), binary=False)
    assert one.low == one.value == one.high == 5.0
    mixed = judged({"a": [1.0, 3.0] * 8, "b": [8.0, 9.5] * 8})
    one = metrics.official(figure("f", mixed, group=by_tag), binary=False)
    assert one.low is not None
    assert one.high is not None
    assert 4.9 < one.low < 5.375 < one.high < 5.8


def test_holm() -> None:
    """The example of Holm's step-down: 4 x 0.01, 3 x 0.02, then no less than before."""
    assert metrics.holm([0.02, 0.01, 0.9, 0.03]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert metrics.holm([0.6, 0.9]) == [1.0, 1.0]
    assert metrics.holm([]) == []


def test_kappa() -> None:
    """Cohen 1960's setting: 20 both yes, 15 both no, 5 and 10 apart: (0.7 - 0.5) / 0.5."""
    pairs = [(1.0, 1.0)] * 20 + [(0.0, 0.0)] * 15 + [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 10
    assert metrics.kappa(pairs) == pytest.approx(0.4)
    assert metrics.kappa([(1.0, 1.0)] * 3) is None
    assert metrics.kappa([]) is None
    assert metrics.kappa([(1.0, 1.0), (5.0, 5.0)]) == 1
    near, far = [(1.0, 2.0), (9.0, 9.0)], [(1.0, 9.0), (9.0, 9.0)]
    assert (metrics.kappa(near) or 0) > (metrics.kappa(far) or 0), "a small difference weighs less"


def test_grades_are_told_apart_by_their_means_and_not_by_how_often_one_is_better() -> None:
    """One method is a little better on 90 prompts and much worse on 10."""
    first = {(i, 0): 5.0 if i >= 10 else 0.0 for i in range(100)}
    second = {(i, 0): 4.9 if i >= 10 else 9.0 for i in range(100)}
    one = metrics.compare(first, second)
    assert one is not None
    assert one.test == metrics.BOOTSTRAP
    assert (one.first_better, one.second_better) == (90, 10)
    assert one.difference.mean == pytest.approx(-0.81)
    assert one.difference.high < 0
    assert one.p < 0.05
    same = metrics.compare(first, first)
    assert same is not None
    assert same.p == 1


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
