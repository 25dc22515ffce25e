"""Pictures and results from elsewhere, and those that go there, as upstream names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge, Place, Sample, Score
from npcorrect.evaluation.run.failures import Failures
from npcorrect.evaluation.run.manifest import Manifest, RunSettings, samples, unsharded
from npcorrect.evaluation.run.pictures import PictureFile, joined, picture_name, read_file, save
from npcorrect.evaluation.run.records import Key, Record, Step
from npcorrect.evaluation.run.runner import OnRecord
from npcorrect.evaluation.run.store import Store
from npcorrect.evaluation.run.worker import Done
from npcorrect.files import decode_picture, prepare
from npcorrect.records import Cost

TOGETHER = 16
"""Pictures that are judged together, and kept together."""
NO_PICTURE = "there is no picture"


@runtime_checkable
class Official(Protocol):
    """What a benchmark with an upstream script says of its files.

    ``repeats`` is how many pictures of a prompt its script wants, ``grid`` how many there are in a
    row and in a column of one file: where it is 2, all four repeats are in one file.
    """

    @property
    def repeats(self) -> int:
        """How many pictures the official script expects of each prompt."""
        ...

    @property
    def grid(self) -> int:
        """Pictures in a row of a file."""
        ...

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """The paths that a sample's picture may have below a folder, the official one first.

        ``{method}`` stands for the name of the image model.
        """
        ...

    def write_results(
        self,
        samples: Sequence[Sample],
        scores: Mapping[Place, Score],
        pictures: Mapping[Place, Path],
        folder: Path,
    ) -> None:
        """Write the files beside the pictures that upstream's script needs, or would have made."""
        ...

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores that upstream's script gave.

        Raises:
            SettingsError: the file holds none.
        """
        ...


def official(source: Benchmark) -> Official:
    """The benchmark's upstream side.

    Raises:
        SettingsError: it has none.
    """
    if not isinstance(source, Official):
        raise SettingsError(f"The benchmark {source.name!r} is our own and has no official files.")
    return source


def official_samples(source: Benchmark, limit: int | None = None) -> list[Sample]:
    """The samples that pictures made elsewhere are of: each prompt as often as upstream wants."""
    repeats = source.repeats if isinstance(source, Official) else 1
    return samples(RunSettings(source.name, ("theirs",), seeds=repeats, limit=limit), source)


def find_pictures(
    source: Benchmark, wanted: Sequence[Sample], place: Path
) -> dict[Place, PictureFile]:
    """The picture of each sample in a folder, or in a JSON file of paths by prompt.

    Raises:
        SettingsError: nothing is there.
    """
    paths = _listed(wanted, place) if place.suffix == ".json" else _named(source, wanted, place)
    if not paths:
        expected = ", ".join(_names(source, wanted[0]))
        raise SettingsError(
            f"{str(place)!r} has no picture of {source.name}; the first is called {expected}."
        )
    grid = source.grid if isinstance(source, Official) else 1
    return {where: PictureFile(path, grid, where[1]) for where, path in paths.items()}


def score_pictures(
    store: Store,
    manifest: Manifest,
    wanted: Sequence[Sample],
    pictures: Mapping[Place, PictureFile],
    judge: Judge,
    on_record: OnRecord,
) -> None:
    """Judge pictures made elsewhere, as the records of one method; a missing one is unscored.

    Pictures that were judged before and have not changed are not judged again.

    Raises:
        RunStoppedError: the judge failed on several samples in a row.
        SettingsError: a picture cannot be read, or the store holds another run.
    """

    def judged(some: Sequence[Sample]) -> Iterator[Done]:
        files = {_place(s): pictures[_place(s)].read() for s in some if _place(s) in pictures}
        shown = [
            (s, decode_picture(files[_place(s)], s.prompt)) for s in some if _place(s) in files
        ]
        given = judge.scores(shown)
        scores = {_place(s): score for (s, _), score in zip(shown, given, strict=True)}
        for sample in some:
            where = _place(sample)
            yield _done(manifest, sample, files.get(where), scores.get(where))

    _keep(store, manifest, wanted, pictures, judged, on_record)


def keep_scores(
    store: Store,
    manifest: Manifest,
    wanted: Sequence[Sample],
    scores: Mapping[Place, Score],
    pictures: Mapping[Place, PictureFile],
    on_record: OnRecord,
) -> None:
    """Keep scores that upstream's script gave, as the records of one method."""

    def given(some: Sequence[Sample]) -> Iterator[Done]:
        for sample in some:
            file = pictures.get(_place(sample))
            score = scores.get(_place(sample))
            yield _done(manifest, sample, file.read() if file else None, score)

    _keep(store, manifest, wanted, pictures, given, on_record)


