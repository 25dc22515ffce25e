"""Scores by prompt in the form that benchmarks take them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from npcorrect.evaluation.benchmarks.base import Judged, Sample, Score


def judged(samples: Iterable[Sample], scores: Mapping[int, Sequence[Score]]) -> list[Judged]:
    """The prompts that have scores."""
    return [Judged(s.id, s.tag, tuple(scores[s.id])) for s in samples if s.id in scores]
