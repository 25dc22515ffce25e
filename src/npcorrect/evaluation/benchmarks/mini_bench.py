"""MiniBench: the embedded world's prompts, judged by template matching."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from PIL.Image import Image

from npcorrect.evaluation.benchmarks.base import (
    Figure,
    Judge,
    Judged,
    Picture,
    Sample,
    Score,
    by_tag,
    figure,
)
from npcorrect.mini.bench import PROMPTS, load, make
from npcorrect.mini.checklist import requirements, satisfied
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import read
from npcorrect.records import Checklist
from npcorrect.vlm.base import VLM

TUNING_SEED = 7
TUNING_OFFSET = 1_000_000
"""Added to the seeds of the tuning set, so that it shares none with MiniBench."""


@dataclass(frozen=True)
class MiniBench:
    """320 prompts in eight tags; with ``tuning``, a second set that shares no prompt with them."""

    tuning: bool = False
    scale: float = 1.0
    upstream_judge: str | None = None

    @property
    def name(self) -> str:
        """``mini``, or ``mini-tuning`` for the prompts that defaults may be chosen on."""
        return "mini-tuning" if self.tuning else "mini"

    def samples(self) -> tuple[Sample, ...]:
        """All prompts, in the order of the tags."""
        return _tuning() if self.tuning else _committed()

    def checksum(self) -> str:
        """SHA-256 of the committed file, or of the tuning set as it was made."""
        if self.tuning:
            return hashlib.sha256(repr(self.samples()).encode()).hexdigest()
        return hashlib.sha256(PROMPTS.read_bytes()).hexdigest()

    def checklist(self, sample: Sample) -> Checklist:
        """What the grammar reads in the prompt."""
        return Checklist(sample.prompt, requirements(parse(sample.prompt)))

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The headline: the mean of the tags' accuracies, 0 to 1, each tag of equal weight."""
        return (figure("mean of tags", judged, group=by_tag),)

    def judge(self, vlm: VLM | None) -> Judge:
        """Template matching, whatever model is named: no method ever consults it."""
        return TemplateJudge()


@dataclass(frozen=True)
class TemplateJudge:
    """Reads a picture of the embedded world by template matching and checks every requirement."""

    name: str = "template matching"

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """1 where every requirement holds, else 0 and the requirements that do not."""
        return [_score(sample, image) for sample, image in pictures]


def _score(sample: Sample, image: Image) -> Score:
    scene, spec = read(image), parse(sample.prompt)
    named = frozenset(group.kind for group in spec.groups)
    broken = [one.text for one in requirements(spec) if not satisfied(one, scene, named)]
    return Score(float(not broken), "; ".join(broken))


@cache
def _committed() -> tuple[Sample, ...]:
    lines = enumerate(load(), 1)
    return tuple(Sample(number, line.tag, line.prompt, line.seed) for number, line in lines)


@cache
def _tuning() -> tuple[Sample, ...]:
    lines = make(TUNING_SEED, frozenset(line.prompt for line in load()))
    samples = (Sample(number, s.tag, s.prompt, s.seed) for number, s in enumerate(lines, 1))
    return tuple(replace(sample, seed=sample.seed + TUNING_OFFSET) for sample in samples)