def export(store: Store, source: Benchmark, folder: Path) -> list[Path]:
    """Write pictures and results as upstream's scripts expect them, a folder for each method.

    Where upstream wants one picture of a prompt, each repeat has a folder of its own; else all are
    in one.

    Raises:
        SettingsError: the benchmark is not one with an upstream script.
        OutputError: the folder cannot be written.
    """
    upstream = official(source)
    known = {sample.id: sample for sample in source.samples()}
    groups: dict[Path, list[Record]] = {}
    for record in store.records():
        target = folder / record.key.method.replace(":", "-")
        if upstream.repeats == 1:
            target = target / f"seed-{record.key.repeat}"
        groups.setdefault(target, []).append(record)
    images = store.manifest().settings.images
    for target, records in groups.items():
        _export(store, upstream, known, target, records, images)
    return list(groups)


def _export(
    store: Store,
    upstream: Official,
    known: Mapping[int, Sample],
    target: Path,
    records: Sequence[Record],
    images: int,
) -> None:
    wanted, scores = [], {}
    pictures: dict[Place, Path] = {}
    contents: dict[Path, dict[int, str]] = {}
    for record in records:
        step = record.after(images) if images else -1
        sample = replace(known[record.key.sample], repeat=record.key.repeat)
        wanted.append(sample)
        scores[_place(sample)] = record.score(step)
        if store.read_picture(name := record.picture(step)) is not None:
            path = target / upstream.picture_names(sample)[0].replace("{method}", target.name)
            pictures[_place(sample)] = path
            contents.setdefault(path, {})[sample.repeat] = name
    prepare(target)
    for path, names in contents.items():
        prepare(path.parent)
        drawn = {repeat: store.image(name) for repeat, name in names.items()}
        save(joined({repeat: one for repeat, one in drawn.items() if one}, upstream.grid), path)
    upstream.write_results(wanted, scores, pictures, target)


def merge(stores: Sequence[Store], out: Path) -> None:
    """Put the shards of a run together.

    Raises:
        SettingsError: they are not of one run, or say different things of one sample.
        OutputError: the folder cannot be written.
    """
    whole = unsharded(stores[0].manifest())
    merged = Store(out)
    with merged.writing(whole) as writer:
        known = {record.key: record for record in merged.records()}
        for store in stores:
            merged.check(unsharded(store.manifest()))
            for record in store.records():
                chosen = _agreed(known.get(record.key), record, store)
                known[record.key] = chosen
                if chosen is record:
                    names = {step.image for step in record.steps if step.image}
                    files = {name: store.read_picture(name) for name in names}
                    writer.add(Done(record, {n: f for n, f in files.items() if f is not None}))
            for judge in store.judges():
                writer.add_scores(judge, store.scores(judge))


def _agreed(kept: Record | None, new: Record, store: Store) -> Record:
    """The one of two records of a sample that says more.

    Raises:
        SettingsError: they do not tell of the same pictures.
    """
    if kept is None or kept.unverified:
        return new
    if not new.unverified and _contradicts(kept, new):
        raise SettingsError(
            f"The shard {str(store.folder)!r} contradicts another one about {new.key.method} on "
            f"prompt {new.key.sample}, seed {new.seed}; leave one of them out."
        )
    return new if kept.open_pictures and not new.open_pictures else kept


