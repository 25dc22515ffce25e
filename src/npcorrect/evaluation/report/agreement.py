"""How far judges agree: two of them with each other, and one with itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npcorrect.evaluation.report import metrics
from npcorrect.evaluation.report.columns import Column
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store, of_sample

Pair = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """Two judges on the pictures of one tag, or of all where ``tag`` is empty.

    ``same`` is the share of ``n`` pictures to which both give the same score, ``kappa`` is Cohen's,
    None where it is not defined.
    """

    run: str
    second: str
    tag: str
    n: int
    same: float
    kappa: float | None


@dataclass(frozen=True)
class Repeatability:
    """One judge, asked again about ``n`` pictures.

    ``same`` is the share of pictures that had one score throughout, ``kappa`` that of the first
    answers with the later ones, and ``spread`` the mean of each picture's greatest difference.
    """

    run: str
    n: int
    same: float
    kappa: float | None
    spread: float


def agreements(
    stores: Mapping[str, Store], columns: Sequence[Column], images: int
) -> tuple[Agreement, ...]:
    """Each run's first judge with every further one, over all pictures that are handed over."""
    rows = []
    for run, store in stores.items():
        records = [r for column in columns if column.run == store.folder for r in column.records]
        for judge in store.judges():
            scores = store.scores(judge)
            pairs: dict[tuple[int, int, str], tuple[str, Pair]] = {}
            for record in records:
                name = record.picture(record.after(images))
                first = record.score(record.after(images)).value
                second = of_sample(scores, record).get(name)
                if first is not None and second is not None and second.value is not None:
                    place = record.key.sample, record.key.repeat, name
                    pairs[place] = record.tag, (first, second.value)
            rows += _by_tag(run, judge, list(pairs.values()))
    return tuple(rows)


def _by_tag(run: str, judge: str, pairs: Sequence[tuple[str, Pair]]) -> list[Agreement]:
    """All pairs together, and those of each tag."""
    if not pairs:
        return []
    tags = dict.fromkeys(tag for tag, _ in pairs)
    groups = {"": [pair for _, pair in pairs]}
    groups |= {
        tag: [pair for where, pair in pairs if where == tag] for tag in tags if len(tags) > 1
    }
    return [
        Agreement(run, judge, tag, len(group), _same(group), metrics.kappa(group))
        for tag, group in groups.items()
    ]


def repeatabilities(
    stores: Mapping[str, Store], columns: Sequence[Column]
) -> tuple[Repeatability, ...]:
    """Each run's judge with itself, where it was asked more than once."""
    rows = []
    for run, store in stores.items():
        records = [r for column in columns if column.run == store.folder for r in column.records]
        values = _repeated(records)
        if values:
            pairs = [(first, later) for first, *others in values for later in others]
            same = sum(len(set(some)) == 1 for some in values) / len(values)
            spread = sum(max(some) - min(some) for some in values) / len(values)
            row = Repeatability(run, len(values), same, metrics.kappa(pairs), spread)
            rows.append(row)
    return tuple(rows)


def _repeated(records: Sequence[Record]) -> list[list[float]]:
    """All values of each picture that was judged several times, each picture once."""
    values: dict[tuple[int, int, str], list[float]] = {}
    for record in records:
        for step in record.steps:
            score = step.score
            if score is not None and score.again and score.value is not None:
                later = [value for value in score.again if value is not None]
                if later:
                    place = record.key.sample, record.key.repeat, step.image
                    values[place] = [score.value, *later]
    return list(values.values())


def _same(pairs: Sequence[Pair]) -> float:
    return sum(first == second for first, second in pairs) / len(pairs)
