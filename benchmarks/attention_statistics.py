"""Failed pictures, their redraws, and paired tests on them.

Everything here is a value for each failed picture, NaN where it has none, and a comparison is of
two such values on the same pictures: McNemar's exact test where they are right or wrong, else the
paired bootstrap of the means, with Holm's correction over the comparisons of one column of a table;
:mod:`npcorrect.evaluation.report.metrics` has them. No two pictures are of one prompt. Intervals
are 95 %. "Within a picture" compares the negatives of one picture alone, which is what a ranking
has to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from npcorrect.evaluation.report import metrics
from npcorrect.evaluation.report.metrics import Comparison, Estimate, Values
from npcorrect.mini.checklist import requirements
from npcorrect.mini.grammar import parse
from npcorrect.records import Checklist

PROPOSED = ("as drawn", "targeted", "untargeted", "combined")
CONTROLS = ("another fault", "random phrase", "random caption")
COMPARISONS = (
    *((kind, "empty") for kind in (*PROPOSED, *CONTROLS)),
    ("as drawn", "another fault"),
    ("targeted", "random phrase"),
    ("untargeted", "random phrase"),
    ("combined", "random caption"),
    ("as drawn", "targeted"),
    ("as drawn", "combined"),
)
"""Kinds of negatives that are compared, each of the proposed ones with the control of its form."""
Record = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """One failed picture and its redraws, in the order in which negatives were proposed."""

    original: Record
    redraws: tuple[Record, ...]

    def of(self, kind: str) -> list[Record]:
        """The redraws with negatives of a kind: ``empty``, one of PROPOSED or of CONTROLS."""
        return [r for r in self.redraws if r["source"] == kind]

    @property
    def proposed(self) -> list[Record]:
        """The redraws with negatives that were proposed for it."""
        return [r for r in self.redraws if r["source"] in PROPOSED]

    @cached_property
    def checklist(self) -> Checklist:
        """What its prompt requires."""
        prompt = self.original["prompt"]
        return Checklist(prompt, requirements(parse(prompt)))

    @property
    def faults(self) -> Checklist:
        """What of that the verifier found missing in it."""
        all_claims, failed = self.checklist.requirements, self.original["failed"]
        return Checklist(
            self.checklist.prompt, tuple(claim for claim in all_claims if claim.id in failed)
        )

    @cached_property
    def right(self) -> Floats:
        """1 where a proposed negative corrected it."""
        return np.array([float(r["correct"]) for r in self.proposed])


def pictures(path: Path, rule: str) -> list[Picture]:
    """The failed pictures all of whose redraws by a rule are recorded."""
    groups: dict[str, list[Record]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["rule"] == rule:
            groups.setdefault(record["prompt"], []).append(record)
    found = []
    for records in groups.values():
        if {r["source"] for r in records} >= {"none", "empty", *CONTROLS}:
            (original,) = (r for r in records if r["source"] == "none")
            found.append(Picture(original, tuple(r for r in records if r is not original)))
    return found


def each(value: Callable[[Picture], float], among: Sequence[Picture]) -> Floats:
    """The value of every picture."""
    return np.array([value(picture) for picture in among])


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def estimated(values: Floats, form: str = ".2f") -> str:
    """The mean with its interval, as a cell; empty where no picture has a value."""
    found = metrics.estimate(_values(values))
    return "" if found is None else _interval(found, form)


def tested(pairs: Sequence[tuple[Floats, Floats]]) -> list[Comparison | None]:
    """Each pair compared, with Holm's correction over all of them; None where none has both."""
    made = [metrics.compare(_values(first), _values(second)) for first, second in pairs]
    corrected = iter(metrics.holm([one.p for one in made if one is not None]))
    return [None if one is None else replace(one, holm=next(corrected)) for one in made]


def difference_cells(comparison: Comparison | None, form: str) -> str:
    """The difference of the means with its interval, p, and p after Holm's correction."""
    if comparison is None:
        return "| |"
    difference = _interval(comparison.difference, f"+{form}")
    return f"{difference} | {_p(comparison.p)} | {_p(comparison.holm)}"


def binary_cells(comparison: Comparison | None) -> str:
    """Both shares, the discordant pairs, and the cells of the difference."""
    if comparison is None:
        return "| | | |"
    first, second = comparison.first.mean, comparison.second.mean
    discordant = f"{comparison.first_better}, {comparison.second_better}"
    cells = difference_cells(comparison, ".1%")
    return f"{first:.1%}, {second:.1%} | {discordant} | {cells}"


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


def _values(values: Floats) -> Values:
    return {(place, 0): None if np.isnan(v) else float(v) for place, v in enumerate(values)}


def _interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
