"""The methods of some runs, read from their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from npcorrect.errors import SettingsError
from npcorrect.evaluation import benchmarks, plugins
from npcorrect.evaluation.benchmarks.base import Benchmark, Judged, Score
from npcorrect.evaluation.methods import METHODS
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store, of_sample


@dataclass(frozen=True)
class Column:
    """One method of one run; ``label`` tells it from all others."""

    label: str
    method: str
    description: str
    run: Path
    records: tuple[Record, ...]

    def judged(self, images: int) -> tuple[Judged, ...]:
        """What the method hands over after so many images, by prompt."""
        scores: dict[int, list[Score]] = {}
        tags = {record.key.sample: record.tag for record in self.records}
        for record in self.records:
            score = record.score(record.after(images))
            scores.setdefault(record.key.sample, []).append(score)
        return tuple(Judged(number, tags[number], tuple(some)) for number, some in scores.items())


def source_of(name: str) -> Benchmark:
    """The benchmark that runs name, without its files.

    A run may come from anyone: code that it names is not loaded.

    Raises:
        SettingsError: it is one of the user's own.
    """
    if name in benchmarks.BENCHMARKS or Path(name).suffix.lower() in benchmarks.SUFFIXES:
        return benchmarks.find(name)
    raise SettingsError(
        f"The runs are of the benchmark {name!r}, which is not part of this program; name it with "
        "--benchmark."
    )


def common(manifests: Mapping[str, Manifest]) -> tuple[str, int]:
    """The benchmark of all runs, and the images that all of them can be compared at.

    Raises:
        SettingsError: the runs are of different benchmarks, or of different prompts.
    """
    kinds = {one.prompts for one in manifests.values()}
    if len(kinds) > 1:
        raise SettingsError(
            f"The runs are of {', '.join(sorted(name for name, _ in kinds))}, or of different "
            "prompts; report runs of one benchmark together."
        )
    first, *_ = manifests.values()
    images = [m.settings.images for m in manifests.values() if m.settings.images]
    return first.settings.benchmark, min(images, default=1)


def columns(stores: Mapping[str, Store], judge: str | None = None) -> tuple[Column, ...]:
    """The methods of all runs, in the order in which they were asked for.

    With ``judge``, the scores are those that this further judge gave.

    Raises:
        SettingsError: nothing is finished yet, or the judge has judged none of it.
    """
    read: list[tuple[str, Column]] = []
    for run, store in stores.items():
        records: dict[str, list[Record]] = {}
        for record in _records(store, judge):
            records.setdefault(record.key.method, []).append(record)
        for method in map(plugins.label, store.manifest().settings.methods):
            if method in records:
                row = METHODS.get(method)
                about = row.description if row else "Not one of this program's methods."
                one = Column(method, method, about, store.folder, tuple(records[method]))
                read.append((run, one))
    if not read:
        folders = ", ".join(repr(str(store.folder)) for store in stores.values())
        raise SettingsError(
            f"No sample is finished yet in {folders}; continue with 'npc bench run'."
        )
    times = Counter(column.method for _, column in read)
    return tuple(
        replace(column, label=f"{run}/{column.method}") if times[column.method] > 1 else column
        for run, column in read
    )


def run_names(runs: Sequence[Path]) -> list[str]:
    """The runs' folders by name, or by path where two have the same name."""
    times = Counter(run.resolve().name for run in runs)
    return [run.resolve().name if times[run.resolve().name] == 1 else str(run) for run in runs]


def _records(store: Store, judge: str | None) -> list[Record]:
    records = store.records()
    if judge is None:
        return records
    scores = store.scores(judge)
    if not scores:
        known = ", ".join(store.judges()) or "none"
        raise SettingsError(
            f"The judge {judge!r} has scored nothing in {str(store.folder)!r}; further judges "
            f"there: {known}."
        )
    return [_rescored(record, of_sample(scores, record)) for record in records]


def _rescored(record: Record, scores: Mapping[str, Score]) -> Record:
    """The record as another judge sees it; what it was not shown is unscored."""
    unseen = Score(None, "this judge was not shown it")
    names = {step.image for step in record.steps}
    return record.scored({name: scores.get(name, unseen) for name in names})
