"""Failed pictures, their redraws, and how well a score tells right redraws from wrong ones.

Every interval is a 95 % percentile bootstrap over failed pictures (all negatives of a picture come
together). "Within a picture" compares the negatives of one picture alone, which is what a ranking
has to do; "over all" compares across pictures, and so also tells easy pictures from hard ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from npcorrect.mini.grammar import parse
from npcorrect.records import Checklist

PROPOSED = ("targeted", "untargeted", "combined")
CONTROLS = ("random phrase", "random caption")
RESAMPLES = 2000
Record = Mapping[str, Any]
Floats = NDArray[np.float64]
Statistic = Callable[[Sequence["Picture"]], float]


@dataclass(frozen=True)
class Picture:
    """One failed picture and its redraws."""

    original: Record
    empty: Record
    redraws: tuple[Record, ...]

    @property
    def proposed(self) -> tuple[Record, ...]:
        """The redraws with negatives that were proposed for it."""
        return tuple(r for r in self.redraws if r["source"] in PROPOSED)

    @cached_property
    def checklist(self) -> Checklist:
        """What its prompt requires."""
        prompt = self.original["prompt"]
        return Checklist(prompt, parse(prompt).requirements())

    @cached_property
    def right(self) -> Floats:
        """1 where a proposed negative corrected it."""
        return np.array([float(r["correct"]) for r in self.proposed])


def pictures(path: Path, which: str, rule: str) -> list[Picture]:
    """The failed pictures all of whose redraws are recorded."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if (record["set"], record["rule"]) == (which, rule):
            groups.setdefault((record["prompt"], record["seed"]), []).append(record)
    found = []
    for records in groups.values():
        by = {record["source"]: record for record in records}
        if by.keys() >= {"none", "empty", *CONTROLS}:
            others = tuple(r for r in records if r["source"] not in ("none", "empty"))
            found.append(Picture(by["none"], by["empty"], others))
    return found


def with_interval(statistic: Statistic, among: Sequence[Picture], form: str = ".2f") -> str:
    """A statistic and its interval; nothing where no picture has a value."""
    if np.isnan(value := statistic(among)):
        return ""
    rng = np.random.default_rng(0)
    draws = [
        statistic([among[i] for i in rng.integers(len(among), size=len(among))])
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def mean_of(values: Callable[[Picture], float]) -> Statistic:
    """The mean over the pictures that have a value, each worked out once."""
    known: dict[int, float] = {}

    def statistic(among: Sequence[Picture]) -> float:
        for picture in among:
            if id(picture) not in known:
                known[id(picture)] = values(picture)
        found = [known[id(picture)] for picture in among if not np.isnan(known[id(picture)])]
        return float(np.mean(found)) if found else float("nan")

    return statistic


def auc(right: Floats, scores: Floats) -> float:
    """Probability that a right one scores above a wrong one, ties half; NaN without both."""
    good = int(right.sum())
    bad = len(right) - good
    if not good or not bad:
        return float("nan")
    return float((rankdata(scores)[right > 0].sum() - good * (good + 1) / 2) / (good * bad))


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; NaN where one side does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


Scores = Callable[[Picture], Floats]
"""A score for each proposed redraw of a picture."""


def prediction(scores: Scores, among: Sequence[Picture]) -> list[str]:
    """AUC within a picture and over all, and success of the best scored negative, as cells."""
    memory: dict[int, Floats] = {}

    def known(picture: Picture) -> Floats:
        if id(picture) not in memory:
            memory[id(picture)] = scores(picture)
        return memory[id(picture)]

    def over_all(chosen: Sequence[Picture]) -> float:
        right = np.concatenate([picture.right for picture in chosen])
        return auc(right, np.concatenate([known(picture) for picture in chosen]))

    def first(picture: Picture) -> float:
        best = known(picture)
        return float(picture.right[best == best.max()].mean())

    return [
        with_interval(mean_of(lambda p: auc(p.right, known(p))), among),
        with_interval(over_all, among),
        with_interval(mean_of(first), among, ".1%"),
    ]
