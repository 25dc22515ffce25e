"""Intervals are read, written, and laid on schedules; what contains no step is refused."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.errors import SettingsError
from npcorrect.interval import Interval

SHARES = st.floats(0, 1, allow_subnormal=False)


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        ("0..0.06", Interval(0, 0.06)),
        ("0.2..0.7", Interval(0.2, 0.7)),
        ("0.25..1", Interval(0.25, 1)),
        ("0.0..1", Interval(0, 1)),
        ("0..1.", Interval(0, 1)),
        ("0.06", Interval(0, 0.06)),
        (".5", Interval(0, 0.5)),
        (0.06, Interval(0, 0.06)),
        (1.0, Interval(0, 1)),
        ("0..1", Interval(0, 1, "steps")),
        ("0..3", Interval(0, 3, "steps")),
        ("3", Interval(0, 3, "steps")),
        (3, Interval(0, 3, "steps")),
        ("2..10", Interval(2, 10, "steps")),
        ("sigma:0.95..0.4", Interval(0.95, 0.4, "sigmas")),
        ("sigma:14..2", Interval(14, 2, "sigmas")),
        ("sigma:0.4", Interval(inf, 0.4, "sigmas")),
    ],
)
def test_what_is_written_is_read(value: Any, interval: Interval) -> None:
    assert Interval.read(value) == interval
    assert Interval.read(str(interval)) == interval


@pytest.mark.parametrize(
    "value",
    [
        "", "..", "3..", "..3", "0..0", "3..3", "0.7..0.2", "0..1..2", "most", "-1", -1, "0..-1", 0,
        1.5, "0..1.5", "2..0.7", nan, inf, "nan", "inf", "0..inf", True, "1_0", "1 ", "٣", "9" * 10,
        "sigma:", "sigma:0.4..0.95", "sigma:0.4..0.4", "sigma:1..-1", "sigma:0.9..inf", "sigma:nan",
        "sigma:inf", "Sigma:1..0.5", "50%",
    ],
)  # fmt: skip
def test_what_is_no_interval_is_one_sentence(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^The setting 'negative' is .*; give steps") as raised:
        Interval.read(value)
    assert repr(value)[:40] in str(raised.value)


@pytest.mark.parametrize("ends", [(0.7, 0.2), (0.5, 0.5), (-0.1, 1), (0, 1.1), (nan, 1), (0, nan)])
def test_a_record_is_checked_as_a_text_is(ends: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match="'negative'"):
        Interval(*ends)
    with pytest.raises(SettingsError, match="'negative'"):
        Interval(0.5, 1.5, "steps")


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
def test_steps_and_shares_of_them_are_the_same(first: int, length: int, rest: int) -> None:
    stop, count = first + length, first + length + rest
    assert Interval(first, stop, "steps").steps(count) == (first, stop)
    assert Interval(first / count, stop / count).steps(count) == (first, stop)


@given(SHARES, SHARES, st.integers(1, 100))
def test_a_share_has_its_steps_or_is_refused(one: float, other: float, count: int) -> None:
    if one == other:
        return
    interval = Interval(min(one, other), max(one, other))
    assert Interval.read(str(interval)) == interval
    try:
        start, stop = interval.steps(count)
    except SettingsError as error:
        assert f"1 of the {count} steps" in str(error)  # noqa: PT017 (both outcomes are right)
        assert interval.stop - interval.start < 1 / count + 1e-9
        return
    assert 0 <= start < stop <= count
    assert abs(stop - start - (interval.stop - interval.start) * count) <= 1 + 1e-9


@given(
    st.lists(st.floats(1e-3, 80), min_size=1, max_size=60, unique=True),
    st.floats(0, 81),
    st.floats(0, 81),
)
def test_noise_levels_are_within_from_the_higher_to_before_the_lower(
    levels: list[float], one: float, other: float
) -> None:
    if one == other:
        return
    sigmas = sorted(levels, reverse=True)
    interval = Interval(max(one, other), min(one, other), "sigmas")
    within = [interval.stop < sigma <= interval.start for sigma in sigmas]
    if not any(within):
        with pytest.raises(SettingsError, match="at least 1 of the"):
            interval.steps(len(sigmas), sigmas)
        return
    start, stop = interval.steps(len(sigmas), sigmas)
    assert within == [start <= step < stop for step in range(len(sigmas))]


@given(st.integers(1, 60), st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_intervals_that_follow_each_other_share_no_step(count: int, lengths: list[int]) -> None:
    total = sum(lengths)
    ends = [sum(lengths[:k]) / total for k in range(len(lengths) + 1)]
    covered: list[int] = []
    for start, stop in pairwise(ends):
        try:
            covered += range(*Interval(start, stop).steps(count))
        except SettingsError:
            continue
    assert covered == list(range(count))


def test_levels_that_are_not_known_yet_are_taken_to_be_within() -> None:
    assert Interval(0.9, 0.4, "sigmas").steps(12) == (0, 12)
