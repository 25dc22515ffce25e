"""A model as the judge of pictures. What it is asked, and what its answers mean, is a benchmark's.

A reply that cannot be used makes a picture *unscored*, and its raw text is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from PIL.Image import Image

from npcorrect.errors import BudgetError
from npcorrect.evaluation.benchmarks.base import Picture, Sample, Score
from npcorrect.vlm.base import VLM, Question, Reply, Usage


class Asking(Protocol):
    """What a benchmark asks its judge."""

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """All questions about one picture."""
        ...

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The score that usable replies mean.

        Raises:
            ValueError: a reply says something else than it was asked.
        """
        ...


@dataclass(frozen=True)
class VLMJudge:
    """A :class:`~npcorrect.evaluation.benchmarks.base.Judge` that asks a model."""

    asking: Asking
    vlm: VLM

    @property
    def name(self) -> str:
        """The model's name."""
        return self.vlm.name

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """The score of each picture, all of them asked for together."""
        asked = [self.asking.questions(sample, image) for sample, image in pictures]
        replies = iter(self.vlm.ask([question for of_one in asked for question in of_one]))
        return [
            self._score(sample, list(islice(replies, len(of_one))))
            for (sample, _), of_one in zip(pictures, asked, strict=True)
        ]

    def _score(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        usage = sum((reply.usage for reply in replies), Usage())
        raw = "\n".join(reply.text for reply in replies)
        for reply in replies:
            if reply.stopped:
                raise BudgetError(reply.error)
            if reply.error:
                return Score(None, reply.error, raw, usage=usage)
        try:
            return replace(self.asking.read(sample, replies), raw=raw, usage=usage)
        except ValueError as error:
            return Score(None, f"not understood: {error}", raw, usage=usage)
