"""How hard each prompt is for the plain model, by the pictures of another run.

Pictures of seeds that a reported run began with are left out: a prompt whose originals happened to
be right would count as easy for that very reason, and regress to the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from npcorrect.errors import SettingsError
from npcorrect.evaluation.plugins import label
from npcorrect.evaluation.report.columns import Column, columns
from npcorrect.evaluation.run.manifest import Manifest, plain_differences
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store

PLAIN = "base"
"""The method whose pictures are plain."""
LEVELS = ("hard", "middle", "easy")
UNKNOWN = "unknown"
MOST_HARD, MOST_MIDDLE = 0.2, 0.6
"""The greatest shares of right plain pictures of a hard prompt, and of one in the middle."""
BOUNDS = (
    f"hard: at most {100 * MOST_HARD:.0f} %, middle: at most {100 * MOST_MIDDLE:.0f} %, easy: more"
)


def level(ease: float) -> str:
    """How hard a prompt is, of ``LEVELS``, by the share of its plain pictures that are right."""
    return "hard" if ease <= MOST_HARD else "middle" if ease <= MOST_MIDDLE else "easy"


@dataclass(frozen=True)
class Ease:
    """A prompt's scored plain pictures, and how many of them are right."""

    right: int
    pictures: int

    @property
    def level(self) -> str:
        """One of ``LEVELS``, or ``UNKNOWN`` where there is no picture."""
        return level(self.right / self.pictures) if self.pictures else UNKNOWN


@dataclass(frozen=True)
class Difficulty:
    """The ease of each reported prompt by its id, as the plain pictures of ``run`` say it."""

    run: str
    manifest: Manifest
    prompts: Mapping[int, Ease]

    def of(self, level: str) -> dict[int, Ease]:
        """The prompts of one level, by number, with how easy each is."""
        return {prompt: ease for prompt, ease in self.prompts.items() if ease.level == level}

    def split(self, some: Sequence[Column]) -> dict[str, tuple[Column, ...]]:
        """The methods on the prompts of each level that there is, without those that have none."""
        parts = {name: _on(some, self.of(name)) for name in (*LEVELS, UNKNOWN)}
        return {name: part for name, part in parts.items() if part}


def measure(
    name: str,
    store: Store,
    some: Sequence[Column],
    manifests: Mapping[str, Manifest],
    full: float,
    judge: str | None = None,
) -> Difficulty:
    """How hard the prompts of some methods are, by the plain pictures of the run in ``store``.

    A picture is right where its score is at least ``full``; unscored ones are left out. With
    ``judge``, the scores are those of this judge, first or further.

    Raises:
        SettingsError: the folder holds no run, or one of another benchmark, of other plain
            pictures, of none, or only of seeds that the reported runs began with.
    """
    manifest = store.manifest()
    _check(store, manifest, manifests)
    named = manifest.settings.judge
    records = _plain_records(name, store, None if named and judge == label(named) else judge)
    began = {(r.key.sample, r.key.repeat) for column in some for r in column.records}
    values: dict[int, list[float | None]] = {prompt: [] for prompt, _ in sorted(began)}
    for record in records:
        prompt = record.key.sample
        if prompt in values and (prompt, record.key.repeat) not in began:
            values[prompt].append(record.score(0).value)
    prompts = {prompt: _ease(scores, full) for prompt, scores in values.items()}
    if not any(ease.pictures for ease in prompts.values()):
        raise _nothing_known(store, drawn=sum(map(len, values.values())))
    return Difficulty(name, manifest, prompts)


def _nothing_known(store: Store, drawn: int) -> SettingsError:
    folder = str(store.folder)
    if drawn:
        return SettingsError(
            f"None of the {drawn} plain pictures in {folder!r} of other seeds than the reported "
            "runs began with has a score; continue that run, or let 'npc bench judge' score all "
            "runs and report with --judge."
        )
    return SettingsError(
        f"No reported prompt has a plain picture in {folder!r} of a seed that the reported runs "
        "did not begin with; give that run more --seeds."
    )


def _ease(scores: Sequence[float | None], full: float) -> Ease:
    scored = [score for score in scores if score is not None]
    return Ease(sum(score >= full for score in scored), len(scored))


def _check(store: Store, plain: Manifest, manifests: Mapping[str, Manifest]) -> None:
    """Refuse a run that says nothing of the reported runs' plain pictures."""
    folder, settings = str(store.folder), plain.settings
    for name, reported in manifests.items():
        if plain.prompts != reported.prompts:
            raise SettingsError(
                f"The prompts of {folder!r} ({settings.benchmark}) are not those of {name!r} "
                f"({reported.settings.benchmark}); take the difficulty from a run of the same "
                "benchmark."
            )
        different = plain_differences(plain, reported) if reported.settings.images else []
        if different:
            raise SettingsError(
                f"The plain pictures in {folder!r} are not those of {name!r}: they were drawn with "
                f"{'; '.join(different)}. Take the difficulty from a run with the same settings."
            )
    if not settings.images or PLAIN not in settings.methods:
        raise SettingsError(
            f"{folder!r} has no pictures of the method {PLAIN!r}; make them with 'npc bench run "
            f"{settings.benchmark} --methods {PLAIN} --seeds 16'."
        )


def _plain_records(name: str, store: Store, judge: str | None) -> Iterator[Record]:
    for column in columns({name: store}, judge):
        if column.method == PLAIN:
            yield from column.records


def _on(some: Sequence[Column], prompts: Mapping[int, Ease]) -> tuple[Column, ...]:
    """The methods on some prompts, without those that have none of them."""
    parts = (
        replace(column, records=tuple(r for r in column.records if r.key.sample in prompts))
        for column in some
    )
    return tuple(part for part in parts if part.records)
