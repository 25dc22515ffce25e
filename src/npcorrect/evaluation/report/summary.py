"""What runs say, as one record that all forms of the report are written from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from npcorrect.evaluation.benchmarks.base import Benchmark
from npcorrect.evaluation.report import metrics
from npcorrect.evaluation.report.agreement import (
    Agreement,
    Repeatability,
    agreements,
    repeatabilities,
)
from npcorrect.evaluation.report.cautions import cautions
from npcorrect.evaluation.report.columns import Column, columns, common, run_names, source_of
from npcorrect.evaluation.report.comparisons import (
    Line,
    Versus,
    against_others,
    lines,
    reference,
)
from npcorrect.evaluation.report.difficulty import Difficulty, Ease, measure
from npcorrect.evaluation.report.metrics import Estimate, Official, Point
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.store import Store
from npcorrect.evaluation.run.worker import plain_pictures
from npcorrect.vlm.base import Usage

OWN_JUDGE = "template matching"


@dataclass(frozen=True)
class GroupScore:
    """A method on the samples of one tag or difficulty: the score, and how many have none."""

    score: Estimate | None
    unscored: int


@dataclass(frozen=True)
class Row:
    """A method's figures.

    ``official`` are the benchmark's own figures, ``tags`` the scores by tag, and ``as_wrong`` the
    score with unscored pictures counted as wrong, all at the greatest number of images. ``images``
    and ``evaluations`` are its curves, a point for each limit. ``missing`` samples have no picture,
    and ``unverified`` ones a picture without a verdict. ``kept`` is how much of the first picture
    the corrections keep, of samples wrong at first and right at the greatest number of images, and
    ``kept_most`` the share of these that keep at least ``metrics.KEEPS`` of it.
    """

    label: str
    description: str
    samples: int
    missing: int
    unverified: int
    official: tuple[Official, ...]
    images: tuple[Point, ...]
    evaluations: tuple[Point, ...]
    tags: Mapping[str, GroupScore]
    as_wrong: Estimate | None
    kept: Estimate | None
    kept_most: Estimate | None

    def figures(self, names: Sequence[str]) -> list[Official | None]:
        """The benchmark's own figures of these names; None where the method has none."""
        official = {figure.name: figure for figure in self.official}
        return [official.get(name) for name in names]

    @property
    def final(self) -> Point:
        """The method's figures at the greatest number of images."""
        return self.images[-1]

    @property
    def unscored(self) -> int:
        """How many samples have no score at the greatest number of images."""
        return self.final.score.unscored if self.final.score else self.samples


@dataclass(frozen=True)
class Figures:
    """What some methods reach on the same prompts, and how they compare.

    ``images`` is how many pictures they are compared at, at most, and ``plain`` how many
    evaluations a plain picture takes, 0 where none were counted.
    """

    images: int
    plain: int
    rows: tuple[Row, ...]
    versus: tuple[Versus, ...]

    @property
    def most(self) -> str:
        """The greatest number of images that methods are compared at: "1 image", "6 images"."""
        return f"{self.images} image{'s' * (self.images != 1)}"

    @property
    def lines(self) -> list[Line]:
        """The comparisons with the reference method, a line for each limit."""
        return lines(self.versus, self.images, self.plain)

    @property
    def official(self) -> tuple[str, ...]:
        """The names of the benchmark's own figures; not every method need have each of them."""
        return tuple(dict.fromkeys(one.name for row in self.rows for one in row.official))

    @property
    def priced(self) -> bool:
        """Whether any method's cost has a price, so that money has a column."""
        return any(row.final.cost.money is not None for row in self.rows)

    def evaluations(self, row: Row) -> str:
        """The mean evaluations of a method at the greatest number of images, where any count."""
        return f"{row.final.cost.evaluations:.0f}" if self.plain else "\u2013"

    @property
    def by_tag(self) -> dict[str, dict[str, GroupScore]]:
        """The methods' scores by tag, ``{tag: {label: score}}``."""
        tags = dict.fromkeys(tag for row in self.rows for tag in row.tags)
        return {tag: {r.label: r.tags[tag] for r in self.rows if tag in r.tags} for tag in tags}


@dataclass(frozen=True)
class Stratum(Figures):
    """All figures on the prompts of one difficulty, which rests on their plain pictures."""

    level: str
    prompts: tuple[Ease, ...]

    @property
    def ease(self) -> float | None:
        """The share of these prompts' plain pictures that are right; None without any."""
        pictures = sum(ease.pictures for ease in self.prompts)
        return sum(ease.right for ease in self.prompts) / pictures if pictures else None

    @property
    def pictures(self) -> str:
        """On how many plain pictures each prompt's difficulty rests, such as '13' or '9 to 13'."""
        counts = {ease.pictures for ease in self.prompts}
        return " to ".join(map(str, sorted({min(counts), max(counts)})))


