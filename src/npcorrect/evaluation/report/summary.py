"""What runs say, as one record that all forms of the report are written from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Benchmark, Figure, Score
from npcorrect.evaluation.methods import METHODS
from npcorrect.evaluation.report import metrics
from npcorrect.evaluation.report.metrics import Comparison, Estimate, Point, Values
from npcorrect.evaluation.report.text import compared
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store
from npcorrect.evaluation.run.tools import benchmark, same_model
from npcorrect.evaluation.run.worker import plain_pictures
from npcorrect.vlm.base import Usage

OWN_JUDGE = "classical vision"
OURS = "npc"
"""The method that others are compared with, where it was run."""


@dataclass(frozen=True)
class Column:
    """One method of one run; ``label`` tells it from all others."""

    label: str
    method: str
    description: str
    run: Path
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Row:
    """A method's figures.

    ``images`` and ``evaluations`` are its curves, a point for each limit; ``tags`` the scores by
    tag, ``official`` the benchmark's own figures and ``as_wrong`` the score with unscored pictures
    counted as wrong, all at the greatest number of images.
    """

    label: str
    description: str
    samples: int
    images: tuple[Point, ...]
    evaluations: tuple[Point, ...]
    tags: Mapping[str, Estimate | None]
    official: tuple[Figure, ...]
    as_wrong: Estimate | None

    @property
    def final(self) -> Point:
        """At the greatest number of images."""
        return self.images[-1]

    @property
    def unscored(self) -> int:
        """Samples without a score there."""
        return self.final.score.unscored if self.final.score else self.samples


@dataclass(frozen=True)
class Versus:
    """One method against another: at each number of images, and at each of evaluations."""

    first: str
    second: str
    images: tuple[tuple[int, Comparison], ...]
    evaluations: tuple[tuple[int, Comparison], ...]


@dataclass(frozen=True)
class Duel:
    """One line of a comparison: both methods' scores at one limit, and how they differ.

    It is a ``main`` one at the greatest number of images, and at the evaluations of as many plain
    pictures.
    """

    second: str
    limit: int
    unit: str
    main: bool
    ours: Estimate | None
    theirs: Estimate | None
    cells: tuple[str, ...]

    @property
    def apart(self) -> bool:
        """Whether the two intervals do not overlap."""
        return bool(self.ours and self.theirs and self.ours.apart(self.theirs))


@dataclass(frozen=True)
class Report:
    """All figures of some runs of one benchmark.

    ``plain`` is how many evaluations a plain picture takes, 0 where none were counted.
    """

    benchmark: Benchmark
    manifests: Mapping[str, Manifest]
    images: int
    plain: int
    warnings: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    versus: tuple[Versus, ...]

    @property
    def binary(self) -> bool:
        """Whether every picture is either right or wrong."""
        scores = (s.score for c in self.columns for r in c.records for s in r.steps if s.score)
        return all(score.value in (0, 1, None) for score in scores)

    @property
    def priced(self) -> bool:
        """Whether anything has a price."""
        return any(row.final.cost.money is not None for row in self.rows)

    @property
    def judging(self) -> Usage:
        """What the judge was asked, each picture of a sample once."""
        asked: dict[tuple[Path, int, int, str], Usage] = {}
        for column in self.columns:
            for record in column.records:
                for step in record.steps:
                    key = (column.run, record.key.sample, record.key.repeat, step.image)
                    if step.score:
                        asked[key] = step.score.usage
        return sum(asked.values(), Usage())

    @property
    def judges(self) -> tuple[str, ...]:
        """Who judged."""
        judges = (m.settings.judge or OWN_JUDGE for m in self.manifests.values())
        return tuple(dict.fromkeys(judges))

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Who verified."""
        names = (
            (m.settings.verifier or "the model's own") if m.settings.images else "none"
            for m in self.manifests.values()
        )
        return tuple(dict.fromkeys(names))

    @property
    def made(self) -> dict[str, str]:
        """Each manifest as JSON text."""
        return {name: json.dumps(asdict(m), indent=2) for name, m in self.manifests.items()}

    @property
    def duels(self) -> list[Duel]:
        """Every comparison at every limit."""
        rows = {row.label: row for row in self.rows}
        found = []
        for versus in self.versus:
            ours, theirs = rows[versus.first], rows[versus.second]
            curves = (
                ("images", versus.images, ours.images, theirs.images),
                ("evaluations", versus.evaluations, ours.evaluations, theirs.evaluations),
            )
            for unit, curve, mine, other in curves:
                points = {point.limit: point.score for point in mine}
                others = {point.limit: point.score for point in other}
                found += [
                    Duel(
                        versus.second,
                        limit,
                        unit,
                        limit == (self.images if unit == "images" else self.images * self.plain),
                        points[limit],
                        others[limit],
                        tuple(compared(one, self.benchmark.scale)),
                    )
                    for limit, one in curve
                ]
        return found


