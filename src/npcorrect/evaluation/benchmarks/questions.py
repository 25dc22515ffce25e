"""Benchmarks that ask yes-or-no questions about a picture.

A picture has the share of its questions that are answered as they should be. Where questions depend
on others (Davidsonian Scene Graph, arXiv 2310.18235), one counts as wrong where another that it
depends on is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from PIL.Image import Image

from npcorrect.evaluation.benchmarks import official
from npcorrect.evaluation.benchmarks.base import Judge, Place, Sample, Score
from npcorrect.evaluation.benchmarks.judge import VLMJudge
from npcorrect.evaluation.benchmarks.official_files import OfficialFile
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.base import VLM, Message, Question, Reply

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


@dataclass(frozen=True)
class YesNo:
    """Asks a model the questions under ``facts["questions"]`` of a sample, one by one."""

    cascading: bool = False

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """One question to the model for each of the sample's."""
        return tuple(
            Question((Message("user", one.text, (image,)),), choices=CHOICES, max_tokens=8)
            for one in asked_about(sample)
        )

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The share of right answers."""
        answers = [reply.text for reply in replies]
        return answered(asked_about(sample), answers, self.cascading)


def asked_about(sample: Sample) -> tuple[Asked, ...]:
    """The questions of a sample."""
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


@dataclass(frozen=True)
class QuestionBenchmark:
    """What benchmarks of questions have in common; ``folder`` has their official files."""

    folder: Path | None = None

    name: ClassVar[str]
    upstream_judge: ClassVar[str]
    files: ClassVar[tuple[OfficialFile, ...]]
    scale: ClassVar[float] = 1.0
    repeats: ClassVar[int] = 1
    grid: ClassVar[int] = 1
    cascading: ClassVar[bool] = False

    def samples(self) -> tuple[Sample, ...]:
        """All prompts in the official order; see :meth:`read_samples`."""
        return self._samples

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        return tuple(self.read_samples())

    def read_samples(self) -> Sequence[Sample]:
        """The samples, with their questions among the facts.

        Raises:
            InputError: an official file is missing, or is not the one whose checksum is known.
        """
        raise NotImplementedError

    def checksum(self) -> str:
        """That of the official files, which were verified."""
        return official.checksum(self.files)

    def checklist(self, sample: Sample) -> Checklist:
        """A requirement for each question."""
        return Checklist(sample.prompt, tuple(map(requirement, asked_about(sample))))

    def judge(self, vlm: VLM | None) -> Judge:
        """The model, asked each question alone."""
        assert vlm is not None
        return VLMJudge(YesNo(self.cascading), vlm)

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