@dataclass(frozen=True)
class Report(Figures):
    """All figures of some runs of one benchmark.

    ``judge`` is the further judge whose scores these are, None for the runs' own. ``strata`` are
    the figures by ``difficulty``, where that was measured.
    """

    benchmark: Benchmark
    manifests: Mapping[str, Manifest]
    judge: str | None
    warnings: tuple[str, ...]
    columns: tuple[Column, ...]
    agreements: tuple[Agreement, ...]
    repeatabilities: tuple[Repeatability, ...]
    difficulty: Difficulty | None
    strata: tuple[Stratum, ...]

    @property
    def binary(self) -> bool:
        """Whether every picture is either right or wrong."""
        return _binary(self.columns)

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
        """The judges' names, each once; the benchmark's own judge where none was named."""
        if self.judge is not None:
            return (self.judge,)
        judges = (m.settings.judge or OWN_JUDGE for m in self.manifests.values())
        return tuple(dict.fromkeys(judges))

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The verifiers' names, each once; 'none' where pictures were only judged."""
        names = (
            (m.settings.verifier or "the model's own") if m.settings.images else "none"
            for m in self.manifests.values()
        )
        return tuple(dict.fromkeys(names))

    @property
    def made(self) -> dict[str, str]:
        """The manifests, that of the difficulty too, as indented JSON, ``{run: text}``."""
        plain = {self.difficulty.run: self.difficulty.manifest} if self.difficulty else {}
        manifests = {**self.manifests, **plain}
        return {name: json.dumps(asdict(m), indent=2) for name, m in manifests.items()}

    @property
    def by_difficulty(self) -> dict[str, dict[str, GroupScore]]:
        """The methods' scores by difficulty, ``{level: {label: score}}``."""
        return {
            stratum.level: {r.label: GroupScore(r.final.score, r.unscored) for r in stratum.rows}
            for stratum in self.strata
        }


def summarise(
    runs: Sequence[Path],
    *,
    faults: bool = False,
    source: Benchmark | None = None,
    against: str | None = None,
    judge: str | None = None,
    difficulty: Path | None = None,
) -> Report:
    """Read runs and work out every figure; no official file is needed.

    With ``faults``, the figures that reproduce a fault of the upstream script are among the
    official ones. ``source`` stands for the named benchmark. ``against`` names the method that the
    others are compared with, ``judge`` a further judge whose scores are reported in place of the
    runs' own. ``difficulty`` is the folder of the run whose plain pictures say how hard each prompt
    is.

    Raises:
        SettingsError: a folder holds no run, the runs are of different benchmarks, nothing is
            finished yet, there is no such method or judge, or the difficulty cannot be taken from
            that run.
    """
    names = run_names([*runs, difficulty] if difficulty else runs)
    stores = dict(zip(names, map(Store, runs), strict=False))
    manifests = {name: store.manifest() for name, store in stores.items()}
    name, images = common(manifests)
    source = source or source_of(name)
    some = columns(stores, judge)
    plain = _plain(some, images)
    limits = tuple(range(1, images + 1))
    budgets = tuple(plain * k for k in range(1, plain_pictures(images) + 1)) if plain else ()
    binary, first = _binary(some), reference(some, against).label
    measured = None
    if difficulty:
        measured = measure(names[-1], Store(difficulty), some, manifests, source.scale, judge)

    def figures(columns: Sequence[Column]) -> Figures:
        rows = tuple(_row(column, source, limits, budgets, faults, binary) for column in columns)
        return Figures(images, plain, rows, against_others(columns, first, limits, budgets))

    return Report(
        **vars(figures(some)),
        benchmark=source,
        manifests=manifests,
        judge=judge,
        warnings=cautions(manifests, some, judge, measured),
        columns=some,
        agreements=agreements(stores, some, images) if judge is None else (),
        repeatabilities=repeatabilities(stores, some),
        difficulty=measured,
        strata=_strata(measured, some, figures) if measured else (),
    )


def _strata(
    measured: Difficulty, some: Sequence[Column], figures: Callable[[Sequence[Column]], Figures]
) -> tuple[Stratum, ...]:
    return tuple(
        Stratum(**vars(figures(part)), level=level, prompts=tuple(measured.of(level).values()))
        for level, part in measured.split(some).items()
    )


def _plain(some: Sequence[Column], images: int) -> int:
    """Evaluations of a plain picture; 0 where none were counted."""
    budgets = [r.budget for column in some for r in column.records if r.budget]
    return min(budgets, default=0) // max(plain_pictures(images), 1)


def _binary(some: Sequence[Column]) -> bool:
    scores = (s.score for c in some for r in c.records for s in r.steps if s.score)
    return all(score.value in (0, 1, None) for score in scores)


def _row(
    column: Column,
    source: Benchmark,
    limits: Sequence[int],
    budgets: Sequence[int],
    faults: bool,
    binary: bool,
) -> Row:
    records, images = column.records, limits[-1]
    figures = source.figures(column.judged(images))
    values = metrics.values_at(records, images)
    kept = metrics.kept_by_corrections(records, images, source.scale)
    tags: dict[str, dict[metrics.Sample, float | None]] = {}
    for record in records:
        place = record.key.sample, record.key.repeat
        tags.setdefault(record.tag, {})[place] = values[place]
    return Row(
        column.label,
        column.description,
        len(records),
        sum(record.score(record.after(images)).missing for record in records),
        sum(record.unverified for record in records),
        tuple(metrics.official(one, binary) for one in figures if faults or not one.fault),
        tuple(metrics.at_images(records, limit) for limit in limits),
        tuple(metrics.at_evaluations(records, limit) for limit in budgets),
        {tag: _group_score(some) for tag, some in tags.items()},
        metrics.estimate(metrics.as_wrong(values)),
        metrics.estimate(kept),
        metrics.estimate(metrics.whether_kept(kept)),
    )


def _group_score(values: metrics.Values) -> GroupScore:
    return GroupScore(metrics.estimate(values), sum(value is None for value in values.values()))