def _contradicts(one: Record, other: Record) -> bool:
    """Whether two records tell of other pictures, or of other scores where both have one."""
    if len(one.steps) != len(other.steps):
        return True
    pairs = list(zip(one.steps, other.steps, strict=True))
    if any(_story(first) != _story(second) for first, second in pairs):
        return True
    values = ((_value(first), _value(second)) for first, second in pairs)
    return any(None not in pair and pair[0] != pair[1] for pair in values)


def _story(step: Step) -> tuple[object, ...]:
    """What a step says, without what no two runs share."""
    return step.image, step.negatives, step.accepted, step.chosen, step.cost.evaluations


def _value(step: Step) -> float | None:
    return step.score.value if step.score else None


def _named(source: Benchmark, wanted: Sequence[Sample], folder: Path) -> dict[Place, Path]:
    """The first file of each sample that is there."""
    paths = {}
    for sample in wanted:
        files = (file for name in _names(source, sample) for file in _matching(folder, name))
        if (file := next(files, None)) is not None:
            paths[_place(sample)] = file
    return paths


def _matching(folder: Path, name: str) -> Iterator[Path]:
    """The files of one name, or of its last part alone: exports have folders, other people not."""
    for path in dict.fromkeys((name, name.removeprefix("image/"))):
        if "{method}" in path:
            start, end = path.split("{method}")
            yield from sorted(
                p for p in folder.glob(f"{escape(start)}*{escape(end)}") if p.is_file()
            )
        elif (folder / path).is_file():
            yield folder / path


def _listed(wanted: Sequence[Sample], file: Path) -> dict[Place, Path]:
    """The files of a list of paths by prompt; relative ones count from the list's folder."""
    try:
        paths = json.loads(read_file(file))
        named = {_place(s): Path(paths[s.prompt]) for s in wanted if s.prompt in paths}
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"{str(file)!r} is no file of picture paths by prompt ({error})."
        ) from None
    folder = file.resolve().parent
    places = {where: [folder / path, folder / "image" / path.name] for where, path in named.items()}
    there = {where: [p for p in paths if p.is_file()] for where, paths in places.items()}
    return {where: paths[0] for where, paths in there.items() if paths}


def _names(source: Benchmark, sample: Sample) -> tuple[str, ...]:
    if hasattr(source, "picture_names"):
        return tuple(source.picture_names(sample))
    return (f"{sample.id}.png",)


def _keep(
    store: Store,
    manifest: Manifest,
    wanted: Sequence[Sample],
    pictures: Mapping[Place, PictureFile],
    make: Callable[[Sequence[Sample]], Iterator[Done]],
    on_record: OnRecord,
) -> None:
    (method,) = manifest.settings.methods
    failures = Failures()
    with store.writing(manifest) as writer:
        known = {record.key: record for record in store.records()}
        left = []
        for sample in wanted:
            record = known.get(Key(sample.id, sample.repeat, method))
            if record is None or _changed(store, record, pictures.get(_place(sample))):
                left.append(sample)
            else:
                on_record(record)
        rest = iter(left)
        while some := list(islice(rest, TOGETHER)):
            for done in make(some):
                writer.add(done)
                on_record(done.record)
                failures.see(done.record)


def _changed(store: Store, record: Record, file: PictureFile | None) -> bool:
    """Whether a picture is another one than that of the record, or has no score yet."""
    name = record.picture()
    if record.open_pictures or (name and store.read_picture(name) is None):
        return True
    return name != (picture_name(file.read()) if file else "")


def _done(manifest: Manifest, sample: Sample, file: bytes | None, score: Score | None) -> Done:
    name = picture_name(file) if file else ""
    score = score or Score(None, NO_PICTURE, missing=True)
    step = Step(name, 0, (), "", None, (), "", 0, Cost(images=1), score)
    key = Key(sample.id, sample.repeat, manifest.settings.methods[0])
    record = Record(key, sample.tag, sample.prompt, 0, 0, (step,))
    return Done(record, {name: file} if file else {})


def _place(sample: Sample) -> Place:
    return sample.id, sample.repeat
