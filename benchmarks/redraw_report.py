"""Tables of the redrawings that :mod:`benchmarks.redraws` makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.redraw_faults import FAULTS
from npcorrect.evaluation.report.difficulty import LEVELS
from npcorrect.evaluation.report.difficulty import level as level
from npcorrect.evaluation.report.metrics import estimate

IMAGES = 8
"""Most pictures that a policy draws of one prompt and seed, the original included."""
BUDGETS = (12, 24, 36, 48, 72, 96, 120, 144)
"""Evaluations, for the policies' curves."""
KEPT = ("things", "cells", "grounds")


@dataclass(frozen=True)
class Row:
    """One redrawing: the ``number``-th picture of a case under a way, the plain one being 0."""

    way: str
    prompt: str
    seed: int
    number: int
    negative: str
    evaluations: int
    accepted: bool
    right: bool
    level: str
    faults: tuple[str, ...]
    kept: dict[str, float | None]


def share(values: Sequence[float]) -> str:
    """The mean as a cell; empty of nothing."""
    return f"{sum(values) / len(values):.1%}" if values else ""


def right(rows: Sequence[Row]) -> str:
    """The share of right pictures with Wilson's 95 % interval, as a cell."""
    found = estimate({(n, 0): float(r.right) for n, r in enumerate(rows)})
    return "" if found is None else f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"


def kept_cells(rows: Sequence[Row]) -> list[str]:
    """What was kept, as cells, by :data:`KEPT`."""
    columns = ([value for r in rows if (value := r.kept[name]) is not None] for name in KEPT)
    return [share(column) for column in columns]


def by_way(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each remedy or policy."""
    return {way: [r for r in rows if r.way == way] for way in dict.fromkeys(r.way for r in rows)}


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = (head, ["---"] * len(head), *body)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def remedies_table(rows: Sequence[Row]) -> str:
    """What every remedy came to."""
    kinds = tuple(dict.fromkeys(FAULTS.values()))
    head = ("remedy", "n", "right", *kinds, *LEVELS, *KEPT, *(f"{name}, right" for name in KEPT))
    body = [
        [
            way,
            str(len(own)),
            right(own),
            *(share([r.right for r in own if kind in r.faults]) for kind in kinds),
            *(share([r.right for r in own if r.level == name]) for name in LEVELS),
            *kept_cells(own),
            *kept_cells([r for r in own if r.right]),
        ]
        for way, own in by_way(rows).items()
    ]
    return markdown(head, body)


def curve(rows: Sequence[Row], cost: Callable[[Row], int], budgets: Sequence[int]) -> list[float]:
    """The shares of a policy's cases that end right within each budget.

    A case ends with its first accepted picture, and is wrong where that costs more in all.
    """
    spent: dict[tuple[str, int], int] = {}
    ended: list[int] = []
    for r in rows:
        key = r.prompt, r.seed
        spent[key] = spent.get(key, 0) + cost(r)
        if r.accepted and r.right:
            ended.append(spent[key])
    return [sum(total <= budget for total in ended) / len(spent) for budget in budgets]


def policies_tables(rows: Sequence[Row]) -> str:
    """Curves by images and by evaluations, then mean costs and what corrected pictures kept."""
    ways = by_way(rows)
    images = range(1, IMAGES + 1)
    by_images = {w: curve(own, lambda _: 1, images) for w, own in ways.items()}
    by_cost = {w: curve(own, lambda r: r.evaluations, BUDGETS) for w, own in ways.items()}
    cases = len({(r.prompt, r.seed) for r in rows})
    costs = []
    for way, own in ways.items():
        corrected = [r for r in own if r.number and r.accepted and r.right]
        spent = (len(own) / cases, sum(r.evaluations for r in own) / cases)
        costs.append([way, *(f"{value:.2f}" for value in spent), *kept_cells(corrected)])
    head = ("policy", "images", "evaluations", *(f"{name}, corrected" for name in KEPT))
    return "\n\n".join(
        (
            markdown((f"right of {cases} within images", *map(str, images)), _shares(by_images)),
            markdown(("within evaluations", *map(str, BUDGETS)), _shares(by_cost)),
            markdown(head, costs),
        )
    )


def _shares(curves: dict[str, list[float]]) -> list[list[str]]:
    return [[way, *(f"{value:.1%}" for value in values)] for way, values in curves.items()]
