"""What a reader must know before any figure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from npcorrect.evaluation.report.columns import Column
from npcorrect.evaluation.report.difficulty import UNKNOWN, Difficulty
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.vlm.addresses import identity


def cautions(
    manifests: Mapping[str, Manifest],
    columns: Sequence[Column],
    judge: str | None = None,
    difficulty: Difficulty | None = None,
) -> tuple[str, ...]:
    """Sentences, shown in red, on what makes a run's figures less than they seem.

    ``judge`` is the further judge whose scores are reported, None for the runs' own.
    """
    by_difficulty = _of_difficulty(manifests, judge, difficulty) if difficulty else ()
    return (*_of_runs(manifests), *_of_methods(columns), *by_difficulty)


def _of_runs(manifests: Mapping[str, Manifest]) -> Iterator[str]:
    for name, manifest in manifests.items():
        settings = manifest.settings
        if same_model(settings.verifier, settings.judge):
            yield (
                f"In {name}, the judge is the verifier ({settings.judge}): the methods were "
                "allowed to ask the judge, so their scores are too good."
            )
    if len({manifest.code for manifest in manifests.values()}) > 1:
        yield "The runs were made with different code of this program."
    judges = {manifest.settings.judge for manifest in manifests.values()}
    if len(judges) > 1:
        yield "The runs were judged by different judges."
    weights: dict[str, set[str]] = {}
    for manifest in manifests.values():
        if manifest.weights:
            weights.setdefault(manifest.settings.load.model, set()).add(manifest.weights)
    for model, hashes in weights.items():
        if len(hashes) > 1:
            yield f"The model {model!r} had different weights in these runs, under one name."


def _of_methods(columns: Sequence[Column]) -> Iterator[str]:
    if any(column.method == "npc-oracle" for column in columns):
        yield "npc-oracle is told the benchmark's own checklist; it bounds, and competes not."
    for column in columns:
        count = sum(record.unverified for record in column.records)
        if count:
            yield (
                f"{column.label} has no verdict on {count} of {len(column.records)} samples, where "
                "it could not choose among its pictures; continue the run."
            )
    places = [{(r.key.sample, r.key.repeat) for r in column.records} for column in columns]
    if any(one != places[0] for one in places):
        shared = len(set.intersection(*places))
        yield (
            f"Not every method has every sample: all of them have {shared}. Comparisons use the "
            "samples that both methods have; the other figures do not, so compare them with care."
        )


def _of_difficulty(
    manifests: Mapping[str, Manifest], judge: str | None, measured: Difficulty
) -> Iterator[str]:
    judges = {judge or _judge(manifest) for manifest in manifests.values()}
    if judges != {judge or _judge(measured.manifest)}:
        yield f"The difficulty, from {measured.run}, is by another judge than the figures."
    if {manifest.code for manifest in manifests.values()} != {measured.manifest.code}:
        yield f"{measured.run}, which the difficulty is from, was made with other code."
    for name, manifest in manifests.items():
        if not manifest.settings.images:
            yield (
                f"The pictures of {name} were made elsewhere; nothing says that the difficulty is "
                "that of their model."
            )
    if unknown := len(measured.of(UNKNOWN)):
        yield (
            f"{unknown} of {len(measured.prompts)} prompts are of unknown difficulty: "
            f"{measured.run} has no scored plain picture of them with another seed."
        )


def _judge(manifest: Manifest) -> str:
    """A run's own judge, and in whose words it is asked."""
    return f"{manifest.settings.judge} {manifest.settings.wording}"


def same_model(first: str | None, second: str | None) -> bool:
    """Whether two names are of one model; a dated release is the model that it is a release of."""
    if first is None or second is None:
        return False
    return _undated(first) == _undated(second)


def _undated(name: str) -> str:
    return re.sub(r"-\d{4}-?\d{2}-?\d{2}$", "", identity(name))
