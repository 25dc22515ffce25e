"""A reference method against every other one, on the samples that both have scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from npcorrect.errors import SettingsError
from npcorrect.evaluation.report import metrics
from npcorrect.evaluation.report.columns import Column
from npcorrect.evaluation.report.metrics import Comparison, Values
from npcorrect.evaluation.run.records import Record

PREFERRED = "npc"
"""The method that others are compared with, where none is named and it was run."""
Curve = tuple[tuple[int, Comparison], ...]
"""Comparisons by their limits."""


@dataclass(frozen=True)
class Versus:
    """One method against another: at each number of images, and at each of evaluations."""

    first: str
    second: str
    images: Curve
    evaluations: Curve


@dataclass(frozen=True)
class Line:
    """One line of a comparison: both methods at one limit.

    It is a ``main`` one at the greatest number of images, and at the evaluations of as many plain
    pictures.
    """

    second: str
    limit: int
    unit: str
    main: bool
    comparison: Comparison


def reference(columns: Sequence[Column], name: str | None) -> Column:
    """The method that the others are compared with: the named one, ``npc``, or the first.

    Raises:
        SettingsError: no method has this name.
    """
    if name is None:
        return next((c for c in columns if c.method == PREFERRED), columns[0])
    for column in columns:
        if name in (column.label, column.method):
            return column
    labels = ", ".join(column.label for column in columns)
    raise SettingsError(f"The method {name!r} is in none of the runs; they have {labels}.")


def against_others(
    columns: Sequence[Column], first: str, limits: Sequence[int], budgets: Sequence[int]
) -> tuple[Versus, ...]:
    """The method that is labelled ``first`` against every other one; nothing where it is missing.

    Holm's correction is made for all methods at one limit of one kind.
    """
    others = [column for column in columns if column.label != first]
    ours = [record for column in columns if column.label == first for record in column.records]
    if not ours:
        return ()
    images = _curves(ours, others, limits, metrics.values_at)
    evaluations = _curves(ours, others, budgets, metrics.values_within)
    return tuple(
        Versus(first, second.label, *curves)
        for second, *curves in zip(others, images, evaluations, strict=True)
    )


def lines(versus: Sequence[Versus], images: int, plain: int) -> list[Line]:
    """A line for each comparison at each limit, of images and of evaluations."""
    return [
        Line(one.second, limit, unit, limit == main, comparison)
        for one in versus
        for unit, curve, main in (
            ("images", one.images, images),
            ("evaluations", one.evaluations, images * plain),
        )
        for limit, comparison in curve
    ]


def _curves(
    first: Sequence[Record],
    others: Sequence[Column],
    limits: Sequence[int],
    values: Callable[[Iterable[Record], int], Values],
) -> list[Curve]:
    curves: list[list[tuple[int, Comparison]]] = [[] for _ in others]
    for limit in limits:
        ours = values(first, limit)
        made = [metrics.compare(ours, values(other.records, limit)) for other in others]
        known = [(place, one) for place, one in enumerate(made) if one is not None]
        corrected = metrics.holm([one.p for _, one in known])
        for (place, one), p in zip(known, corrected, strict=True):
            curves[place].append((limit, replace(one, holm=p)))
    return [tuple(curve) for curve in curves]
