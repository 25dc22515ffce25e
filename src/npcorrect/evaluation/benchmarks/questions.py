"""Benchmarks that ask yes-or-no questions about a picture.

A picture has the share of its questions that are answered as they should be. Where questions depend
on others (Davidsonian Scene Graph, arXiv 2310.18235), one counts as wrong where another that it
depends on is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL.Image import Image

from npcorrect.evaluation.benchmarks.base import Place, Sample, Score
from npcorrect.evaluation.benchmarks.official_benchmark import OfficialBenchmark
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.base import Message, Question, Reply

CHOICES = ("yes", "no")


@dataclass(frozen=True)
class Asked:
    """One question, its right answer, and the questions that it depends on, by their ids."""

    id: int
    text: str
    answer: str = "yes"
    parents: tuple[int, ...] = ()
    kind: str = ""

    @property
    def label(self) -> str:
        """What the question is called among the parts of a score."""
        return f"{self.kind}: {self.text}" if self.kind else self.text


def yes_or_no(sample: Sample, image: Image) -> tuple[Question, ...]:
    """A question to the model for each of those under ``facts["questions"]`` of a sample."""
    return tuple(
        Question((Message("user", one.text, (image,)),), choices=CHOICES, max_tokens=8)
        for one in asked_about(sample)
    )


def share_right(sample: Sample, replies: Sequence[Reply], cascading: bool = False) -> Score:
    """The score that replies to :func:`yes_or_no` mean."""
    return answered(asked_about(sample), [reply.text for reply in replies], cascading)


def asked_about(sample: Sample) -> tuple[Asked, ...]:
    """A sample's questions with their answers and parents, as the official file orders them."""
    return tuple(sample.facts["questions"])


def answered(questions: Sequence[Asked], answers: Sequence[str], cascading: bool = False) -> Score:
    """The score that answers mean; its parts are the answers alone, 1 for a right one.

    With ``cascading``, a question that counts as wrong for another's sake does so for those that
    come after it and depend on it.
    """
    right = {
        one.id: float(answer.strip().casefold() == one.answer)
        for one, answer in zip(questions, answers, strict=True)
    }
    kept = dict(right)
    parents: Mapping[int, float] = kept if cascading else right
    for one in questions:
        if any(parents.get(parent) == 0 for parent in one.parents):
            kept[one.id] = 0.0
    wrong = [f"{one.text} {one.answer}" for one in questions if not kept[one.id]]
    parts = tuple((one.label, right[one.id]) for one in questions)
    return Score(sum(kept.values()) / len(kept), "; ".join(wrong), parts=parts)


class QuestionBenchmark(OfficialBenchmark):
    """A benchmark whose samples have their questions among the facts."""

    cascading: ClassVar[bool] = False

    def checklist(self, sample: Sample) -> Checklist:
        """A requirement for each official question, which depends on its parents'."""
        return Checklist(sample.prompt, tuple(map(requirement, asked_about(sample))))

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """One question to the model for each of the sample's."""
        return yes_or_no(sample, image)

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The share of right answers; with ``cascading`` a question falls with its parent."""
        return share_right(sample, replies, self.cascading)

    def write_results(
        self,
        samples: Sequence[Sample],
        scores: Mapping[Place, Score],
        pictures: Mapping[Place, Path],
        folder: Path,
    ) -> None:
        """Nothing: upstream's script needs the pictures alone."""


def requirement(one: Asked) -> Requirement:
    """The claim that a question is answered as it should be."""
    parents = tuple(f"r{parent}" for parent in one.parents if parent)
    text = f"{one.text} {one.answer}"
    return Requirement(f"r{one.id}", "scene", text, "", one.answer, depends_on=parents)
