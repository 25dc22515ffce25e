"""Pictures and results from elsewhere, and those that go there, as upstream names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge, Sample, Score
from npcorrect.evaluation.run.manifest import Manifest, unsharded
from npcorrect.evaluation.run.records import Key, Record, Step
from npcorrect.evaluation.run.runner import OnRecord
from npcorrect.evaluation.run.store import Store
from npcorrect.evaluation.run.worker import Done
from npcorrect.files import prepare
from npcorrect.records import Cost

TOGETHER = 16
"""Pictures that are judged together, and kept together."""
NO_PICTURE = "there is no picture"


@runtime_checkable
class Official(Protocol):
    """What a benchmark with an upstream script says of its files."""

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """The names that a sample's picture may have, the official one first."""
        ...

    def write_results(
        self, scores: Mapping[int, Score], pictures: Mapping[int, Path], folder: Path
    ) -> None:
        """Write result files as upstream's script would have."""
        ...

    def read_results(self, path: Path) -> dict[int, Score]:
        """The scores in a result file of upstream's script, by the id of the prompt.

        Raises:
            SettingsError: the file is none.
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


def find_pictures(source: Benchmark, samples: Sequence[Sample], place: Path) -> dict[int, Path]:
    """The picture of each prompt in a folder, or in a JSON file of paths by prompt.

    Raises:
        SettingsError: nothing is found.
    """
    if place.suffix == ".json":
        found = _listed(samples, place)
    else:
        found = {}
        for sample in samples:
            paths = (place / name for name in _names(source, sample))
            if path := next((path for path in paths if path.is_file()), None):
                found[sample.id] = path
    if not found:
        expected = ", ".join(_names(source, samples[0]))
        raise SettingsError(
            f"{str(place)!r} has no picture of {source.name}; the first is called {expected}."
        )
    return found


def score_pictures(
    store: Store,
    manifest: Manifest,
    samples: Sequence[Sample],
    pictures: Mapping[int, Path],
    judge: Judge,
    on_record: OnRecord,
) -> None:
    """Judge pictures made elsewhere, as the records of one method; a missing one is unscored.

    Raises:
        SettingsError: a picture cannot be read, or the store holds another run.
    """

    def judged(some: Sequence[Sample]) -> Iterator[Done]:
        files = {s.id: pictures[s.id].read_bytes() for s in some if s.id in pictures}
        shown = [(s, _open(pictures[s.id])) for s in some if s.id in files]
        scores = {s.id: score for (s, _), score in zip(shown, judge.scores(shown), strict=True)}
        for sample in some:
            yield _done(manifest, sample, files.get(sample.id), scores.get(sample.id))

    _keep(store, manifest, samples, judged, on_record)


def keep_scores(
    store: Store,
    manifest: Manifest,
    samples: Sequence[Sample],
    scores: Mapping[int, Score],
    pictures: Mapping[int, Path],
    on_record: OnRecord,
) -> None:
    """Keep scores that upstream's script gave, as the records of one method."""

    def given(some: Sequence[Sample]) -> Iterator[Done]:
        for sample in some:
            path = pictures.get(sample.id)
            file = path.read_bytes() if path else None
            yield _done(manifest, sample, file, scores.get(sample.id))

    _keep(store, manifest, samples, given, on_record)


def export(store: Store, source: Benchmark, folder: Path) -> list[Path]:
    """Write pictures and results as upstream's scripts expect them, a folder for each method and
    repeat.

    Raises:
        SettingsError: the benchmark is not one with an upstream script.
        OutputError: the folder cannot be written.
    """
    upstream = official(source)
    images = store.manifest().settings.images
    by_run: dict[tuple[str, int], list[Record]] = {}
    for record in store.records():
        by_run.setdefault((record.key.method, record.key.repeat), []).append(record)
    samples = {sample.id: sample for sample in source.samples()}
    written = []
    for (method, repeat), records in by_run.items():
        target = folder / method / f"seed-{repeat}"
        prepare(target / "image")
        pictures, scores = {}, {}
        for record in records:
            place = record.after(images) if images else -1
            sample, name = samples[record.key.sample], record.picture(place)
            scores[sample.id] = record.score(place)
            if name:
                pictures[sample.id] = target / "image" / upstream.picture_names(sample)[0]
                _save(store.picture(name), pictures[sample.id])
        upstream.write_results(scores, pictures, target)
        written.append(target)
    return written


def merge(stores: Sequence[Store], out: Path) -> None:
    """Put the shards of a run together.

    Raises:
        SettingsError: they are not of one run.
        OutputError: the folder cannot be written.
    """
    wholes = [unsharded(store.manifest()) for store in stores]
    with Store(out).writing(wholes[0]) as writer:
        for store, whole in zip(stores, wholes, strict=True):
            Store(out).check(whole)
            finished = writer.finished()
            for record in store.records():
                if record.key not in finished:
                    names = {step.image for step in record.steps if step.image}
                    files = {name: store.picture(name).read_bytes() for name in names}
                    writer.add(Done(record, files))


def _listed(samples: Sequence[Sample], file: Path) -> dict[int, Path]:
    try:
        paths = json.loads(file.read_text(encoding="utf-8"))
        named = {s.id: file.parent / paths[s.prompt] for s in samples if s.prompt in paths}
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"{str(file)!r} is no file of picture paths by prompt ({error})."
        ) from None
    return {number: path for number, path in named.items() if path.is_file()}


def _names(source: Benchmark, sample: Sample) -> tuple[str, ...]:
    return source.picture_names(sample) if isinstance(source, Official) else (f"{sample.id}.png",)


def _keep(
    store: Store,
    manifest: Manifest,
    samples: Sequence[Sample],
    make: Callable[[Sequence[Sample]], Iterator[Done]],
    on_record: OnRecord,
) -> None:
    (method,) = manifest.settings.methods
    with store.writing(manifest) as writer:
        for record in store.records():
            on_record(record)
        finished = writer.finished()
        left = iter([s for s in samples if Key(s.id, s.repeat, method) not in finished])
        while some := list(islice(left, TOGETHER)):
            for done in make(some):
                writer.add(done)
                on_record(done.record)


def _done(manifest: Manifest, sample: Sample, file: bytes | None, score: Score | None) -> Done:
    name = hashlib.sha256(file).hexdigest()[:32] if file else ""
    score = score or Score(None, NO_PICTURE)
    step = Step(name, 0, (), "", None, (), "", 0, Cost(images=1), score)
    key = Key(sample.id, sample.repeat, manifest.settings.methods[0])
    record = Record(key, sample.tag, sample.prompt, 0, 0, (step,))
    return Done(record, {name: file} if file else {})


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise SettingsError(f"The picture {str(path)!r} cannot be read ({error}).") from None


def _save(source: Path, target: Path) -> None:
    """Copy a picture in the format that the target's name asks for, without visible loss."""
    with Image.open(source) as image:
        image.convert("RGB").save(target, quality=95, subsampling=0)
