"""What benchmarks with official files have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from PIL.Image import Image

from npcorrect.evaluation.benchmarks import official
from npcorrect.evaluation.benchmarks.base import Judge, Sample, Score
from npcorrect.evaluation.benchmarks.judge import VLMJudge
from npcorrect.evaluation.benchmarks.official_files import OfficialFile
from npcorrect.vlm.base import VLM, Question, Reply


@dataclass(frozen=True)
class OfficialBenchmark(ABC):
    """A benchmark whose ``files`` lie in ``folder`` or in the user's cache, judged by a model."""

    folder: Path | None = None

    name: ClassVar[str]
    upstream_judge: ClassVar[str]
    files: ClassVar[tuple[OfficialFile, ...]]
    scale: ClassVar[float] = 1.0
    repeats: ClassVar[int] = 1
    grid: ClassVar[int] = 1

    def samples(self) -> tuple[Sample, ...]:
        """All prompts in the official order; see :meth:`read_samples`."""
        return self._samples

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        return tuple(self.read_samples())

    @abstractmethod
    def read_samples(self) -> Sequence[Sample]:
        """The samples, read from the files.

        Raises:
            SettingsError: an official file is missing, or is not the one whose checksum is known.
        """

    def checksum(self) -> str:
        """That of the official files, which were verified."""
        return official.checksum(self.files)

    def judge(self, vlm: VLM | None) -> Judge:
        """The model, asked what this benchmark asks."""
        assert vlm is not None
        return VLMJudge(self, vlm)

    @abstractmethod
    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """All questions to the judge about one picture."""

    @abstractmethod
    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The score that usable replies mean.

        Raises:
            ValueError: a reply says something else than it was asked.
        """
