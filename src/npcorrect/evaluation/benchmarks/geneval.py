"""GenEval (github.com/djghosh13/geneval, arXiv 2310.11513): 553 prompts in six tasks.

Each prompt has four pictures. The official figure is the mean of the tasks' shares of right ones.
Upstream's judge is an object detector, which is run by upstream's own evaluator: export the
pictures, run it, and read its results back. A model as ``--judge`` is asked in our words, and its
figures are not the official ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import judgement
from npcorrect.evaluation.benchmarks.base import (
    SEED_STEP,
    Figure,
    Judge,
    Judged,
    Place,
    Sample,
    Score,
    Unjudged,
    by_tag,
    figure,
)
from npcorrect.evaluation.benchmarks.inclusion import checklist_text, requirements
from npcorrect.evaluation.benchmarks.official import lines, locate, read_rows
from npcorrect.evaluation.benchmarks.official_benchmark import OfficialBenchmark
from npcorrect.evaluation.benchmarks.official_files import GENEVAL
from npcorrect.files import write_text
from npcorrect.records import Checklist
from npcorrect.vlm.base import VLM, Question, Reply


class GenEval(OfficialBenchmark):
    """The benchmark; its pictures may be left to upstream's evaluator."""

    name = "geneval"
    upstream_judge = "its own evaluator, with Mask2Former ('--judge none' leaves it to that)"
    files = (GENEVAL,)
    repeats = 4
    may_be_unjudged: ClassVar[bool] = True

    def read_samples(self) -> Sequence[Sample]:
        """One sample for each line; tags are the tasks."""
        rows = enumerate(lines(locate(GENEVAL, self.folder)), 1)
        return tuple(
            Sample(n, row["tag"], row["prompt"], SEED_STEP * (n - 1), facts=row) for n, row in rows
        )

    def checklist(self, sample: Sample) -> Checklist:
        """Requirements from the line's ``include`` and ``exclude``; a count is a least one."""
        return Checklist(sample.prompt, requirements(sample.facts, exact=False))

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The official overall score: the mean of the six tasks' accuracies, 0 to 1."""
        return (figure("mean of tasks", judged, group=by_tag),)

    def judge(self, vlm: VLM | None) -> Judge:
        """The model, asked in our words; without one, every picture is left to upstream."""
        return Unjudged() if vlm is None else super().judge(vlm)

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """One question whether the picture passes, with the checklist; counts are at least."""
        checks = checklist_text(sample.facts, exact=False)
        return (judgement.question(judgement.STRICT, sample.prompt, checks, image),)

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """1 where the judge says that the picture passes, 0 where not, with its reason."""
        return judgement.read(replies[0].text)

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """A folder for each prompt, numbered from 0, and a number from 0 for each picture."""
        folder = f"{sample.id - 1:05}/samples"
        return tuple(f"{folder}/{sample.repeat:0{digits}}.png" for digits in (5, 4))

    def write_results(
        self,
        samples: Sequence[Sample],
        scores: Mapping[Place, Score],
        pictures: Mapping[Place, Path],
        folder: Path,
    ) -> None:
        """The line of each prompt beside its pictures, which upstream's evaluator needs."""
        for sample in samples:
            if (sample.id, sample.repeat) in pictures:
                target = folder / f"{sample.id - 1:05}" / "metadata.jsonl"
                write_text(target, json.dumps(dict(sample.facts)))

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores in the evaluator's ``results.jsonl``.

        Raises:
            SettingsError: it does not fit.
        """
        rows = read_rows(path, ("filename", "correct", "reason"))
        return dict(_read_back(path, row) for row in rows)


def _read_back(path: Path, row: Mapping[str, Any]) -> tuple[Place, Score]:
    file = Path(str(row["filename"]))
    folder, name = file.parent.parent.name, file.stem
    if not (folder.isdecimal() and name.isdecimal() and row["correct"] in (0, 1)):
        raise SettingsError(f"{str(path)!r} has a row for {str(file)!r}, which is no picture.")
    return (int(folder) + 1, int(name)), Score(float(row["correct"]), str(row["reason"]))