def summarise(
    runs: Sequence[Path],
    data: Path | None = None,
    *,
    faults: bool = False,
    source: Benchmark | None = None,
) -> Report:
    """Read runs and work out every figure.

    ``data`` is the folder of official files. With ``faults``, the figures that reproduce a fault of
    the upstream script are among the official ones. ``source`` stands for the named benchmark.

    Raises:
        SettingsError: a folder holds no run, the runs are of different benchmarks or numbers of
            images, or nothing is finished yet.
    """
    stores = dict(zip(_names(runs), map(Store, runs), strict=True))
    manifests = {name: store.manifest() for name, store in stores.items()}
    name, images = _common(manifests)
    source = source or benchmark(name, data)
    columns = _columns(stores)
    plain = _plain(columns, images)
    limits = tuple(range(1, images + 1))
    budgets = tuple(plain * k for k in range(1, plain_pictures(images) + 1)) if plain else ()
    rows = tuple(_row(column, source, limits, budgets, faults) for column in columns)
    return Report(
        source,
        manifests,
        images,
        plain,
        _warnings(manifests, columns),
        columns,
        rows,
        _versus(columns, limits, budgets),
    )


def _common(manifests: Mapping[str, Manifest]) -> tuple[str, int]:
    """The benchmark of all runs, and the images that all of them can be compared at.

    Raises:
        SettingsError: the runs are of different benchmarks, or of different prompts.
    """
    kinds = {(m.settings.benchmark, m.data) for m in manifests.values()}
    if len(kinds) > 1:
        raise SettingsError(
            f"The runs are of {', '.join(sorted(name for name, _ in kinds))}, or of different "
            "prompts; report runs of one benchmark together."
        )
    (name, _), *_ = kinds
    images = [m.settings.images for m in manifests.values() if m.settings.images]
    return name, min(images, default=1)


def _columns(stores: Mapping[str, Store]) -> tuple[Column, ...]:
    """The methods of all runs, in the order in which they were asked for.

    Raises:
        SettingsError: nothing is finished yet.
    """
    found: list[tuple[str, Column]] = []
    for run, store in stores.items():
        records: dict[str, list[Record]] = {}
        for record in store.records():
            records.setdefault(record.key.method, []).append(record)
        for method in store.manifest().settings.methods:
            if method in records:
                row = METHODS.get(method)
                text = row.description if row else "Pictures made elsewhere."
                one = Column(method, method, text, store.folder, tuple(records[method]))
                found.append((run, one))
    if not found:
        raise SettingsError("No sample is finished yet; continue with 'npc bench run'.")
    times = Counter(column.method for _, column in found)
    return tuple(
        replace(column, label=f"{run}/{column.method}") if times[column.method] > 1 else column
        for run, column in found
    )


def _plain(columns: Sequence[Column], images: int) -> int:
    """Evaluations of a plain picture; 0 where none were counted."""
    budgets = [r.budget for column in columns for r in column.records if r.budget]
    return min(budgets, default=0) // max(plain_pictures(images), 1)


def _row(
    column: Column, source: Benchmark, limits: Sequence[int], budgets: Sequence[int], faults: bool
) -> Row:
    records = column.records
    images = limits[-1]
    values = metrics.values_at(records, images)
    scores: dict[int, list[Score]] = {}
    tags: dict[str, dict[metrics.Sample, float | None]] = {}
    for record in records:
        score = record.score(record.after(images))
        scores.setdefault(record.key.sample, []).append(score)
        tags.setdefault(record.tag, {})[(record.key.sample, record.key.repeat)] = score.value
    return Row(
        column.label,
        column.description,
        len(records),
        tuple(metrics.at_images(records, limit) for limit in limits),
        tuple(metrics.at_evaluations(records, limit) for limit in budgets),
        {tag: metrics.estimate(of_tag) for tag, of_tag in tags.items()},
        tuple(figure for figure in source.figures(scores) if faults or not figure.fault),
        metrics.estimate(metrics.as_wrong(values)),
    )


def _versus(
    columns: Sequence[Column], limits: Sequence[int], budgets: Sequence[int]
) -> tuple[Versus, ...]:
    """Our method, or else the first, against every other one."""
    ours = [c for c in columns if c.method == OURS] or list(columns)
    first = ours[0]
    return tuple(
        Versus(
            first.label,
            second.label,
            _curve(first, second, limits, metrics.values_at),
            _curve(first, second, budgets, metrics.values_within),
        )
        for second in columns
        if second is not first
    )


def _curve(
    first: Column,
    second: Column,
    limits: Sequence[int],
    values: Callable[[Iterable[Record], int], Values],
) -> tuple[tuple[int, Comparison], ...]:
    compared = (
        (limit, metrics.compare(values(first.records, limit), values(second.records, limit)))
        for limit in limits
    )
    return tuple((limit, one) for limit, one in compared if one is not None)


def _warnings(manifests: Mapping[str, Manifest], columns: Sequence[Column]) -> tuple[str, ...]:
    """What a reader must know before any figure."""
    found = [
        f"In {name}, the judge is the verifier ({m.settings.judge}): the methods were allowed to "
        "ask the judge, so their scores are too good."
        for name, m in manifests.items()
        if same_model(m.settings.verifier, m.settings.judge)
    ]
    if any(c.method == "npc-oracle" for c in columns):
        found.append(
            "npc-oracle is told the benchmark's own checklist; it bounds, and competes not."
        )
    if len({m.code for m in manifests.values()}) > 1:
        found.append("The runs were made with different code of this program.")
    counts = {len(column.records) for column in columns}
    if len(counts) > 1:
        found.append("Not every method has every sample; comparisons use those that both have.")
    return tuple(found)


def _names(runs: Sequence[Path]) -> list[str]:
    """The runs' folders by name, or by path where two have the same name."""
    times = Counter(run.resolve().name for run in runs)
    return [run.resolve().name if times[run.resolve().name] == 1 else str(run) for run in runs]
